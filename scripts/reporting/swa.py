"""What Figures 15 and 16 share (Appendix D.3): an average's curve and that of the weights that it is made of."""

from __future__ import annotations

from dataclasses import replace

from matplotlib.axes import Axes

from scripts.reporting.classification import ACCURACY
from scripts.reporting.curves import draw_curve
from scripts.reporting.records import Run
from scripts.reporting.series import Series
from scripts.reporting.style import COLORS
from scripts.reporting.trained import what_was_trained

NETWORKS = {"cifar100_wrn28_10": "wrn28_10", "cifar100_preresnet110": "preresnet110"}  # by task, the paper's own first
EPOCHS = {"cifar100_wrn28_10": 300, "cifar100_preresnet110": 225}
INNER = {"swa": "SGD", "la_sgd": "Lookahead"}  # what is averaged, by optimizer
INNER_COLORS = {"swa": COLORS["sgd"], "la_sgd": COLORS["la_sgd"]}
AXIS = "test accuracy (%)"  # as D.3 calls what C.1 calls validation accuracy: the test set is both
METRICS = {ACCURACY: AXIS}


def unaveraged(group: Series) -> Series:
    """Return the same runs as if nothing had been averaged: the evaluations of the probe of that name."""
    return Series(group.values, [_unaveraged(run) for run in group.runs])


def _unaveraged(run: Run) -> Run:
    table = run.table("unaveraged", "epoch", ACCURACY)
    final = {name: float(table[name].iloc[-1]) for name in table if "/" in name}
    return replace(run, history=table, summary=run.summary | {"final": final})


def averaged(group: Series) -> Series:
    """Return the same runs from the first epoch on in which there is an average."""
    return Series(group.values, [_averaged(run) for run in group.runs])


def _averaged(run: Run) -> Run:
    return replace(run, history=run.history[run.history["epoch"] >= first_epoch(run)])


def first_epoch(run: Run) -> int:
    """Return the epoch from which a run averages, counted from 1 as in the paper."""
    return run.config.average.start + 1


def draw_accuracy(axes: Axes, group: Series, label: str, color: str, **line: str) -> None:
    """Draw the test accuracy over epochs."""
    draw_curve(axes, group, ACCURACY, label=label, color=color, **line)
    axes.set_ylabel(AXIS)


def trained(run: Run) -> str:
    """Return the sentence that says what was trained on what, beside the paper's where it differs, and how."""
    task, schedule = run.config.task.name, run.config.schedule
    words = what_was_trained(run, NETWORKS[task], EPOCHS[task])
    when = f"by nine tenths of epoch {schedule.until}"
    return f"{words}; the rate falls to {schedule.last:g} of its first value {when}, and stays there."
