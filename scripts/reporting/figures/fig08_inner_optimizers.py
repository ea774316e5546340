"""Figure 8: training loss on CIFAR-10 with several rates (left) and momenta of SGD, alone and inside Lookahead."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from scripts.reporting.classification import LOSS, METRICS, conclude, draw_loss
from scripts.reporting.curves import Look
from scripts.reporting.draws import Draws
from scripts.reporting.panels import Panel, draw_not_run
from scripts.reporting.records import Run
from scripts.reporting.series import Series, final_table, series
from scripts.reporting.style import LABELS, blank, legend

DRAWS = (Draws("inner_rates"), Draws("inner_momenta"))
RATES, MOMENTA = (0.01, 0.03, 0.05, 0.1, 0.2, 0.3), (0, 0.5, 0.9, 0.95, 0.99)
BEST = {"sgd": 0.05, "la_sgd": 0.1}  # the rates of the panel of momenta: Table 1's
LINES = {"sgd": "--", "la_sgd": "-"}
NAMES = ("learning rate", "momentum")
PANELS = tuple(
    Panel(f"SGD's {name}", "epoch", METRICS[LOSS], draws.experiment) for name, draws in zip(NAMES, DRAWS, strict=True)
)


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return both panels, a colour per value, and the last losses and accuracies."""
    groups = series(runs, by=("optim.name", "optim.lr", "optim.momentum"))
    figure = blank(9, 5.2)
    panels = figure.subplots(1, 2)
    missing = []
    for number, (axes, known) in enumerate(zip(panels, (RATES, MOMENTA), strict=True)):
        shown = [group for group in groups if _is_of(group, number)]
        if shown:
            axes.set_title(PANELS[number].title, fontsize=9)
            draw_loss(axes, shown, lambda group, number=number, known=known: _look(group, number, known))
            legend(axes, below=True, title=NAMES[number], title_fontsize=8, fontsize=7, ncols=4)
        else:
            draw_not_run(axes, PANELS[number], DRAWS[0].experiment)
        drawn = {(group.values[0], group.values[1 + number]) for group in shown}
        wanted = [(name, value) for name in LINES for value in known]
        gaps = [f"{LABELS[name]} at {value:g}" for name, value in wanted if (name, value) not in drawn]
        missing += [f"{NAMES[number]} of {', '.join(gaps)}"] if gaps else []
    told = "Solid: Lookahead with k=5 and α=0.5; dashed: its inner SGD alone. Right: rate 0.1 inside, 0.05 alone."
    conclude(figure, "Figure 8, CIFAR-10", groups, missing, [told])
    labels = [f"{LABELS[name]}, rate {rate:g}, momentum {momentum:g}" for name, rate, momentum in _values(groups)]
    return {"fig08_inner_optimizers": (figure, final_table(groups, METRICS, labels))}


def _values(groups: Sequence[Series]) -> list[tuple]:
    return [group.values for group in groups]


def _is_of(group: Series, number: int) -> bool:
    """Say whether a series is of the panel of rates (0, all at momentum 0.9) or of momenta (1, at the best rate)."""
    name, rate, momentum = group.values
    return momentum == 0.9 if number == 0 else rate == BEST[name]


def _look(group: Series, number: int, known: Sequence[float]) -> Look:
    name, value = group.values[0], group.values[1 + number]
    color = colormaps["viridis"](known.index(value) / (len(known) - 1) * 0.9)
    return Look(f"{value:g}" + (" (SGD)" if name == "sgd" else ""), color, LINES[name])
