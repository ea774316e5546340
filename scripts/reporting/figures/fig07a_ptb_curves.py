"""Figure 7a: training perplexity on Penn Treebank, and validation perplexity, whose best epoch is Table 3's."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.captions import conclude
from scripts.reporting.curves import draw_falling
from scripts.reporting.draws import Draws
from scripts.reporting.panels import NOT_MEASURED, Panel, draw_not_run
from scripts.reporting.penn_treebank import (
    AS_THE_ORIGINAL,
    PERPLEXITY,
    SPLITS,
    WITHOUT_DROPOUT,
    averaging_in_words,
    look,
    missing,
    precision_in_words,
)
from scripts.reporting.published import is_measured
from scripts.reporting.records import Run
from scripts.reporting.series import final_table, is_recorded, series
from scripts.reporting.style import blank, legend
from scripts.reporting.trained import all_that_was_trained

DRAWS = (Draws("table3_ptb"),)
SHOWN = ("train", "val")  # the paper's is the first
PANELS = tuple(Panel("", "epoch", f"{SPLITS[split]} perplexity") for split in SHOWN)


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return one panel per split, of perplexity over epochs, one curve per optimizer; and the best weights' values."""
    groups = series(runs)
    drawn = [split for split in SHOWN if is_recorded(groups, PERPLEXITY[split])]
    figure = blank(10.5, 4.2)
    panels = dict(zip(SHOWN, figure.subplots(1, len(SHOWN)), strict=True))
    for split, panel in zip(SHOWN, PANELS, strict=True):
        if split in drawn:
            draw_falling(panels[split], groups, PERPLEXITY[split], panel.y, look)
        else:
            draw_not_run(panels[split], panel, DRAWS[0].experiment, NOT_MEASURED)
    legend(panels[drawn[-1]])
    sentences = [
        f"{all_that_was_trained(runs)}.",
        AS_THE_ORIGINAL,
        WITHOUT_DROPOUT if "train" in drawn else "The training perplexity, the paper's panel, was not measured.",
        *averaging_in_words(groups),
        *precision_in_words(runs),
    ]
    conclude(figure, "Figure 7a, Penn Treebank", groups, missing(groups), sentences)
    metrics = {
        PERPLEXITY[split]: f"{name} perplexity"
        for split, name in SPLITS.items()
        if all(is_measured(group, PERPLEXITY[split]) for group in groups)
    }
    return {"fig07a_ptb_curves": (figure, final_table(groups, metrics, [look(group).label for group in groups]))}
