"""Appendix C.2's search of SGD's learning rate on ImageNet, with the final validation accuracy of each rate."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page
from scripts.reporting.records import Run
from scripts.reporting.searches import page_of_searches

DRAWS = (Draws("search_imagenet_sgd"),)


def page(runs: Sequence[Run]) -> Page:
    """Return the page: one row per rate."""
    return page_of_searches(
        "search_imagenet",
        "Appendix C.2's search, ImageNet",
        runs,
        "with which of its two schedules it searched (here: the conventional one)",
        "it was chosen by the very accuracy that is shown, of one seed per setting.",
    )
