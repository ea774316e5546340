"""Appendix C.4's search for Lookahead as a page: losses of each rate and k, and how far they differ between rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scripts.reporting.captions import provenance
from scripts.reporting.cells import NONE
from scripts.reporting.claims import Rows
from scripts.reporting.markdown import markdown_table
from scripts.reporting.pages import Page, page_of
from scripts.reporting.published import cell, cited, is_measured, our_heading, published, where_published
from scripts.reporting.records import Run
from scripts.reporting.searches import CHOSEN, MARKED, Cells, cells_of
from scripts.reporting.style import TABLE4_LABELS
from scripts.reporting.trained import all_that_was_trained
from scripts.reporting.translation import LOSSES, WHICH_LOSSES, at_the_end, constant, greatest_rate
from scripts.reporting.translation_tables import largest_difference

CHOICE = MARKED["chosen"]


def page_of_rates(
    runs: Sequence[Run],
    title: str,
    *paragraphs: str,
    multipliers: Sequence[float] | None = None,
    chosen: str = CHOICE,
) -> Page:
    """Return the page of one data set: final losses for each rate and k, their differences, and `paragraphs` first.

    `multipliers` of a recipe's rate stand for the paper's rates, in their order; `chosen` says what the mark means.
    """
    paper = published("search_nmt")
    search = _with_multipliers(paper["searches"][0], multipliers)
    cells = {group.values: group for group in at_the_end(list(cells_of(search, runs).values()))}
    rows, columns = search["rows"]["values"], search["columns"]["values"]
    return page_of(
        f"{title}: {len(cells)} of {len(rows) * len(columns)} run {our_heading(runs)}",
        [_row(rate, search, cells) for rate in rows],
        *paragraphs,
        f"{TABLE4_LABELS[search['optim']]}, α = 0.5; final losses. {chosen} {WHICH_LOSSES}",
        *_differences(search, cells),
        f"{all_that_was_trained(runs)}; {provenance(runs)}." if runs else "",
        f"The paper: {cited(paper)}. It says neither by what it searched nor with how many seeds, and has no losses. "
        "What its rates multiply is not said; here it is the constant of a schedule without the hidden size "
        "([docs/deviations.md](../../docs/deviations.md)). "
        f"{where_published(search_nmt='its grid')}",
    )


def _with_multipliers(search: dict[str, Any], multipliers: Sequence[float] | None) -> dict[str, Any]:
    """Return a search with multipliers of one rate in the place of rates, 1 for the chosen one."""
    if multipliers is None:
        return search
    rows = {"key": "schedule.multiplier", "name": "multiplier", "values": list(multipliers)}
    return search | {"rows": rows, "chosen": [1, search["chosen"][1]]}


def _row(rate: float, search: dict[str, Any], cells: Cells) -> dict[str, Any]:
    """Return the row of a rate: its greatest value in the schedule, and each loss for each k."""
    ran = [group.runs[0] for (its, _), group in cells.items() if its == rate]
    # Of a multiplier the constant follows from that of any setting that was run.
    units = [constant(group.runs[0]) / its for (its, _), group in cells.items()]
    found = {
        "constant": f"{rate * units[0]:.4g}" if units else f"{rate:g}",
        "greatest rate": f"{greatest_rate(ran[0]):.1e}" if ran else NONE,
    }
    for metric, name in LOSSES.items():
        for k in search["columns"]["values"]:
            mark = CHOSEN * ([rate, k] == search["chosen"])
            found[f"{name}, k = {k}"] = replace(cell(cells.get((rate, k)), metric, digits=3), mark=mark)
    return found


def _differences(search: dict[str, Any], cells: Cells) -> list[str]:
    """Return the paragraph, with its table, on the largest difference between rates at each k, and between settings.

    Of fewer than two settings there is none.
    """
    if len(cells) < 2:
        return []
    found: Rows = []
    for metric, name in LOSSES.items():
        means = {
            (rate, k): group.final(metric).mean for (rate, k), group in cells.items() if is_measured(group, metric)
        }
        row = {"loss": name}
        for k in search["columns"]["values"]:
            row[f"k = {k}"] = largest_difference(
                {f"{rate:g}": mean for (rate, its), mean in means.items() if its == k}, 3
            )
        settings = {f"{rate:g} with k = {k}": mean for (rate, k), mean in means.items()}
        found.append(row | {"rate and k": largest_difference(settings, 3)})
    return [
        'Section 5.4: these rates "all converge to similar final losses". The largest difference between two of them:'
        f"\n\n{markdown_table(found)}"
    ]
