"""Appendix C.3's searches on Penn Treebank, with the best validation perplexity of each setting."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page
from scripts.reporting.penn_treebank import AS_THE_ORIGINAL, UNSAID, WORKED_BEST, precision_in_words
from scripts.reporting.records import Run
from scripts.reporting.searches import page_of_searches
from scripts.reporting.style import TABLE3_LABELS

DRAWS = (Draws("search_ptb_sgd"), Draws("search_ptb_adam"), Draws("search_ptb_lookahead"))


def page(runs: Sequence[Run]) -> Page:
    """Return the page: one grid per optimizer."""
    around = {run.config.optim.name: run for run in runs if "lookahead" in run.config.optim}
    rates = " and ".join(f"{TABLE3_LABELS[name]} at {run.config.optim.lr:g}" for name, run in around.items())
    return page_of_searches(
        "search_ptb",
        "Appendix C.3's searches, Penn Treebank",
        runs,
        UNSAID,
        "it was chosen by the very perplexity that is shown, of one seed per setting.",
        *precision_in_words(runs),
        AS_THE_ORIGINAL,
        *([f"The inner rate: {rates}."] if rates else []),
        f"{WORKED_BEST}.",
        labels=TABLE3_LABELS,
    )
