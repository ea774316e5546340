"""The demonstration: SGD and Lookahead on scikit-learn's digits, no experiment of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.captions import caption
from scripts.reporting.classification import LOSS_AND_ACCURACY
from scripts.reporting.curves import draw_curves
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run
from scripts.reporting.series import final_table, series
from scripts.reporting.style import LABELS, blank, legend

DRAWS = (Draws("demo"),)
PANELS = LOSS_AND_ACCURACY
METRICS = {"train/loss": "training loss", "val/loss": "validation loss", "val/accuracy": "validation accuracy (%)"}


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return training loss and validation accuracy over epochs, and their last values."""
    groups = series(runs)
    figure = blank(10, 3.6)
    left, right = figure.subplots(1, 2)
    draw_curves(left, groups, "train/loss")
    left.set(ylabel="training loss", yscale="log")
    draw_curves(right, groups, "val/accuracy")
    best = max(run.columns("val/accuracy").max().item() for run in runs)
    right.set(ylabel="validation accuracy (%)", ylim=(90, min(100.0, best + 1)))
    legend(right)
    figure.suptitle("Demonstration on scikit-learn's digits, not an experiment of the paper", fontsize=10)
    bands = ["Mean and one standard deviation over seeds."] if any(group.seeds > 1 for group in groups) else []
    caption(figure, *bands, runs=runs)
    labels = [LABELS.get(group.values[0], group.values[0]) for group in groups]
    return {"demo": (figure, final_table(groups, METRICS, labels))}
