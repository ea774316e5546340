"""Runs that differ in the seed alone, as one series: mean, standard deviation and confidence interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from scripts.reporting.draws import value_of
from scripts.reporting.records import Run, UnusableRecord, difference, setting
from scripts.reporting.style import OPTIMIZERS

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A value over seeds: `std` is the sample's, `low` and `high` the 95 % interval of the mean (Student's t).

    The three are None of a single seed, which has no deviation; `mean` is nan where a seed's value was not finite.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    seeds: int
    diverged: int = 0  # of the seeds

    def text(self, mean: str = ".4g", std: str = ".2g") -> str:
        """Return "mean ± std" in these formats, the mean alone of a single seed; or that runs diverged."""
        if self.diverged:
            return "diverged" + (f" ({self.diverged} of {self.seeds})" if self.seeds > 1 else "")
        if not math.isfinite(self.mean):
            return "not finite"
        return f"{self.mean:{mean}}" + ("" if self.std is None else f" ± {self.std:{std}}")


def spread(values: Iterable[float | None]) -> Spread:
    """Return the spread of one value per seed; None is one that was not finite."""
    found = np.array([math.nan if value is None else value for value in values], dtype=float)
    mean, count = float(found.mean()), found.size
    if count < 2 or not math.isfinite(mean):
        return Spread(mean, None, None, None, count)
    std = float(found.std(ddof=1))
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(count)
    return Spread(mean, std, mean - half, mean + half, count)


@dataclass(frozen=True)
class Series:
    """The runs of one setting, and the `values` of its configuration that tell it from the others."""

    values: tuple[Any, ...]
    runs: list[Run]

    @property
    def seeds(self) -> int:
        return len(self.runs)

    @property
    def diverged(self) -> int:
        """Return how many of the runs diverged."""
        return sum(run.diverged for run in self.runs)

    def not_finite(self, metric: str) -> bool:
        """Return whether a run ended with this metric not finite."""
        return any(_ended_not_finite(run, metric) for run in self.runs)

    def curve(self, column: str, over: str = "epoch") -> pd.DataFrame:
        """Return mean, std, low, high (nan of one seed) and seeds of a column of history.csv, by epoch or step.

        A cell in which the metric was not measured is left out, and nothing is interpolated; of several rows of one
        epoch the last counts. Where one of the runs has diverged, or ended with a metric that was not finite, the mean
        ends, as the others alone would be another one. Raises UnusableRecord for a column that was not recorded.
        """
        measured, end = {}, math.inf
        for index, run in enumerate(self.runs):
            if run.history is None:  # it diverged before its first row
                end = -math.inf
                continue
            cells = run.columns(over, column).dropna().drop_duplicates(over, keep="last")
            measured[index] = cells.set_index(over)[column]
            if run.diverged or _ended_not_finite(run, column):
                end = min(end, cells[over].max() if len(cells) else -math.inf)
        rows = pd.DataFrame(measured).sort_index()
        rows = rows[rows.index <= end]
        spreads = [spread(row.dropna()) for _, row in rows.iterrows()]
        columns = ["mean", "std", "low", "high", "seeds"]
        values = {name: [getattr(one, name) for one in spreads] for name in columns}
        return pd.DataFrame(values, index=rows.index).astype(dict.fromkeys(columns[:-1], float))

    def final(self, metric: str) -> Spread:
        """Return the spread of a final metric of summary.json, not finite where a run diverged.

        Raises UnusableRecord for a metric that was not recorded.
        """
        ended = [run for run in self.runs if not run.diverged]
        for run in ended:
            run.check_recorded([metric], run.summary["final"])
        found = spread([*(run.summary["final"][metric] for run in ended), *[None] * self.diverged])
        return replace(found, diverged=self.diverged)

    def after(self, metric: str, epoch: int) -> Spread:
        """Return the spread of a metric as it was measured after an epoch, not finite where a run diverged.

        Raises UnusableRecord where it was not recorded, or not measured then.
        """
        ended = [run for run in self.runs if not run.diverged]
        values = [_measured(run, metric, epoch) for run in ended]
        return replace(spread([*values, *[None] * self.diverged]), diverged=self.diverged)


def series(runs: Sequence[Run], by: Sequence[str] = ("optim.name",)) -> list[Series]:
    """Group runs by values of their configuration, in the order of these values: optimizers as in the paper.

    Raises ValueError where the runs of a group differ in more than the seed, which no mean may hide.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(value_of(run.config, key) for key in by), []).append(run)
    ordered = sorted(groups.items(), key=lambda group: [_order(value) for value in group[0]])
    for values, group in ordered:
        _check_one_setting(values, group)
    return [Series(values, group) for values, group in ordered]


def final_table(groups: Sequence[Series], metrics: dict[str, str], label: Sequence[str]) -> pd.DataFrame:
    """Return mean and one standard deviation of the final metrics: one row per series, one column per metric."""
    rows = [
        {**{name: group.final(metric).text() for metric, name in metrics.items()}, "seeds": group.seeds}
        for group in groups
    ]
    return pd.DataFrame(rows, index=list(label))


def _ended_not_finite(run: Run, metric: str) -> bool:
    return run.summary["final"].get(metric, 0.0) is None


def is_recorded(groups: Sequence[Series], column: str) -> bool:
    """Return whether a run has a column of history.csv, or none has rows: what lacks it beside one is left out."""
    histories = [run.history for group in groups for run in group.runs if run.history is not None]
    return not histories or any(column in history for history in histories)


def _order(value: Any) -> tuple[Any, ...]:
    """Return a key by which values sort: none, numbers, optimizers in the paper's order, other text."""
    if value is None:
        return (0, 0, "")
    if isinstance(value, int | float):
        return (1, value, "")
    known = value in OPTIMIZERS
    return (2, OPTIMIZERS.index(value) if known else len(OPTIMIZERS), str(value))


def _measured(run: Run, metric: str, epoch: int) -> float:
    """Return what the last row of an epoch in history.csv has of a metric."""
    rows = run.columns("epoch", metric)
    cells = rows.loc[rows["epoch"] == epoch, metric].dropna()
    if cells.empty:
        raise UnusableRecord(f"{metric} was not measured after epoch {epoch} in {run.folder}", run.folder)
    return float(cells.iloc[-1])


def _check_one_setting(values: tuple[Any, ...], runs: Sequence[Run]) -> None:
    first = runs[0]
    for other in runs[1:]:
        if setting(other.config) != setting(first.config):
            name = ", ".join(str(value) for value in values)
            raise ValueError(
                f"several configurations of {name} ({difference(first, other)}); move the folders of all but one away"
            )
