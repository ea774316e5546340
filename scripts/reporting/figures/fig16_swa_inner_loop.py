"""Figure 16: SWA over SGD and over Lookahead on CIFAR-100, with WRN-28-10 and, beyond the paper, with PreResNet-110."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.captions import caption, missing_in_words, spread_in_words, titled
from scripts.reporting.draws import Draws
from scripts.reporting.panels import Panel, draw_not_run
from scripts.reporting.records import Run, ended_well
from scripts.reporting.series import Series, final_table, series
from scripts.reporting.style import blank, legend
from scripts.reporting.swa import (
    AXIS,
    INNER,
    INNER_COLORS,
    METRICS,
    NETWORKS,
    averaged,
    draw_accuracy,
    first_epoch,
    trained,
    unaveraged,
)
from scripts.reporting.trained import NAMES, network_name

DRAWS = (Draws("swa_inner_loop"),)
TITLES = "{}: throughout training", "{}: the SWA network"
PANELS = tuple(Panel(title.format(NAMES[network]), "epoch", AXIS) for network in NETWORKS.values() for title in TITLES)


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return the test accuracy before averaging (left) and of the average (right), one row of panels per network."""
    groups = {group.values: group for group in series(ended_well(runs), by=("task.name", "optim.name"))}
    one_run = {task: group.runs[0] for (task, _), group in groups.items()}
    tasks = [task for task in NETWORKS if task in one_run]
    figure = blank(9, 3.6 * len(NETWORKS) + 0.8)
    table: dict[str, Series] = {}
    rows = figure.subplots(len(NETWORKS), 2)
    for row, task in enumerate(NETWORKS):
        if task not in one_run:
            for axes, panel in zip(rows[row], PANELS[2 * row :], strict=False):
                draw_not_run(axes, panel, DRAWS[0].experiment)
            continue
        left, right = rows[row]
        network = network_name(one_run[task])
        for axes, title in zip((left, right), TITLES, strict=True):
            axes.set_title(title.format(network), fontsize=9)
        for name in INNER:
            if (task, name) not in groups:
                continue
            before, after = unaveraged(groups[task, name]), averaged(groups[task, name])
            draw_accuracy(left, before, INNER[name], INNER_COLORS[name])
            draw_accuracy(right, after, f"SWA over {INNER[name]}", INNER_COLORS[name])
            table |= {f"{network}, {INNER[name]}": before, f"{network}, SWA over {INNER[name]}": after}
        for axes in (left, right):
            legend(axes, below=True, ncols=2)
    figure.suptitle(titled("Figure 16, CIFAR-100", runs), fontsize=10)
    caption(figure, *_sentences(groups, [one_run[task] for task in tasks]), runs=runs)
    return {"fig16_swa_inner_loop": (figure, final_table(list(table.values()), METRICS, list(table)))}


def _sentences(groups: dict[tuple[str, str], Series], one_of_each: Sequence[Run]) -> list[str]:
    starts = ", ".join(f"{first_epoch(run)} ({network_name(run)})" for run in one_of_each)
    missing = [
        f"SWA over {INNER[name]} with {NAMES[network]}"
        for task, network in NETWORKS.items()
        for name in INNER
        if (task, name) not in groups
    ]
    return [
        *map(trained, one_of_each),
        "Left: the weights before averaging, of Lookahead the slow ones. Right: the average, with batch-norm "
        f"statistics of its own, from epoch {starts} on.",
        "The paper has WRN-28-10 alone.",
        *spread_in_words(group.seeds for group in groups.values()),
        *missing_in_words(missing),
    ]
