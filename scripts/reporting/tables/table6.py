"""Table 6: final validation accuracy on CIFAR-10 for what becomes of the inner optimizer's momentum."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.cells import Number
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
from scripts.reporting.series import series

DRAWS = (Draws("inner_states"), Draws("table1_cifar", task="cifar10", optim="sgd"))


def page(runs: Sequence[Run]) -> Page:
    """Return the page: one row per policy, and SGD, beside the paper's numbers."""
    paper = published("table6")
    found = {group.values: group for group in series(runs, by=("optim.name", "optim.inner_state"))}
    papers_row = {("la_sgd", row["inner_state"]): row for row in paper["rows"]}
    rows: Rows = []
    for values in (*papers_row, ("sgd", None)):
        rows.append(
            {
                "setting": f"Lookahead, {values[1]}" if values[1] else "SGD",
                "the paper": published_number(papers_row.get(values)),
                **our_cells(found.get(values), paper["metric"], runs),
            }
        )
    return page_of(
        "Table 6: the inner optimizer's momentum at a synchronization, CIFAR-10, final validation accuracy (%)",
        rows,
        what_our_column_is(runs),
        f"The paper's column: {cited(paper)}; {paper['seeds']} seeds. "
        f"{contradiction(published_number(papers_row['la_sgd', 'reset']))} "
        f"{where_published(table6='the numbers')}",
    )


def contradiction(reset: Number) -> str:
    """Return the sentences on what Table 1 has, where Table 6 has `reset` for the policy that Table 1 names too."""
    table1 = {row["optim"]: row for row in published("table1")["rows"] if row["task"] == "cifar10"}
    return (
        "Table 6 has no SGD. The paper contradicts itself: Table 1's Lookahead, which resets the momentum too (C.1), "
        f"has {published_number(table1['la_sgd'])} where Table 6 has {reset}. Table 1's SGD, at "
        f"{published_number(table1['sgd'])}, is above all three."
    )
