"""Figure 10: accuracy and loss of fast and slow weights after every update of some inner loops."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.reporting.captions import caption, titled
from scripts.reporting.cifar import what_was_trained
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run
from scripts.reporting.style import COLORS, TASKS, blank

DRAWS = (Draws("inner_and_outer_loop"),)
ROWS = {
    "val/accuracy": "test accuracy (%)",
    "train_sample/accuracy": "training accuracy (%)",
    "train_sample/loss": "training loss",
}
FAST, SLOW = COLORS["sgd"], COLORS["la_sgd"]


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return one column of panels per k and alpha, and what an inner loop and a synchronization change on average."""
    runs = sorted(runs, key=lambda run: (run.config.optim.k, run.config.seed))
    figure = blank(4.8 * len(runs), 7)
    panels = figure.subplots(len(ROWS), len(runs), sharex="col", squeeze=False)
    changes = []
    for column, run in enumerate(runs):
        table = run.table("every_update")
        name = f"k = {run.config.optim.k}, α = {run.config.optim.alpha:g}"
        for row, metric in enumerate(ROWS):
            _draw(panels[row][column], table, metric)
        panels[0][column].set_title(name, fontsize=9)
        panels[-1][column].set_xlabel("updates of the fast weights")
        changes.append({"k and α": name, **changes_of(table, "val/accuracy")})
    panels[0][0].legend(fontsize=8)
    figure.suptitle(titled(f"Figure 10, {TASKS[runs[0].config.task.name]}", runs), fontsize=10)
    epoch = int(runs[0].config.probe.start) + 1
    told = f"After every update from epoch {epoch} on; after a synchronization (dots) both weights are the same."
    caption(figure, f"{what_was_trained(runs[0])}.", told, "Batch-norm statistics are the fast weights'.", runs=runs)
    return {"fig10_inner_and_outer_loop": (figure, pd.DataFrame(changes))}


def _draw(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    axes.plot(table["update"], table[f"fast/{metric}"], color=FAST, linewidth=1, label="fast weights")
    axes.plot(table["update"], table[f"slow/{metric}"], color=SLOW, drawstyle="steps-post", label="slow weights")
    after = table[table["synchronized"]]
    axes.plot(after["update"], after[f"slow/{metric}"], "o", color=SLOW, markersize=4, label="synchronization")
    axes.set_ylabel(ROWS[metric])
    axes.grid(alpha=0.3)


def changes_of(table: pd.DataFrame, metric: str) -> dict[str, float]:
    """Return what a whole inner loop changes before its synchronization, and what the synchronization itself does.

    Both are means over the loops that the table holds whole; the fast weights just before a synchronization are those
    of the update before.
    """
    fast = table[f"fast/{metric}"].to_numpy()
    ends = [number for number in table.index[table["synchronized"]] if number > 0]
    loops = list(itertools.pairwise(ends))
    inner = [fast[end - 1] - fast[start] for start, end in loops]
    outer = [fast[end] - fast[end - 1] for _, end in loops]
    count = max(len(loops), 1)
    return {"inner loop": sum(inner) / count, "synchronization": sum(outer) / count, "loops": len(loops)}
