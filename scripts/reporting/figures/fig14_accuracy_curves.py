"""Figure 14: validation accuracy over epochs on CIFAR-10 (left) and on ImageNet, with ResNet-50 and both schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting import imagenet
from scripts.reporting.classification import ACCURACY, METRICS, conclude, draw_accuracy
from scripts.reporting.curves import by_optimizer
from scripts.reporting.draws import Draws
from scripts.reporting.panels import Panel, draw_not_run
from scripts.reporting.records import Run
from scripts.reporting.series import Series, final_table, series
from scripts.reporting.style import LABELS, TASKS, blank, legend

DRAWS = (Draws("table1_cifar", task="cifar10"), Draws("table2_imagenet"))
LOOKS = {"CIFAR-10": by_optimizer, "ImageNet": imagenet.look}  # of the halves, by data set
HALVES = tuple(LOOKS)
PANELS = tuple(
    Panel(half, "epoch", METRICS[ACCURACY], draws.experiment) for half, draws in zip(HALVES, DRAWS, strict=True)
)
WANTED = {
    "CIFAR-10": [LABELS[name] for name in ("sgd", "polyak", "adamw", "la_sgd")],
    "ImageNet": [f"{LABELS[name]}{mark}" for mark in imagenet.MARKS.values() for name in ("sgd", "la_sgd")],
}


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return validation accuracy over epochs, one curve per optimizer (and schedule), and the last values."""
    groups = series(runs, by=imagenet.BY)
    halves = {half: [group for group in groups if TASKS[group.values[1]] == half] for half in HALVES}
    drawn = [half for half in HALVES if halves[half]]
    figure = blank(10, 4.2)
    for axes, half, panel in zip(figure.subplots(1, len(HALVES)), HALVES, PANELS, strict=True):
        if half not in drawn:
            draw_not_run(axes, panel, DRAWS[0].experiment)
            continue
        axes.set_title(panel.title, fontsize=9)
        draw_accuracy(axes, halves[half], LOOKS[half])
        legend(axes, below=True, ncols=4)
    sentences = [imagenet.schedules_in_words(runs)] if "ImageNet" in drawn else []
    conclude(figure, f"Figure 14, {' and '.join(drawn)}", groups, missing(halves), sentences)
    labels = [f"{half}, {LOOKS[half](group).label}" for half in drawn for group in halves[half]]
    shown = [group for half in drawn for group in halves[half]]
    return {"fig14_accuracy_curves": (figure, final_table(shown, {ACCURACY: METRICS[ACCURACY]}, labels))}


def missing(halves: Mapping[str, Sequence[Series]]) -> list[str]:
    """Return what the paper's figure has and was not run: a half, or curves of it."""
    found = []
    for half, groups in halves.items():
        drawn = {LOOKS[half](group).label for group in groups}
        found += [f"{label} on {half}" for label in WANTED[half] if label not in drawn] if groups else [half]
    return found
