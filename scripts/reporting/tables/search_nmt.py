"""Appendix C.4's search for Lookahead on WMT14, with Section 5.4's claim that all rates reach similar losses."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page
from scripts.reporting.records import Run
from scripts.reporting.translation_search import page_of_rates

DRAWS = (Draws("search_nmt_lookahead"),)


def page(runs: Sequence[Run]) -> Page:
    """Return the page: final losses for each rate and k, and their largest differences."""
    return page_of_rates(runs, "Appendix C.4's search, WMT14 English-German")
