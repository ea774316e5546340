"""Figure 5: training loss on CIFAR-100, with the validation accuracy beside it (its right half is Table 1)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.captions import SCALES, caption
from scripts.reporting.cifar import papers_table, what_was_trained
from scripts.reporting.curves import draw_curves
from scripts.reporting.draws import Draws, value_of
from scripts.reporting.records import Run
from scripts.reporting.series import Series, final_table, series
from scripts.reporting.style import LABELS, blank

DRAWS = (Draws("table1_cifar", task="cifar100"),)
METRICS = {"train/loss": "training loss", "val/accuracy": "validation accuracy (%)"}
PASSES = {"clean": "without augmentation", "augmented": "with augmentation"}
DECADE = 10  # a loss that falls by more is drawn on a logarithmic scale


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return training loss and validation accuracy over epochs, one curve per optimizer, and their last values."""
    groups = series(runs)
    figure = blank(9, 4)
    left, right = figure.subplots(1, 2)
    draw_curves(left, groups, "train/loss")
    losses = pd.concat([run.history["train/loss"] for run in runs])
    left.set(ylabel="training loss", yscale="log" if losses.max() > DECADE * losses.min() else "linear")
    draw_curves(right, groups, "val/accuracy")
    right.set(ylabel="validation accuracy (%)")
    left.legend()
    scale = runs[0].summary["scale"]
    figure.suptitle("Figure 5, CIFAR-100" + (f": {SCALES[scale]}" if scale != "paper" else ""), fontsize=10)
    caption(figure, *_sentences(groups), runs=runs)
    labels = [LABELS.get(group.values[0], group.values[0]) for group in groups]
    return {"fig05_cifar_curves": (figure, final_table(groups, METRICS, labels))}


def _sentences(groups: Sequence[Series]) -> list[str]:
    drawn = {group.values[0] for group in groups}
    wanted = [row["optim"] for row in papers_table()["rows"] if row["task"] == "cifar100"]
    missing = [LABELS[name] for name in wanted if name not in drawn]
    passes = value_of(groups[0].runs[0].config, "evaluation.train_pass")
    sentences = [
        f"{what_was_trained(groups[0].runs[0])}.",
        f"The loss is of a second pass over the training set, {PASSES.get(passes, passes)}; Lookahead is evaluated on "
        "its slow weights.",
    ]
    if any(group.seeds > 1 for group in groups):
        sentences.append("Mean and one standard deviation over seeds.")
    return [*sentences, *([f"Not run yet: {', '.join(missing)}."] if missing else [])]
