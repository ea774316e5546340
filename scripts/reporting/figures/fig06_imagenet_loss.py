"""Figure 6: training loss on ImageNet, with both schedules (its right half is Table 2)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting import imagenet
from scripts.reporting.classification import ACCURACY, LOSSES, METRICS, RUNNING_LOSS, conclude, draw_loss
from scripts.reporting.records import Run
from scripts.reporting.series import final_table, series
from scripts.reporting.style import blank
from scripts.reporting.trained import network_name

DRAWS = imagenet.DRAWS


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return one panel per network: the loss over epochs, one curve per optimizer and schedule; and the last values."""
    groups = series(runs, by=imagenet.BY)
    panels: dict[str, list] = {}
    for group in imagenet.in_order(groups):
        panels.setdefault(network_name(group.runs[0]), []).append(group)
    figure = blank(5.5 * len(panels), 4)
    for axes, (network, shown) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        draw_loss(axes, shown, imagenet.look, beside=groups, column=RUNNING_LOSS)
        axes.legend()
        if len(panels) > 1:
            axes.set_title(network, fontsize=9)
    conclude(figure, "Figure 6, ImageNet", groups, imagenet.missing(groups), [imagenet.schedules_in_words(runs)])
    metrics = {RUNNING_LOSS: LOSSES[RUNNING_LOSS], ACCURACY: METRICS[ACCURACY]}
    shown = [group for panel in panels.values() for group in panel]
    table = final_table(shown, metrics, [imagenet.name_of(group) for group in shown])
    return {"fig06_imagenet_loss": (figure, table)}
