"""Appendix C.1's searches on CIFAR: for each optimizer its grid, with the final validation accuracy of each cell."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page
from scripts.reporting.records import Run
from scripts.reporting.searches import page_of_searches
from scripts.reporting.style import TASKS

DRAWS = (Draws("search_sgd"), Draws("search_polyak"), Draws("search_adamw"), Draws("search_lookahead"))


def page(runs: Sequence[Run]) -> Page:
    """Return the page: one grid per optimizer."""
    return page_of_searches(
        "searches",
        f"Appendix C.1's searches, {TASKS[runs[0].config.task.name if runs else 'cifar10']}",
        runs,
        "on which data set it searched",
        "it was chosen by the very accuracy that is shown, of one seed per setting, on the test set, which is the "
        "validation set too.",
    )
