"""Figure 2: training loss on CIFAR-10 of Adam, alone and inside Lookahead with a fixed or the adaptive alpha."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.classification import LOSS, METRICS, conclude, draw_loss
from scripts.reporting.curves import Look
from scripts.reporting.draws import Draws
from scripts.reporting.panels import Panel, draw_not_run
from scripts.reporting.records import Run
from scripts.reporting.series import Series, final_table, series
from scripts.reporting.style import COLORS, blank, legend

DRAWS = (Draws("adaptive_alpha_cifar"),)
RATES = (1e-3, 3e-3)
PANELS = tuple(Panel(f"Adam, learning rate {rate:g}", "epoch", METRICS[LOSS]) for rate in RATES)
NAMES = {"adamw": "Adam alone", "la_adamw": "fixed α = 0.5", "la_adam_adaptive": "adaptive α"}


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return one panel per rate with three curves, and the last losses and accuracies."""
    groups = series(runs, by=("optim.name", "optim.lr"))
    figure = blank(9, 4.4)
    run = {rate for _, rate in (group.values for group in groups)}
    panels = figure.subplots(1, 2, sharey=run.issuperset(RATES))
    for axes, rate, panel in zip(panels, RATES, PANELS, strict=True):
        shown = [group for group in groups if group.values[1] == rate]
        if shown:
            axes.set_title(panel.title, fontsize=9)
            draw_loss(axes, shown, look, beside=groups)
            legend(axes, below=True, ncols=3)
        else:
            draw_not_run(axes, panel, DRAWS[0].experiment)
    drawn = {group.values for group in groups}
    missing = [f"{NAMES[name]} at {rate:g}" for rate in RATES for name in NAMES if (name, rate) not in drawn]
    told = "Lookahead (k=5) around AdamW, whose weight decay keeps rate x decay at 3e-4; the adaptive α is in [0.5, 1]."
    conclude(figure, "Figure 2, CIFAR-10", groups, missing, [told])
    labels = [f"{NAMES[name]}, rate {rate:g}" for name, rate in (group.values for group in groups)]
    return {"fig02_adaptive_alpha": (figure, final_table(groups, METRICS, labels))}


def look(group: Series) -> Look:
    """Return the look of fixed or adaptive alpha."""
    name = group.values[0]
    return Look(NAMES[name], COLORS[name])
