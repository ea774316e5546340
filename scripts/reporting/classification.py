"""What the figures and tables of image classification share: metrics, panels, title and caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.reporting import captions
from scripts.reporting.curves import Look, by_optimizer, draw_curves, draw_falling
from scripts.reporting.draws import value_of
from scripts.reporting.panels import Panel
from scripts.reporting.series import Series, final_table
from scripts.reporting.style import blank, legend
from scripts.reporting.trained import all_that_was_trained

LOSS, RUNNING_LOSS, ACCURACY, TOP5 = "train/loss", "train/running_loss", "val/accuracy", "val/top5_accuracy"
NOT_RUN = "not run yet"
OVER_SEEDS = "Mean ± one standard deviation over seeds, at the last epoch."
METRICS = {LOSS: "training loss", ACCURACY: "validation accuracy (%)"}
LOSSES = {LOSS: METRICS[LOSS], RUNNING_LOSS: "running training loss"}
LOSS_AND_ACCURACY = tuple(Panel("", "epoch", name) for name in METRICS.values())
PASSES = {"clean": "without augmentation", "augmented": "with augmentation"}


def draw_loss(
    axes: Axes,
    groups: Sequence[Series],
    look: Callable[[Series], Look] = by_optimizer,
    beside: Sequence[Series] = (),
    column: str = LOSS,
) -> None:
    """Draw a training loss over epochs; `beside` is in panels that share the scale of the axis."""
    draw_falling(axes, groups, column, LOSSES[column], look, beside)


def draw_accuracy(axes: Axes, groups: Sequence[Series], look: Callable[[Series], Look] = by_optimizer) -> None:
    """Draw the validation accuracy over epochs."""
    draw_curves(axes, groups, ACCURACY, look=look)
    axes.set(ylabel=METRICS[ACCURACY])


def loss_and_accuracy(
    groups: Sequence[Series], look: Callable[[Series], Look] = by_optimizer
) -> tuple[Figure, pd.DataFrame]:
    """Return a figure of training loss (left) and validation accuracy, and the table of their last values."""
    figure = blank(10.5, 4)
    left, right = figure.subplots(1, 2)
    draw_loss(left, groups, look)
    draw_accuracy(right, groups, look)
    legend(right)
    return figure, final_table(groups, METRICS, [look(group).label for group in groups])


def conclude(
    figure: Figure, title: str, groups: Sequence[Series], missing: Sequence[str] = (), sentences: Sequence[str] = ()
) -> None:
    """Write the title, with the scale, and the caption; `missing` names what the paper has and was not run."""
    runs = [run for group in groups for run in group.runs]
    passes = value_of(runs[0].config, "evaluation.train_pass")
    found = [f"{all_that_was_trained(runs)}.", *sentences]
    if any(axes.get_ylabel() == METRICS[LOSS] for axes in figure.axes):
        found.append(f"The loss is of a second pass over the training set, {PASSES.get(passes, passes)}.")
    if any(axes.get_ylabel() == LOSSES[RUNNING_LOSS] for axes in figure.axes):
        found.append("The loss is the mean of an epoch's updates, at the fast weights, on augmented images.")
    captions.conclude(figure, title, groups, missing, found)
