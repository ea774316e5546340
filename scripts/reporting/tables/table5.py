"""Table 5: final validation accuracy on CIFAR-100 with several k and alpha, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from scripts.reporting.series import Spread, series

DRAWS = (Draws("k_alpha"), Draws("table1_cifar", task="cifar100", optim="sgd"))
BY = ("optim.name", "optim.k", "optim.alpha")


def page(runs: Sequence[Run]) -> Page:
    """Return the page: one row per k and alpha, SGD, and whether the paper's sentence holds for either column."""
    paper = published("table5")
    found = {group.values: group for group in series(runs, BY)}
    rows: Rows = []
    for row in paper["rows"]:
        rows.append(
            {
                "setting": "SGD" if row["optim"] == "sgd" else f"k = {row['k']}, α = {row['alpha']:g}",
                "the paper": published_number(row),
                **our_cells(found.get((row["optim"], row["k"], row["alpha"])), paper["metric"], runs),
            }
        )
    return page_of(
        "Table 5: k and α on CIFAR-100, final validation accuracy (%)",
        rows,
        " ".join(
            [
                f"The paper: all settings have a higher validation accuracy than SGD, {above_sgd(paper['rows'])}.",
                *_our_claim({values: group.final(paper["metric"]) for values, group in found.items()}),
            ]
        ),
        what_our_column_is(runs),
        f"The paper's column: {cited(paper)}; {paper['seeds']} seeds. {contradiction(paper['rows'])} "
        f"{where_published(table5='the numbers')}",
    )


def above_sgd(rows: Sequence[dict[str, Any]]) -> str:
    """Return how many of the published settings of Lookahead have a higher mean than SGD beside them."""
    sgd = next(row["mean"] for row in rows if row["optim"] == "sgd")
    lookahead = [row["mean"] for row in rows if row["optim"] == "la_sgd"]
    return f"{sum(mean > sgd for mean in lookahead)} of {len(lookahead)}"


def _our_claim(found: dict[tuple[Any, ...], Spread]) -> list[str]:
    sgd = found.get(("sgd", None, None))
    lookahead = [cell for (name, *_), cell in found.items() if name == "la_sgd"]
    if not sgd or not lookahead:
        return []
    above = sum(cell.mean > sgd.mean for cell in lookahead)
    return [f"Settings with a higher mean than SGD's here: {above} of the {len(lookahead)} that were run."]


def contradiction(rows: Sequence[dict[str, Any]]) -> str:
    """Return the sentence on what Table 1 has for two of the rows: other numbers."""
    table1 = {row["optim"]: row for row in published("table1")["rows"] if row["task"] == "cifar100"}
    beside_table1 = [row for row in rows if row["optim"] == "la_sgd"] + [table1["sgd"]]
    return (
        "The paper contradicts itself: of the same experiments, as far as it describes them, Table 1 has "
        f"{published_number(table1['la_sgd'])} (k = 5, α = 0.8) and {published_number(table1['sgd'])} (SGD), and "
        f"{above_sgd(beside_table1)} settings are above that SGD."
    )
