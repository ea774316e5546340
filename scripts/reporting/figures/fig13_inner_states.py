"""Figure 13: what becomes of the inner optimizer's momentum at a synchronization, on CIFAR-10, and SGD beside it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.classification import LOSS_AND_ACCURACY, conclude, loss_and_accuracy
from scripts.reporting.curves import Look, by_optimizer
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run
from scripts.reporting.series import Series, series
from scripts.reporting.style import INNER_STATES

DRAWS = (Draws("inner_states"), Draws("table1_cifar", task="cifar10", optim="sgd"))
PANELS = LOSS_AND_ACCURACY
BY = ("optim.name", "optim.inner_state")


def look(group: Series) -> Look:
    """Return the look of one policy, or of SGD."""
    name, policy = group.values
    return Look(policy, INNER_STATES[policy]) if name == "la_sgd" else by_optimizer(group)


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return training loss and validation accuracy over epochs, one curve per policy, and their last values."""
    groups = series(runs, by=BY)
    figure, table = loss_and_accuracy(groups, look)
    drawn = {group.values[1] for group in groups}
    missing = [policy for policy in INNER_STATES if policy not in drawn]
    conclude(figure, "Figure 13, CIFAR-10", groups, [*missing, *(["SGD"] if None not in drawn else [])])
    return {"fig13_inner_states": (figure, table)}
