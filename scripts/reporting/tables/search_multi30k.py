"""A stand-in for Appendix C.4's search on one machine: its rates and k on Multi30k, which the paper does not have."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.draws import Draws
from scripts.reporting.records import Run
from scripts.reporting.translation import STAND_IN
from scripts.reporting.translation_search import page_of_rates

DRAWS = (Draws("search_multi30k_lookahead"),)


def page(runs: Sequence[Run]) -> str:
    """Return the page: final losses for each rate and k, and their largest differences."""
    title = "A stand-in for Appendix C.4's search: Multi30k English-German"
    return page_of_rates(runs, title, f"**{STAND_IN}.**")
