"""What has been recorded of an experiment, scale by scale: settings with their runs, those that were not run too."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.engine.errors import one_line
from experiments.engine.experiment import settings
from scripts.reporting.draws import Draws
from scripts.reporting.loading import recorded
from scripts.reporting.modules import REPOSITORY
from scripts.reporting.records import Run
from scripts.reporting.series import Series, Spread, spread
from scripts.reporting.swa import unaveraged

# Of a run that averages: the weights that it trains, with their training loss in history.csv, or an evaluation of them.
TRAINED, UNAVERAGED = "trained", "unaveraged"
TRIAL = "smoke"  # the scale of which nothing is a result


@dataclass(frozen=True)
class Place:
    """Where a result was reached: at a scale, in a precision."""

    scale: str
    precision: str

    @property
    def text(self) -> str:
        return self.scale + (f", {self.precision}" if self.precision != "fp32" else "")


PAPER = Place("paper", "fp32")


@dataclass(frozen=True)
class Candidate:
    """A setting that an experiment asks for: its folder's name, its resolved configuration, and its runs, if any.

    `unreadable` are those of its records that are left out, as `<name>/seed-<n>`. `weights` are those that its metrics
    are of where a run averages: the average by default, else TRAINED or UNAVERAGED.
    """

    name: str
    values: Mapping[str, Any]
    series: Series | None
    unreadable: Sequence[str] = ()
    weights: str = ""


class Evidence:
    """The recorded runs below some folders, each experiment's read once."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = list(roots)
        self.mistakes: list[str] = []  # what is wrong with the records that are left out
        self._records = functools.cache(self._read)

    def _read(self, experiment: str) -> dict[Place, tuple[list[Run], list[str]]]:
        with contextlib.redirect_stdout(io.StringIO()):  # its notes are for who draws a figure
            found = recorded((Draws(experiment),), self.roots, every_seed=True)
        self.mistakes += [said_of(mistake) for one in found for mistake in one.mistakes]
        return {
            Place(one.scale, one.precision): (one.runs, [said_of(mistake) for mistake in one.mistakes])
            for one in found
            if one.scale != TRIAL
        }

    def runs(self, experiment: str) -> dict[Place, list[Run]]:
        """Return the finished runs of an experiment at each scale and precision that has any, the preferred first.

        A record that is damaged, of another schema, of other values than today's or there twice is left out and told.
        """
        return {place: runs for place, (runs, _) in self._records(experiment).items() if runs}

    def unreadable(self, *experiments: str) -> list[str]:
        """Return what is wrong with the records of experiments that are left out."""
        records = [self._records(experiment) for experiment in experiments]
        return list(dict.fromkeys(text for each in records for _, texts in each.values() for text in texts))

    def places(self, *experiments: str) -> list[Place]:
        """Return where any of the experiments has records, readable or not, the preferred first."""
        return list(dict.fromkeys(place for experiment in experiments for place in self._records(experiment)))

    def candidates(self, draws: Draws, place: Place, weights: str = "") -> list[Candidate]:
        """Return each setting that is asked for at a scale and in a precision, with the runs that are there."""
        runs, mistakes = self._records(draws.experiment).get(place, ([], []))
        by_name: dict[str, list[Run]] = {}
        for run in runs:
            by_name.setdefault(run.folder.parent.name, []).append(run)
        wanted = [
            found.at(place.precision)
            for found in settings(draws.experiment, [f"scale={place.scale}"])
            if draws.accepts(found.values)
        ]
        return [
            Candidate(
                found.name,
                found.values,
                _series(by_name[found.name], weights) if found.name in by_name else None,
                _records_of(found.name, mistakes),
                weights,
            )
            for found in wanted
        ]


def _records_of(name: str, mistakes: Sequence[str]) -> list[str]:
    """Return the records of a setting that these mistakes begin with."""
    matches = [re.search(rf"/({re.escape(name)}/seed-\d+)", text) for text in mistakes]
    return list(dict.fromkeys(match[1] for match in matches if match))


def said_of(mistake: Exception) -> str:
    """Return in one line what is wrong; the folder of this repository, which differs between machines, is left out."""
    return one_line(mistake).replace(f"{REPOSITORY}/", "")


def _series(runs: list[Run], weights: str) -> Series:
    """Return runs as one series, with the metrics of these weights where none has diverged."""
    found = Series((), runs)
    return unaveraged(found) if weights == UNAVERAGED and not found.diverged else found


def measured(series: Series, metric: str, part: float = 1) -> Spread:
    """Return a metric after a part of the runs, or at their end, over seeds.

    After a part means the first evaluation that measured it then or later. Raises ValueError where none did.
    """
    if part >= 1:
        return series.final(metric)
    return _over_seeds(series, lambda run: _after(run, metric, part))


def until_best(series: Series, metric: str, within: float) -> Spread:
    """Return after how many percent of the runs a metric, of which less is better, came near its best, over seeds.

    Near is less than the share `within` above the least value of the run. Raises ValueError where it was not recorded.
    """
    return _over_seeds(series, lambda run: _until_best(run, metric, within))


def _over_seeds(series: Series, value: Callable[[Run], float]) -> Spread:
    found = spread(None if run.diverged else value(run) for run in series.runs)
    return found if not series.diverged else Spread(found.mean, None, None, None, found.seeds, series.diverged)


def _cells(run: Run, metric: str) -> pd.DataFrame:
    """Return the updates at which a metric was measured, and its values."""
    if run.history is None or metric not in run.history:
        raise ValueError(f"{metric} was not recorded in {run.folder}")
    return run.history[["step", metric]].dropna()


def _until_best(run: Run, metric: str, within: float) -> float:
    cells = _cells(run, metric)
    near = cells[cells[metric] <= (1 + within) * cells[metric].min()]
    return 100 * float(near["step"].iloc[0]) / run.summary["steps"]


def _after(run: Run, metric: str, part: float) -> float:
    cells = _cells(run, metric)
    # A thousandth less: parts are written with four digits.
    behind = cells[cells["step"] >= part * run.summary["steps"] * (1 - 1e-3)]
    if behind.empty:
        raise ValueError(f"{metric} was not measured after {part:.0%} of {run.folder}")
    return float(behind[metric].iloc[0])
