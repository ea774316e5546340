"""Figure 7b: training loss of the Transformer on WMT14 English-German, and the validation loss beside it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.draws import Draws
from scripts.reporting.records import Run
from scripts.reporting.translation import LOSS_PANELS, loss_figure

DRAWS = (Draws("table4_wmt14"),)
PANELS = LOSS_PANELS


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return the losses over updates, the paper's panel first, one curve per optimizer; and the final values."""
    return {"fig07b_nmt_loss": loss_figure(runs, "Figure 7b, WMT14 English-German")}
