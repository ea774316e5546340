"""Appendix C.1's searches on CIFAR: for each optimizer its grid, with the final validation accuracy of each cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reporting.captions import provenance
from scripts.reporting.claims import Rows
from scripts.reporting.draws import Draws
from scripts.reporting.markdown import markdown_table
from scripts.reporting.published import accuracy_text, cited, our_heading, published
from scripts.reporting.records import Run
from scripts.reporting.series import Series, series
from scripts.reporting.style import LABELS, TASKS
from scripts.reporting.trained import what_was_trained

DRAWS = (Draws("search_sgd"), Draws("search_polyak"), Draws("search_adamw"), Draws("search_lookahead"))
CHOSEN = " †"  # marks the paper's choice
Cells = Mapping[tuple[float, float], Series]  # by the values of row and column


def page(runs: Sequence[Run]) -> str:
    """Return the page: one grid per optimizer, our best in bold and the paper's choice marked."""
    paper = published("searches")
    sections = []
    for search in paper["searches"]:
        cells = cells_of(search, runs)
        points = len(search["rows"]["values"]) * len(search["columns"]["values"])
        name = LABELS[search["optim"]]
        sections += [
            f"## {name}: {len(cells)} of {points} run {our_heading(runs)}",
            markdown_table(grid(search, cells, paper["metric"])),
        ]
    data_set = TASKS[runs[0].config.task.name]
    return "\n\n".join(
        [
            f"# Appendix C.1's searches, {data_set}: final validation accuracy (%)",
            *sections,
            "Bold: the best of a grid's settings that were run. †: the paper's choice.",
            f"{what_was_trained(runs[0])}; {provenance(runs)}.",
            "The best of a grid is optimistic: it was chosen by the very accuracy that is shown, of one seed per "
            "setting, on the test set, which is the validation set too. Settings that lie as near to each other as two "
            "seeds of one setting do are not told apart.",
            f"The paper: {cited(paper)}. It says neither on which data set it searched nor with how many seeds, and "
            "has no accuracy of a setting that it did not choose. [results/paper](../paper/searches.yaml) has its "
            "grids.\n",
        ]
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
    """Return the rows of a search's grid as text; the best is in bold where there is a choice."""
    rows, columns = search["rows"], search["columns"]
    means = {values: group.final(metric).mean for values, group in cells.items()}
    finite = [mean for mean in means.values() if math.isfinite(mean)]
    best = max(finite) if len(finite) > 1 else None  # of one there is no choice
    found: Rows = []
    for row in rows["values"]:
        texts = {}
        for column in columns["values"]:
            text = accuracy_text(cells.get((row, column)), metric)
            if best is not None and means.get((row, column)) == best:
                text = f"**{text}**"
            texts[f"{columns['name']} {column:g}"] = text + CHOSEN * ([row, column] == search["chosen"])
        found.append({rows["name"]: f"{row:g}", **texts})
    return found
