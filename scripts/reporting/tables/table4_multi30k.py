"""A stand-in for Table 4 on one machine: BLEU of its four rows on Multi30k, which the paper does not have."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page, page_of
from scripts.reporting.published import where_published
from scripts.reporting.records import Run
from scripts.reporting.translation import STAND_IN
from scripts.reporting.translation_tables import (
    anchors,
    bleu_rows,
    by_optimizer,
    differences,
    early,
    leads,
    what_is_shown,
)

DRAWS = (Draws("table4_multi30k"),)


def page(runs: Sequence[Run]) -> Page:
    """Return the page: BLEU, leads over Adam, how far optimizers differ, and what others measured without images."""
    groups = by_optimizer(runs)
    return page_of(
        "A stand-in for Table 4: BLEU on Multi30k English-German",
        bleu_rows("multi30k", groups, runs),
        f"**{STAND_IN}.**",
        *what_is_shown(groups, runs),
        leads("multi30k", groups, runs),
        *differences("multi30k", groups, runs),
        *early(groups),
        anchors(
            "bleu_multi30k",
            "multi30k",
            "What others measured on the same test set, of tokens in lower case where ours is of text with its case: "
            "near to each other, not to the point.",
        ),
        where_published(bleu_multi30k="these numbers, and where they were read"),
    )
