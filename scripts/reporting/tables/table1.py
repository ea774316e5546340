"""Table 1: final validation accuracy on CIFAR-10 and CIFAR-100, beside the paper's numbers and independent ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.reporting.claims import Rows
from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page, page_of
from scripts.reporting.published import (
    cited,
    other_networks,
    our_cells,
    published,
    published_number,
    what_our_column_is,
    where_published,
)
from scripts.reporting.records import Run
from scripts.reporting.series import series
from scripts.reporting.style import LABELS, OPTIMIZERS, TASKS

DRAWS = (Draws("table1_cifar"),)


def page(runs: Sequence[Run]) -> Page:
    """Return the page: the table, what was run, and where the paper's and the independent numbers are from."""
    paper, reproduction = published("table1"), published("reproduction")
    by_setting = {group.values: group for group in series(runs, by=("task.name", "optim.name"))}
    independent = {(row["task"], row["setting"]): row for row in reproduction["rows"]}
    rows: Rows = []
    for row in sorted(paper["rows"], key=lambda row: (row["task"], OPTIMIZERS.index(row["optim"]))):
        setting = row["task"], row["optim"]
        rows.append(
            {
                "data set": TASKS[row["task"]],
                "optimizer": LABELS[row["optim"]],
                "the paper": published_number(row),
                "the reproduction": published_number(independent.get(setting)),
                **our_cells(by_setting.get(setting), paper["metric"], runs),
            }
        )
    return page_of(
        "Table 1: CIFAR final validation accuracy (%)",
        rows,
        what_our_column_is(runs),
        f"The paper: {paper['seeds']} seeds. \\* {paper['unverified']}",
        reproduction_in_words(reproduction),
        other_networks("cifar10", "cifar100"),
        where_published(
            table1="the paper's numbers, with their sources", reproduction="the reproduction's", slrla="the others'"
        ),
    )


def reproduction_in_words(reproduction: dict[str, Any]) -> str:
    """Return the paragraph on the reproduction: its seeds, where it differs, and what else it has."""
    seeds, further = [], []
    for task, name in TASKS.items():
        of_task = {row["setting"]: row for row in reproduction["rows"] if row["task"] == task}
        if of_task:
            seeds.append(f"{name} {_counted({row['seeds'] for row in of_task.values()})}")
        words = {"adam": "Adam", "la_adam": "Lookahead around Adam"}
        found = [f"{words[setting]} {published_number(of_task[setting])}" for setting in words if setting in of_task]
        further += [f"{', '.join(found)} ({name})"] if found else []
    losses = [f"{row['value']} ({TASKS[row['task']]})" for row in reproduction["further"]]
    return (
        f"The reproduction: {cited(reproduction)}; {', '.join(seeds)}. Its Polyak is torch's ASGD, without momentum. "
        "Its Lookahead is around another inner optimizer, so that it stands in a table of its own (`make "
        f"dispute_cifar`) and not in this one. It also has Adam itself, at its defaults: {'; '.join(further)}. "
        f"SGD's training loss over the updates of the last epoch is {' and '.join(losses)} there."
    )


def _counted(seeds: set[int]) -> str:
    return "with " + ("one seed" if seeds == {1} else f"{' or '.join(map(str, sorted(seeds)))} seeds")
