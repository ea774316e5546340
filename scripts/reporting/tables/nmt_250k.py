"""Appendix C.4: BLEU on newstest2014 after 250,000 updates, where the paper has around 27 for all."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page, page_of
from scripts.reporting.published import cited, published, where_published
from scripts.reporting.records import Run
from scripts.reporting.style import TABLE4_LABELS
from scripts.reporting.trained import PAIRS
from scripts.reporting.translation_tables import (
    bleu_rows,
    by_optimizer,
    differences,
    leads,
    what_is_shown,
)

DRAWS = (Draws("wmt14_250k"),)


def page(runs: Sequence[Run]) -> Page:
    """Return the page: the table, leads over Adam, and how far optimizers differ."""
    longer, groups = published("table4")["longer"], by_optimizer(runs)
    papers = {name: {"val": None, "test": longer["test"]} for name in TABLE4_LABELS}
    return page_of(
        f"Appendix C.4: BLEU on WMT14 English-German after {longer['updates']:,} updates",
        bleu_rows("wmt14", groups, runs, papers),
        *what_is_shown(groups, runs),
        leads("wmt14", groups, runs),
        *differences("wmt14", groups, runs),
        f'The paper ({cited(longer)}): after 250k steps "they can all reach around 27 BLEU on Newstest2014". Table 4 '
        f"(`make table4`) is after {PAIRS['wmt14'].updates:,}.",
        where_published(table4="the paper's numbers"),
    )
