"""A stand-in for Figure 7b on one machine: the same four optimizers on Multi30k, which the paper does not have."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.draws import Draws
from scripts.reporting.records import Run
from scripts.reporting.translation import LOSS_PANELS, STAND_IN, loss_figure

DRAWS = (Draws("table4_multi30k"),)
PANELS = LOSS_PANELS


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return the losses over updates, one curve per optimizer; and the final values."""
    title = "A stand-in for Figure 7b: Multi30k English-German"
    return {"fig07_multi30k_loss": loss_figure(runs, title, [f"{STAND_IN}."])}
