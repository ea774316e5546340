"""Figure 6: training loss on ImageNet, with both schedules (its right half is Table 2)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting import imagenet
from scripts.reporting.classification import ACCURACY, LOSSES, METRICS, RUNNING_LOSS, conclude, draw_loss
from scripts.reporting.panels import Panel, draw_not_run
from scripts.reporting.records import Run
from scripts.reporting.series import final_table, series
from scripts.reporting.style import blank, legend
from scripts.reporting.trained import IMAGENET, NAMES, network_name, network_of

DRAWS = imagenet.DRAWS
PANELS = tuple(
    Panel(NAMES[network], "epoch", LOSSES[RUNNING_LOSS], draws.experiment)
    for network, draws in zip(IMAGENET.networks, DRAWS, strict=True)
)


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return one panel per network: the loss over epochs, one curve per optimizer and schedule; and the last values."""
    groups = series(runs, by=imagenet.BY)
    panels: dict[str, list] = {}
    for group in imagenet.in_order(groups):
        panels.setdefault(network_name(group.runs[0]), []).append(group)
    # A smaller network, of a proxy, stands for all of the paper's.
    smaller = any(network_of(run) not in IMAGENET.networks for run in runs)
    empty = [panel for panel in PANELS if panel.title not in panels and not smaller]
    figure = blank(max(5.5 * (len(panels) + len(empty)), 6), 4.2)
    each = figure.subplots(1, len(panels) + len(empty), squeeze=False)[0]
    for axes, (network, shown) in zip(each, panels.items(), strict=False):
        draw_loss(axes, shown, imagenet.look, beside=groups, column=RUNNING_LOSS)
        legend(axes, below=True, ncols=4)
        if len(each) > 1:
            axes.set_title(network, fontsize=9)
    for axes, panel in zip(each[len(panels) :], empty, strict=True):
        draw_not_run(axes, panel, DRAWS[0].experiment)
    conclude(figure, "Figure 6, ImageNet", groups, imagenet.missing(groups), [imagenet.schedules_in_words(runs)])
    metrics = {RUNNING_LOSS: LOSSES[RUNNING_LOSS], ACCURACY: METRICS[ACCURACY]}
    shown = [group for panel in panels.values() for group in panel]
    table = final_table(shown, metrics, [imagenet.name_of(group) for group in shown])
    return {"fig06_imagenet_loss": (figure, table)}
