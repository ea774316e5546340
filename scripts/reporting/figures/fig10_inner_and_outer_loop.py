"""Figure 10: accuracy and loss of fast and slow weights after every update of some inner loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.reporting.captions import caption, titled
from scripts.reporting.draws import Draws
from scripts.reporting.panels import Panel
from scripts.reporting.records import Run, ended_well
from scripts.reporting.style import COLORS, TASKS, blank, legend
from scripts.reporting.trained import images_of, what_was_trained

DRAWS = (Draws("inner_and_outer_loop"),)
ROWS = {
    "val/accuracy": "test accuracy (%)",
    "train_sample/accuracy": "training accuracy (%)",
    "train_sample/loss": "training loss",
}
UPDATES = "updates of the fast weights"
PANELS = tuple(Panel("", UPDATES, name) for name in ROWS.values())  # of the paper the first alone
_COLUMNS = [f"{which}/{metric}" for which in ("fast", "slow") for metric in ROWS]
PAPERS_EPOCH = 65
FAST, SLOW = COLORS["sgd"], COLORS["la_sgd"]


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return one column of panels per k and alpha, and what an inner loop and a synchronization change on average."""
    runs = sorted(ended_well(runs), key=lambda run: (run.config.optim.k, run.config.seed))
    figure = blank(4.8 * len(runs), 7.4)
    panels = figure.subplots(len(ROWS), len(runs), sharex="col", squeeze=False)
    changes = []
    for column, run in enumerate(runs):
        table = run.table("every_update", "update", "synchronized", *_COLUMNS)
        name = f"k = {run.config.optim.k}, α = {run.config.optim.alpha:g}"
        name += f", seed {run.config.seed}" if len({run.config.seed for run in runs}) > 1 else ""
        for row, metric in enumerate(ROWS):
            _draw(panels[row][column], table, metric)
        panels[0][column].set_title(name, fontsize=9)
        panels[-1][column].set_xlabel(UPDATES)
        changes.append({"k and α": name, **changes_of(table, "val/accuracy")})
    for axes in panels[-1]:
        legend(axes, below=True, ncols=3)
    figure.suptitle(titled(f"Figure 10, {TASKS[runs[0].config.task.name]}", runs), fontsize=10)
    first, epochs = runs[0], PAPERS_EPOCH
    epoch = int(first.config.probe.start) + 1
    sample = min(first.config.task.train_sample, images_of(first))
    told = [
        f"{what_was_trained(first)}.",
        f"After every update from epoch {epoch} on" + (f" (paper: {epochs})." if epoch != epochs else "."),
        "A dot is a synchronization, where the fast weights go on from the slow ones.",
        "Batch-norm statistics are the fast weights'.",
        f"Training: the first {sample:,} images, without augmentation.",
    ]
    caption(figure, *told, runs=runs)
    return {"fig10_inner_and_outer_loop": (figure, pd.DataFrame(changes))}


def _draw(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    fast, slow = table[["update", f"fast/{metric}"]], table[["update", f"slow/{metric}"]]
    after = slow[table["synchronized"]]
    # Two points at a synchronization: where the inner loop ended, and where the next one begins.
    path = np.concatenate([fast.to_numpy(), after.to_numpy()])
    path = path[np.argsort(path[:, 0], kind="stable")]
    axes.plot(*path.T, color=FAST, linewidth=1, label="fast weights")
    axes.plot(*slow.to_numpy().T, color=SLOW, drawstyle="steps-post", label="slow weights")
    axes.plot(*after.to_numpy().T, "o", color=SLOW, markersize=4, label="synchronization")
    axes.set_ylabel(ROWS[metric])
    axes.grid(alpha=0.3)


def changes_of(table: pd.DataFrame, metric: str) -> dict[str, float]:
    """Return what an inner loop of k updates changes, and what the synchronization after it does.

    Both are means over the loops that the table holds whole, from one synchronization to the next; nan without one.
    """
    fast, slow = (table[f"{which}/{metric}"].to_numpy() for which in ("fast", "slow"))
    loops = list(itertools.pairwise(np.flatnonzero(table["synchronized"])))
    inner = [fast[end] - slow[start] for start, end in loops]
    outer = [slow[end] - fast[end] for _, end in loops]
    means = {"inner loop": inner, "synchronization": outer}
    return {name: float(np.mean(each)) if each else math.nan for name, each in means.items()} | {"loops": len(loops)}
