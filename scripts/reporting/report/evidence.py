"""What has been recorded of an experiment, scale by scale: settings with their runs, those that were not run too."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.engine.errors import one_line
from experiments.engine.experiment import settings
from scripts.reporting.draws import Draws
from scripts.reporting.loading import recorded
from scripts.reporting.records import Run
from scripts.reporting.series import Series, Spread, spread

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
    """A setting that an experiment asks for, by its resolved configuration, and its runs, if any."""

    label: str
    values: Mapping[str, Any]
    series: Series | None


class Evidence:
    """The recorded runs below some folders, each experiment's read once."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = list(roots)
        self.mistakes: list[str] = []  # what is wrong with the records that are left out
        self.runs = functools.cache(self._runs)

    def _runs(self, experiment: str) -> dict[Place, list[Run]]:
        """Return the finished runs of an experiment at each scale and precision, the preferred first.

        A record that is damaged, of another schema, of other values than today's or there twice is left out and told.
        """
        with contextlib.redirect_stdout(io.StringIO()):  # its notes are for who draws a figure
            found = recorded((Draws(experiment),), self.roots, every_seed=True)
        self.mistakes += [one_line(mistake) for one in found for mistake in one.mistakes]
        return {Place(one.scale, one.precision): one.runs for one in found if one.scale != TRIAL and one.runs}

    def places(self, *experiments: str) -> list[Place]:
        """Return where any of the experiments has runs, the preferred first."""
        return list(dict.fromkeys(place for experiment in experiments for place in self.runs(experiment)))

    def candidates(self, draws: Draws, place: Place) -> list[Candidate]:
        """Return each setting that is asked for at a scale and in a precision, with the runs that are there."""
        by_name: dict[str, list[Run]] = {}
        for run in self.runs(draws.experiment).get(place, []):
            by_name.setdefault(run.folder.parent.name, []).append(run)
        wanted = [
            found.at(place.precision)
            for found in settings(draws.experiment, [f"scale={place.scale}"])
            if draws.accepts(found.values)
        ]
        return [
            Candidate(
                found.name.partition("@")[0],
                found.values,
                Series((), by_name[found.name]) if found.name in by_name else None,
            )
            for found in wanted
        ]


def measured(series: Series, metric: str, part: float = 1) -> Spread:
    """Return a metric after a part of the runs, or at their end, over seeds.

    After a part means the first evaluation that measured it then or later. Raises ValueError where none did.
    """
    if part >= 1:
        return series.final(metric)
    values = [None if run.diverged else _after(run, metric, part) for run in series.runs]
    found = spread(values)
    return found if not series.diverged else Spread(found.mean, None, None, None, found.seeds, series.diverged)


def _after(run: Run, metric: str, part: float) -> float:
    if run.history is None or metric not in run.history:
        raise ValueError(f"{metric} was not recorded in {run.folder}")
    cells = run.history[["step", metric]].dropna()
    # A thousandth less: parts are written with four digits.
    behind = cells[cells["step"] >= part * run.summary["steps"] * (1 - 1e-3)]
    if behind.empty:
        raise ValueError(f"{metric} was not measured after {part:.0%} of {run.folder}")
    return float(behind[metric].iloc[0])
