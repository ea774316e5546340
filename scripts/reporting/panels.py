"""The panels of a figure as the paper has them, and how one is drawn of which nothing has been run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.reporting.headers import header
from scripts.reporting.style import blank

NOT_RUN, NOT_MEASURED = "not run", "not measured"
SIZE = 4.2, 2.8  # inches of an empty panel
CHARACTERS = 50  # that fit beside each other in one


@dataclass(frozen=True)
class Panel:
    """A panel's title, the names of its axes, and the experiment that it is of, where that is not the figure's first.

    The title is what the figure itself has above the panel, empty where it has only one.
    """

    title: str
    x: str
    y: str
    experiment: str | None = None


def draw_not_run(axes: Axes, panel: Panel, experiment: str, reason: str = NOT_RUN) -> None:
    """Draw a panel without data: the reason, and the command and the cost of the experiment that would fill it."""
    its = header(panel.experiment or experiment)
    axes.set_title(panel.title, fontsize=9)
    axes.set(xlabel=panel.x, ylabel=panel.y, xticks=[], yticks=[], facecolor="0.97")
    lines = [
        line
        for text in (its.command, f"Cost: {its.cost}")
        for line in (*textwrap.wrap(text, CHARACTERS, break_on_hyphens=False), "")
    ]
    words = {"transform": axes.transAxes, "horizontalalignment": "center", "color": "0.3"}
    axes.text(0.5, 0.8, reason, fontsize=14, **words)
    axes.text(0.5, 0.72, "\n".join(lines), fontsize=7, verticalalignment="top", **words)


def not_run(module: ModuleType) -> Figure:
    """Return the figure of a module of which nothing has been run: its panels, all of them empty."""
    panels: Sequence[Panel] = module.PANELS
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = blank(max(SIZE[0] * columns, 6), SIZE[1] * rows + 0.6)
    for axes, panel in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=True):
        draw_not_run(axes, panel, module.DRAWS[0].experiment)
    title = (module.__doc__ or "").splitlines()[0].removesuffix(".")
    figure.suptitle(textwrap.fill(title, int(figure.get_figwidth() * 13)), fontsize=10)
    figure.supxlabel("Nothing of this has been run yet.", fontsize=7, x=0.01, horizontalalignment="left")
    return figure
