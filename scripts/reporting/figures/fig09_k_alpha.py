"""Figure 9: training loss and validation accuracy on CIFAR-100 with several k and alpha, and SGD beside them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting import style
from scripts.reporting.classification import LOSS_AND_ACCURACY, conclude, loss_and_accuracy
from scripts.reporting.curves import Look, by_optimizer
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run
from scripts.reporting.series import Series, series
from scripts.reporting.style import BLACK, GREEN, ORANGE

DRAWS = (Draws("k_alpha"), Draws("table1_cifar", task="cifar100", optim="sgd"))
PANELS = LOSS_AND_ACCURACY
BY = ("optim.name", "optim.k", "optim.alpha")
COLORS = dict(
    zip([(5, 0.5), (5, 0.8), (10, 0.5), (10, 0.8)], [BLACK, style.COLORS["la_sgd"], ORANGE, GREEN], strict=True)
)


def look(group: Series) -> Look:
    """Return the look of one k and alpha, or of SGD."""
    name, k, alpha = group.values
    return Look(f"k={k}, α={alpha:g}", COLORS[k, alpha]) if name == "la_sgd" else by_optimizer(group)


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return training loss and validation accuracy over epochs, one curve per k and alpha, and their last values."""
    groups = series(runs, by=BY)
    figure, table = loss_and_accuracy(groups, look)
    drawn = {group.values[1:] for group in groups}
    missing = [f"k={k} with α={alpha:g}" for k, alpha in COLORS if (k, alpha) not in drawn]
    conclude(figure, "Figure 9, CIFAR-100", groups, [*missing, *(["SGD"] if (None, None) not in drawn else [])])
    return {"fig09_k_alpha": (figure, table)}
