"""Figure 15: SWA that starts to average early or later, beside Lookahead; PreResNet-110 on CIFAR-100."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.captions import caption, missing_in_words, spread_in_words, titled
from scripts.reporting.draws import Draws
from scripts.reporting.panels import Panel, draw_not_run
from scripts.reporting.records import Run, ended_well
from scripts.reporting.series import Series, final_table, series
from scripts.reporting.style import OTHERS, blank, legend
from scripts.reporting.swa import (
    AXIS,
    INNER,
    INNER_COLORS,
    METRICS,
    averaged,
    draw_accuracy,
    first_epoch,
    trained,
    unaveraged,
)

DRAWS = (Draws("swa_start"),)
PANELS = (
    Panel("SWA over SGD, and Lookahead alone", "epoch", AXIS),
    Panel("SWA over Lookahead (not in the paper)", "epoch", AXIS),
)
WHEN = {True: "the first epoch", False: "a later one"}  # by whether an average starts in the first


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return the test accuracy of SWA from each start on, over SGD beside Lookahead, and over Lookahead."""
    groups = series(ended_well(runs), by=("optim.name", "average.start"))
    by_optimizer = {name: [group for group in groups if group.values[0] == name] for name in INNER}
    starts = sorted({group.values[1] for group in groups})
    figure = blank(9, 4.5)
    both = bool(by_optimizer["la_sgd"])  # are drawn, else the right panel is empty
    left, right = figure.subplots(1, 2, sharey=both)
    table = {}
    for axes, name in ((left, "swa"), (right, "la_sgd")):
        for group in by_optimizer[name]:
            label = f"SWA from epoch {first_epoch(group.runs[0])}"
            color = OTHERS[starts.index(group.values[1]) % len(OTHERS)]
            draw_accuracy(axes, averaged(group), label, color)
            table[f"{label}, over {INNER[name]}"] = averaged(group)
    for name, found in by_optimizer.items():
        if not found:
            continue
        # All runs of an optimizer and seed are one training, whatever the average: those of the start with most seeds.
        own = unaveraged(max(found, key=lambda group: group.seeds))
        for axes in (left, right) if name == "la_sgd" else (left,):
            draw_accuracy(axes, own, INNER[name], INNER_COLORS[name], linestyle="--" if name == "swa" else "-")
        table[INNER[name]] = own
    for axes, panel in zip((left, right), PANELS, strict=True):
        if axes.lines:
            axes.set_title(panel.title, fontsize=9)
            axes.label_outer()
            legend(axes, below=True, ncols=2)
        else:
            draw_not_run(axes, panel, DRAWS[0].experiment)
    figure.suptitle(titled("Figure 15, CIFAR-100", runs), fontsize=10)
    caption(figure, *_sentences(groups), runs=runs)
    return {"fig15_swa_start": (figure, final_table(list(table.values()), METRICS, list(table)))}


def _sentences(groups: Sequence[Series]) -> list[str]:
    drawn = {(group.values[0], group.values[1] == 0) for group in groups}
    missing = [
        f"SWA over {INNER[name]} from {WHEN[first]}" for name in INNER for first in WHEN if (name, first) not in drawn
    ]
    return [
        trained(groups[0].runs[0]),
        "SGD and Lookahead are the weights before averaging, of Lookahead the slow ones; an average is evaluated with "
        "batch-norm statistics of its own.",
        *spread_in_words(group.seeds for group in groups),
        *missing_in_words(missing),
    ]
