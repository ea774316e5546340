"""Figure 14: validation accuracy over epochs on CIFAR-10 (its other half, ImageNet, has no runs yet)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.classification import ACCURACY, METRICS, conclude, draw_accuracy
from scripts.reporting.curves import by_optimizer
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run
from scripts.reporting.series import final_table, series
from scripts.reporting.style import LABELS, blank

DRAWS = (Draws("table1_cifar", task="cifar10"),)
WANTED = ("sgd", "polyak", "adamw", "la_sgd")


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return validation accuracy over epochs, one curve per optimizer, and the last values."""
    groups = series(runs)
    figure = blank(5.5, 4)
    axes = figure.subplots()
    draw_accuracy(axes, groups)
    axes.legend()
    drawn = {group.values[0] for group in groups}
    missing = [LABELS[name] for name in WANTED if name not in drawn]
    conclude(figure, "Figure 14, CIFAR-10", groups, [*missing, "ImageNet"])
    table = final_table(groups, {ACCURACY: METRICS[ACCURACY]}, [by_optimizer(group).label for group in groups])
    return {"fig14_accuracy_curves": (figure, table)}
