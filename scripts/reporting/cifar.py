"""What the CIFAR tables and figures share: the paper's numbers, how far what was run is from it, and the panels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.reporting.captions import caption, missing_in_words, spread_in_words, titled
from scripts.reporting.curves import Look, by_optimizer, draw_curves
from scripts.reporting.draws import value_of
from scripts.reporting.records import Run
from scripts.reporting.series import Series, final_table
from scripts.reporting.style import blank

LOSS, ACCURACY = "train/loss", "val/accuracy"
NOT_RUN = "not run yet"
OVER_SEEDS = "Mean ± one standard deviation over seeds, at the last epoch."
METRICS = {LOSS: "training loss", ACCURACY: "validation accuracy (%)"}
PASSES = {"clean": "without augmentation", "augmented": "with augmentation"}
DECADE = 10  # a loss that falls by more is drawn on a logarithmic scale
EPOCHS, IMAGES, PIXELS, NETWORK = 200, 50_000, 32, "resnet18"  # Section 5.1
NAMES = {
    "resnet18": "ResNet-18",
    "resnet8": "ResNet-8",
    "resnet32": "ResNet-32",
    "ResNet": "ResNet-10 of a quarter of the width",  # the one configuration that names the class itself
    "SmallConv": "a small convolutional network",
    "preresnet110": "PreResNet-110",
    "preresnet11": "PreResNet-11",
    "wrn28_10": "WRN-28-10",
    "wrn10_1": "WRN-10-1",
}


def network_of(run: Run) -> str:
    """Return the network of a run, as the function that makes it is called."""
    return run.config.model["_target_"].rpartition(".")[2]


def images_of(run: Run) -> int:
    """Return how many training images a run saw in an epoch."""
    return round(run.summary["samples"] / run.summary["epochs"])


def what_was_trained(run: Run, papers_network: str = NETWORK, papers_epochs: int = EPOCHS) -> str:
    """Say which network was trained on how many images for how many epochs, beside the paper's where it differs."""
    network = network_of(run)
    epochs, images = run.summary["epochs"], images_of(run)
    pool = value_of(run.config, "task.dataset.pool") or 1
    pixels = f" of {PIXELS // pool} x {PIXELS // pool} pixels" if pool > 1 else ""
    words = [
        NAMES.get(network, network) + (f" for {NAMES[papers_network]}" if network != papers_network else ""),
        f"{images:,}" + (f" of {IMAGES:,}" if images != IMAGES else "") + " images" + pixels,
        f"{epochs}" + (f" of {papers_epochs}" if epochs != papers_epochs else "") + " epochs",
    ]
    return ", ".join(words)


def draw_loss(
    axes: Axes,
    groups: Sequence[Series],
    look: Callable[[Series], Look] = by_optimizer,
    beside: Sequence[Series] = (),
) -> None:
    """Draw the training loss over epochs; `beside` is in panels that share the scale of the axis."""
    draw_curves(axes, groups, LOSS, look=look)
    histories = [run.history for group in (*groups, *beside) for run in group.runs if run.history is not None]
    losses = [loss for history in histories for loss in history[LOSS].dropna()]
    axes.set(ylabel=METRICS[LOSS], yscale="log" if losses and max(losses) > DECADE * min(losses) else "linear")


def draw_accuracy(axes: Axes, groups: Sequence[Series], look: Callable[[Series], Look] = by_optimizer) -> None:
    """Draw the validation accuracy over epochs."""
    draw_curves(axes, groups, ACCURACY, look=look)
    axes.set(ylabel=METRICS[ACCURACY])


def loss_and_accuracy(
    groups: Sequence[Series], look: Callable[[Series], Look] = by_optimizer
) -> tuple[Figure, pd.DataFrame]:
    """Return a figure of training loss (left) and validation accuracy, and the table of their last values."""
    figure = blank(9, 4)
    left, right = figure.subplots(1, 2)
    draw_loss(left, groups, look)
    draw_accuracy(right, groups, look)
    left.legend()
    return figure, final_table(groups, METRICS, [look(group).label for group in groups])


def conclude(
    figure: Figure, title: str, groups: Sequence[Series], missing: Sequence[str] = (), sentences: Sequence[str] = ()
) -> None:
    """Write the title, with the scale, and the caption; `missing` names what the paper has and was not run."""
    runs = [run for group in groups for run in group.runs]
    figure.suptitle(titled(title, runs), fontsize=10)
    passes = value_of(runs[0].config, "evaluation.train_pass")
    found = [f"{what_was_trained(runs[0])}.", *sentences]
    if any(axes.get_ylabel() == METRICS[LOSS] for axes in figure.axes):
        found.append(f"The loss is of a second pass over the training set, {PASSES.get(passes, passes)}.")
    if any("lookahead" in run.config.optim for run in runs):
        found.append("Lookahead is evaluated on its slow weights.")
    found += [*spread_in_words(group.seeds for group in groups), *missing_in_words(missing)]
    caption(figure, *found, runs=runs)
