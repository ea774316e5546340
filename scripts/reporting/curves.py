"""Curves of a metric over epochs or steps: the mean over seeds and a band of one standard deviation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from scripts.reporting.series import Series
from scripts.reporting.style import COLORS, LABELS

AXES = {"epoch": "epoch", "step": "updates"}
DECADE = 10  # a metric that falls by more is drawn on a logarithmic scale


@dataclass(frozen=True)
class Look:
    """What the legend calls a curve, its colour and its line."""

    label: str
    color: str | tuple[float, ...] | None = None
    line: str = "-"


def by_optimizer(group: Series) -> Look:
    """Return the look of a series whose first value is its optimizer."""
    name = group.values[0]
    return Look(LABELS.get(name, name), COLORS.get(name))


def draw_curves(
    axes: Axes,
    groups: Sequence[Series],
    column: str,
    over: str = "epoch",
    look: Callable[[Series], Look] = by_optimizer,
) -> None:
    """Draw a column of history.csv, one curve per series; a single seed has no band."""
    for group in groups:
        its = look(group)
        draw_curve(axes, group, column, over, label=its.label, color=its.color, linestyle=its.line)


def draw_curve(axes: Axes, group: Series, column: str, over: str = "epoch", **line: Any) -> None:
    """Draw a column of history.csv as one curve, with its label, color and what else a `line` has.

    A curve that ends because runs diverged, or were not finite, says so in its label.
    """
    curve = group.curve(column, over)
    if group.diverged or group.not_finite(column):
        line["label"] = f"{line.get('label', '')}, {group.final(column).text()}"
    axes.plot(curve.index, curve["mean"], **line)
    if group.seeds > 1:
        low, high = curve["mean"] - curve["std"], curve["mean"] + curve["std"]
        axes.fill_between(curve.index, low, high, alpha=0.2, color=line.get("color"), linewidth=0)
    axes.set_xlabel(AXES.get(over, over))
    axes.grid(alpha=0.3)


def draw_falling(
    axes: Axes,
    groups: Sequence[Series],
    column: str,
    name: str,
    look: Callable[[Series], Look] = by_optimizer,
    beside: Sequence[Series] = (),
    over: str = "epoch",
) -> None:
    """Draw a loss or perplexity over epochs or steps; `beside` is in panels that share the scale of the axis."""
    draw_curves(axes, groups, column, over, look)
    runs = [run for group in (*groups, *beside) for run in group.runs if run.history is not None]
    values = [value for run in runs for value in run.columns(column)[column].dropna()]
    axes.set(ylabel=name, yscale="log" if values and max(values) > DECADE * min(values) else "linear")
