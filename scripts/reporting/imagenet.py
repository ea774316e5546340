"""What the ImageNet figures and tables share: the runs that they are made of, how they look, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.curves import Look
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run
from scripts.reporting.series import Series
from scripts.reporting.style import COLORS, LABELS
from scripts.reporting.trained import IMAGENET, NAMES, PAPERS, network_name, network_of

DRAWS = (Draws("table2_imagenet"), Draws("imagenet_resnet152"))
BY = ("optim.name", "task.name", "model._target_")
CONVENTIONAL, AGGRESSIVE = PAPERS  # the tasks, one for each schedule
MARKS = {CONVENTIONAL: "", AGGRESSIVE: "*"}  # as in the paper
LINES = {CONVENTIONAL: "-", AGGRESSIVE: "--"}


def look(group: Series) -> Look:
    """Return the look of an optimizer with one of the two schedules."""
    optimizer, task = group.values[:2]
    return Look(f"{LABELS[optimizer]}{MARKS[task]}", COLORS[optimizer], LINES[task])


def name_of(group: Series) -> str:
    """Return the name of a series among those of all networks."""
    return f"{network_name(group.runs[0])}, {look(group).label}"


def in_order(groups: Sequence[Series]) -> list[Series]:
    """Return the series by network, the paper's in its order; then as they were."""
    order = {network: place for place, network in enumerate(IMAGENET.networks)}
    return sorted(groups, key=lambda group: order.get(network_of(group.runs[0]), len(order)))


def schedules_in_words(runs: Sequence[Run]) -> str:
    """Say after which epochs the rate of each schedule falls."""
    cuts = {run.config.task.name: run.config.schedule.milestones for run in runs if run.config.task.name in PAPERS}
    words = {task: ", ".join(map(str, cuts[task][:-1])) + f" and {cuts[task][-1]}" for task in PAPERS if task in cuts}
    named = {CONVENTIONAL: "the conventional schedule", AGGRESSIVE: "*, the aggressive one"}
    return f"The rate falls to a tenth after epoch {'; '.join(f'{words[task]} ({named[task]})' for task in words)}."


def missing(groups: Sequence[Series]) -> list[str]:
    """Return what was not run of Lookahead and SGD with both schedules, for each network of the paper.

    A smaller network, of a proxy, stands for all of them.
    """
    drawn = {(*group.values[:2], network_of(group.runs[0])) for group in groups}
    smaller = [network for *_, network in drawn if network not in IMAGENET.networks]
    return [
        f"{LABELS[optimizer]}{mark}" + ("" if smaller else f" with {NAMES[network]}")
        for network in smaller[:1] or IMAGENET.networks
        for task, mark in MARKS.items()
        for optimizer in ("sgd", "la_sgd")
        if (optimizer, task, network) not in drawn
    ]
