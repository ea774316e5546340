"""Figure 5: training loss on CIFAR-100, with the validation accuracy beside it (its right half is Table 1)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.classification import LOSS_AND_ACCURACY, conclude, loss_and_accuracy
from scripts.reporting.draws import Draws
from scripts.reporting.published import published
from scripts.reporting.records import Run
from scripts.reporting.series import series
from scripts.reporting.style import LABELS

DRAWS = (Draws("table1_cifar", task="cifar100"),)
PANELS = LOSS_AND_ACCURACY


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return training loss and validation accuracy over epochs, one curve per optimizer, and their last values."""
    groups = series(runs)
    figure, table = loss_and_accuracy(groups)
    drawn = {group.values[0] for group in groups}
    wanted = [row["optim"] for row in published("table1")["rows"] if row["task"] == "cifar100"]
    conclude(figure, "Figure 5, CIFAR-100", groups, [LABELS[name] for name in wanted if name not in drawn])
    return {"fig05_cifar_curves": (figure, table)}
