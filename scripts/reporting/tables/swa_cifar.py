"""SWA on CIFAR-100 (Appendix D.3) beside its own code's numbers: SGD alone, SWA over SGD, SWA over Lookahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reporting.cells import Number
from scripts.reporting.claims import Rows
from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page, page_of
from scripts.reporting.published import (
    cited,
    final_number,
    our_cells,
    our_heading,
    published,
    published_number,
    what_our_column_is,
    where_published,
)
from scripts.reporting.records import Run
from scripts.reporting.series import Series, series
from scripts.reporting.style import LABELS
from scripts.reporting.swa import EPOCHS, INNER, NETWORKS, first_epoch, unaveraged
from scripts.reporting.trained import NAMES, what_was_trained

DRAWS = (Draws("swa_baseline"), Draws("swa_inner_loop"), Draws("swa_start"))
BY = ("task.name", "optim.name", "average.start")
ALONE, FIRST, EARLY, LATE = "no average", "from the first epoch", "before the rate falls", "when the rate has fallen"
# The epochs in which the averages start at full scale, counted from 1: Figure 15's two, and the SWA code's own.
STARTS = {"cifar100_wrn28_10": {LATE: 161}, "cifar100_preresnet110": {FIRST: 1, EARLY: 10, LATE: 126}}


def page(runs: Sequence[Run]) -> Page:
    """Return the page: one row per network, optimizer and start of the average, beside the SWA code's numbers."""
    code = published("swa")
    groups = sorted(series(runs, by=BY), key=lambda group: list(NETWORKS).index(group.values[0]))
    rows: Rows = []
    for task in NETWORKS:
        numbers = {(row["setting"], row["epochs"]): row for row in code["rows"] if row["task"] == task}
        budget = next(epochs for setting, epochs in numbers if setting == "sgd")
        for optimizer, start in (("sgd", ALONE), *((name, start) for name in INNER for start in STARTS[task])):
            epochs = budget if start == ALONE else EPOCHS[task]
            number = numbers.get((optimizer, epochs)) if start in (ALONE, LATE) else None
            found = [group for group in groups if (group.values[0], *kind_of(group)) == (task, optimizer, start)]
            for group in found or [None]:
                rows.append(
                    {
                        "network": NAMES[NETWORKS[task]],
                        "optimizer": LABELS["sgd"] if start == ALONE else f"SWA over {INNER[optimizer]}",
                        "epochs averaged": averaged_epochs(group, STARTS[task].get(start), epochs),
                        "the SWA code": published_number(number),
                        **_our_cells(group, code["metric"], runs),
                    }
                )
    return page_of(
        "SWA and Lookahead on CIFAR-100 (Appendix D.3): final validation accuracy (%)",
        rows,
        what_our_column_is(runs, "; ".join(dict.fromkeys(_trained(group, code["rows"]) for group in groups))),
        "An average is evaluated with batch-norm statistics of its own. Before averaging are, of the same runs, SGD's "
        "weights and Lookahead's slow ones, at SWA's rate, which stays high to the end; SGD by itself has a schedule "
        "that ends at a hundredth, and fewer epochs." + _on_epochs(runs),
        f"The SWA code's column: {cited(code)}. {shorter_budget(code['rows'])} The paper has no numbers of D.3, but "
        f"Figures 15 and 16. {where_published(swa='numbers of the SWA code')}",
    )


def kind_of(group: Series) -> tuple[str, str]:
    """Return what is averaged, by optimizer, and when that starts: the rate falls from half of its schedule on."""
    _, name, start = group.values
    if start is None:
        return name, ALONE
    if start == 0:
        return name, FIRST
    return name, EARLY if 2 * start <= group.runs[0].config.schedule.until else LATE


def averaged_epochs(group: Series | None, start: int | None, epochs: int) -> str:
    """Return which epochs of how many are averaged: of runs theirs, else those at full scale."""
    if group is not None:
        run = group.runs[0]
        epochs, start = run.summary["epochs"], None if start is None else first_epoch(run)
    return f"none of {epochs}" if start is None else f"{start} to {epochs}"


def _our_cells(group: Series | None, metric: str, runs: Sequence[Run]) -> dict[str, Any]:
    cells = our_cells(group, metric, runs)
    heading = our_heading(runs)
    return {heading: cells.pop(heading), "before averaging": before_averaging(group, metric), **cells}


def before_averaging(group: Series | None, metric: str) -> Number:
    """Return the final accuracy of the weights that an average is made of, where the probe has measured them."""
    if group is None or not all(run.config.get("probe") for run in group.runs):
        return Number()
    return final_number(group if group.diverged else unaveraged(group), metric)  # a run that diverged has no findings


def _trained(group: Series, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what was trained on what, beside the SWA code's epochs where they differ."""
    task, name, _ = group.values
    of_task = {row["setting"]: row["epochs"] for row in rows if row["task"] == task}
    return what_was_trained(group.runs[0], NETWORKS[task], of_task["sgd"] if name == "sgd" else EPOCHS[task])


def _on_epochs(runs: Sequence[Run]) -> str:
    return (
        ""
        if not runs or runs[0].summary["scale"] == "paper"
        else " The epochs of what was not run yet are those at full scale."
    )


def shorter_budget(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the sentence on SWA within the epochs of SGD alone, which is no experiment here."""
    budgets = {row["task"]: row["epochs"] for row in rows if row["setting"] == "sgd"}
    found = [
        f"{published_number(row)} ({NAMES[NETWORKS[row['task']]]})"
        for row in rows
        if row["setting"] == "swa" and row["epochs"] == budgets[row["task"]]
    ]
    return f"Within the epochs of SGD alone its SWA has {' and '.join(found)}, which is not among the experiments here."
