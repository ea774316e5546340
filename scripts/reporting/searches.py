"""The paper's searches as a page: for each optimizer its grid, with what was searched by in each cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scripts.reporting.captions import provenance
from scripts.reporting.claims import Rows
from scripts.reporting.pages import Page
from scripts.reporting.published import cited, final_number, our_heading, published, where_published
from scripts.reporting.records import Run
from scripts.reporting.series import Series, series
from scripts.reporting.style import LABELS
from scripts.reporting.trained import what_was_trained

CHOSEN, WORKED_BEST = "†", "‡"  # mark the paper's choice, and those of which it says that they worked best
BOLD = "Bold: the best of a grid's settings that were run."
MARKED = {"chosen": "†: the paper's choice.", "worked_best": "‡: among those that worked best, says the paper."}
Cells = Mapping[tuple[float, float], Series]  # by the values of row and column


@dataclass(frozen=True)
class Measure:
    """What the paper searched by: in words, as a number of one setting, and which of several is the best."""

    title: str
    number: str
    best: Callable[[Iterable[float]], float]


MEASURES = {
    "val/accuracy": Measure("final validation accuracy (%)", "accuracy", max),
    "val/original_perplexity": Measure("best validation perplexity", "perplexity", min),
    "val/loss": Measure("validation loss (nats)", "loss", min),
}


def page_of_searches(
    name: str,
    title: str,
    runs: Sequence[Run],
    unsaid: str,
    what_it_is: str,
    *sentences: str,
    labels: Mapping[str, str] = LABELS,
) -> Page:
    """Return the page of results/paper/<name>.yaml: one grid per optimizer, our best in bold, the paper's choice †.

    Settings of which the paper says that they worked best are marked ‡.

    `unsaid` is what the paper does not say of its searches, `what_it_is` says why the best number is optimistic, and
    further `sentences` stand behind what was trained.
    """
    paper = published(name)
    measure = MEASURES[paper["metric"]]
    marked = {key for search in paper["searches"] for key in MARKED if key in search}
    sections = []
    for search in paper["searches"]:
        cells = cells_of(search, runs)
        points = len(search["rows"]["values"]) * len(search["columns"]["values"])
        heading = f"{labels[search['optim']]}: {len(cells)} of {points} run {our_heading(runs)}"
        sections.append((heading, grid(search, cells, paper["metric"])))
    trained = [f"{what_was_trained(runs[0])}; {provenance(runs)}."] if runs else []
    return Page(
        f"{title}: {measure.title}",
        sections,
        [
            " ".join([BOLD, *(words for key, words in MARKED.items() if key in marked)]),
            " ".join([*trained, *sentences]),
            f"The best of a grid is optimistic: {what_it_is} Settings that lie as near to each other as two "
            "seeds of one setting do are not told apart.",
            f"The paper: {cited(paper)}. It says neither {unsaid} nor with how many seeds, and "
            f"has no {measure.number} of a setting that it did not choose. {where_published(**{name: 'its grids'})}",
        ],
    )


def cells_of(search: dict[str, Any], runs: Sequence[Run]) -> Cells:
    """Return the series of a search's grid that were run."""
    rows, columns = search["rows"], search["columns"]
    of_optimizer = [run for run in runs if run.config.optim.name == search["optim"]]
    return {
        group.values: group
        for group in series(of_optimizer, by=(rows["key"], columns["key"]))
        if group.values[0] in rows["values"] and group.values[1] in columns["values"]
    }


def grid(search: dict[str, Any], cells: Cells, metric: str) -> Rows:
    """Return the rows of a search's grid; the best is in bold where there is a choice."""
    rows, columns = search["rows"], search["columns"]
    means = {values: group.final(metric).mean for values, group in cells.items()}
    finite = [mean for mean in means.values() if math.isfinite(mean)]
    best = MEASURES[metric].best(finite) if len(finite) > 1 else None  # of one there is no choice
    found: Rows = []
    for row in rows["values"]:
        values = {}
        for column in columns["values"]:
            is_best = best is not None and means.get((row, column)) == best
            mark = CHOSEN * ([row, column] == search.get("chosen"))
            mark += WORKED_BEST * ([row, column] in search.get("worked_best", []))
            number = final_number(cells.get((row, column)), metric)
            values[f"{columns['name']} {column:g}"] = replace(number, bold=is_best, mark=mark)
        found.append({rows["name"]: f"{row:g}", **values})
    return found
