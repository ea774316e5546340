"""The published failure to reproduce Table 1: Lookahead around SGD with and without momentum and weight decay."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import Rows
from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page, page_of
from scripts.reporting.published import (
    cited,
    our_cells,
    published,
    published_number,
    what_our_column_is,
    where_published,
)
from scripts.reporting.records import Run
from scripts.reporting.series import Series, series
from scripts.reporting.style import TASKS

DRAWS = (Draws("dispute_plain_inner_sgd"), Draws("table1_cifar", optim=["la_sgd", "sgd"]))
BY = ("task.name", "optim.name", "optim.momentum", "optim.weight_decay")
SETTINGS = {
    "plain": "Lookahead, inner SGD without momentum and weight decay",
    "la_sgd": "Lookahead, as in the paper",
    "sgd": "SGD",
}


def page(runs: Sequence[Run]) -> Page:
    """Return the page: for each data set three settings, the paper's accuracy, the reproduction's and ours."""
    paper, reproduction = published("table1"), published("reproduction")
    groups = {(group.values[0], kind_of(group)): group for group in series(runs, by=BY)}
    papers_row = {(row["task"], row["optim"]): row for row in paper["rows"]}
    independent = {(row["task"], row["setting"]): row for row in reproduction["rows"]}
    rows: Rows = []
    for task in ("cifar10", "cifar100"):
        for setting, name in SETTINGS.items():
            rows.append(
                {
                    "data set": TASKS[task],
                    "setting": name,
                    "the paper": published_number(papers_row.get((task, setting))),
                    "the reproduction": published_number(independent.get((task, setting))),
                    **our_cells(groups.get((task, setting)), reproduction["metric"], runs),
                }
            )
    return page_of(
        "A published failure to reproduce Table 1: CIFAR final validation accuracy (%)",
        rows,
        f"A student reproduction ({cited(reproduction)}) has Lookahead two and five points below the paper, and its "
        "baselines as in the paper. In its code the inner optimizer is SGD with neither momentum nor weight decay, "
        "while SGD itself has both: the first row is that setting.",
        what_our_column_is(runs),
        where_published(reproduction="the reproduction's numbers and their source"),
    )


def kind_of(group: Series) -> str:
    """Return which of the settings a series is."""
    _, name, momentum, _ = group.values
    return "plain" if name == "la_sgd" and momentum == 0 else name
