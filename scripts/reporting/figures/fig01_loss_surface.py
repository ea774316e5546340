"""Figure 1: one inner loop of Lookahead, and SGD from the same weights, on the plane's test accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from scripts.reporting.captions import caption, titled
from scripts.reporting.draws import Draws, value_of
from scripts.reporting.panels import Panel
from scripts.reporting.records import Run, ended_well
from scripts.reporting.style import COLORS, TASKS, blank, legend
from scripts.reporting.trained import network_name

DRAWS = (Draws("loss_surface"),)
X, Y = "distance towards the last fast weights", "distance towards the middle ones"
PANELS = (Panel("", X, Y),)
NETWORK, EPOCHS, START = "ResNet-32", 200, 100  # the paper's; the schedule's epochs are Section 5.1's
SURFACE = "YlOrBr_r"  # light where the accuracy is best, so that the paths stand out near it
ON_PLANE = 1e-3  # of the picture's longer side: nobody sees a smaller distance
# The paper draws the fast weights blue and dashed, the slow ones purple.
PATHS = {
    "sgd": {"label": "SGD", "color": "black", "linestyle": "-", "linewidth": 1.0, "markersize": 3.5},
    "fast": {"label": "fast weights", "color": COLORS["sgd"], "linestyle": "--", "linewidth": 1.4, "markersize": 5},
    "slow": {"label": "slow weights", "color": COLORS["la_sgd"], "linestyle": "-", "linewidth": 2.2, "markersize": 7},
}

OF_PATHS = [f"{path}{end}" for path in PATHS for end in ("", "_distance", "_accuracy", "_loss")]
ARRAYS = ("x", "y", "accuracy", "k", "step", *OF_PATHS)


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return the plane with its three paths, one panel per seed, and what the ends of the paths reach."""
    runs = ended_well(runs)
    found = [run.arrays("loss_surface", *ARRAYS) for run in runs]
    figure = blank(7.2 * len(runs), 6)
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    for axes, run, arrays in zip(panels, runs, found, strict=True):
        filled = draw_plane(axes, arrays)
        figure.colorbar(filled, ax=axes, label="test accuracy (%)")
        if len(runs) > 1:
            axes.set_title(f"seed {run.summary['seed']}", fontsize=10)
    legend(panels[0], below=True, ncols=len(PATHS) + 1)
    figure.suptitle(titled(f"Figure 1, {TASKS[runs[0].config.task.name]}", runs), fontsize=10)
    caption(figure, *_sentences(runs[0], found[0]), runs=runs)
    seeds = [run.summary["seed"] for run in runs]
    table = pd.concat([ends_of_paths(arrays) for arrays in found], keys=seeds, names=["seed", "weights"])
    return {"fig01_loss_surface": (figure, table if len(runs) > 1 else table.droplevel("seed"))}


def draw_plane(axes: Axes, arrays: Mapping[str, np.ndarray]) -> QuadContourSet:
    """Draw filled contours of the accuracy and the paths; points beside the plane are hollow."""
    x, y = arrays["x"], arrays["y"]
    accuracy = arrays["accuracy"]
    # Where it is the same everywhere, as in a trial of the code, there would be no levels.
    levels = 16 if np.ptp(accuracy) > 0 else accuracy.mean() + np.array([-0.5, 0.5])
    filled = axes.contourf(x, y, accuracy, levels=levels, cmap=SURFACE)
    near = ON_PLANE * max(np.ptp(x), np.ptp(y))
    for order, (name, look) in enumerate(PATHS.items(), start=2):
        path, inside = arrays[name], arrays[f"{name}_distance"] <= near
        line = {key: look[key] for key in ("label", "color", "linestyle", "linewidth")}
        axes.plot(*path.T, **line, zorder=order)
        for chosen, face in ((inside, look["color"]), (~inside, "white")):
            marks = {"marker": "o", "linestyle": "none", "color": look["color"], "markersize": look["markersize"]}
            axes.plot(*path[chosen].T, **marks, markerfacecolor=face, zorder=order)
    axes.plot(*arrays["fast"][0], marker="*", markersize=15, linestyle="none", color="white", zorder=order + 1)
    axes.lines[-1].set(label="start", markeredgecolor="black")
    axes.set(xlabel=X, ylabel=Y, aspect="equal")
    return filled


def ends_of_paths(arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return accuracy and loss of the weights themselves where the paths begin and end, and how far they are beside."""
    k, updates = int(arrays["k"]), len(arrays["sgd"]) - 1
    points = {
        "start": ("fast", 0),
        f"fast, {k} updates": ("fast", -1),
        "slow, synchronized": ("slow", -1),
        f"SGD, {updates} updates": ("sgd", -1),
    }
    columns = {"test accuracy (%)": "accuracy", "test loss": "loss", "distance from the plane": "distance"}
    rows = [
        {column: float(arrays[f"{path}_{name}"][number]) for column, name in columns.items()}
        for path, number in points.values()
    ]
    return pd.DataFrame(rows, index=list(points)).round(4)


def _sentences(run: Run, arrays: Mapping[str, np.ndarray]) -> list[str]:
    config, k = run.config, int(arrays["k"])
    network = network_name(run)
    start = config.probe.start
    updates = len(arrays["sgd"]) - 1
    share = min(k, updates)
    if config.probe.batch_norm == "reestimated":
        count = config.probe.batch_norm_batches
        of = f"{count} training batches" if count is not None else "a pass over the training set"
        statistics = f"estimated anew for each point from {of}"
    else:
        statistics = "kept as they are at the start"
    alpha = value_of(config, "optim.alpha")
    return [
        f"{network}" + (f" for {NETWORK}" if network != NETWORK else "") + f", the inner loop after update "
        f"{int(arrays['step']):,}; epochs before it: {start}"
        + (f" (paper: {START} of {EPOCHS})" if start != START else f" of {EPOCHS}")
        + f"; k = {k}, α = {alpha:g}.",
        "The plane passes through its first, middle and last fast weights; full marks lie in it, hollow ones do not. "
        f"SGD starts from the same weights with the same batches, so its first {share} updates are those of the fast "
        f"weights; it takes {updates}. Batch-norm statistics are {statistics}.",
    ]
