"""Table 4: BLEU on WMT14 English-German, beside the paper's numbers and independent ones."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page, page_of
from scripts.reporting.published import cited, published, where_published
from scripts.reporting.records import Run
from scripts.reporting.translation_tables import (
    anchors,
    bleu_rows,
    by_optimizer,
    differences,
    early,
    leads,
    rows_by_optimizer,
    what_is_shown,
)

DRAWS = (Draws("table4_wmt14"),)


def page(runs: Sequence[Run]) -> Page:
    """Return the page: the table, leads over Adam, what Section 5.4 says of losses, and what others measured."""
    paper = published("table4")
    papers, groups = rows_by_optimizer(paper), by_optimizer(runs)
    others = published("bleu_wmt14")
    return page_of(
        "Table 4: BLEU on WMT14 English-German",
        bleu_rows("wmt14", groups, runs, papers, {others["optim"]: others["rows"][0]}),
        *what_is_shown(groups, runs),
        leads("wmt14", groups, runs, papers),
        *differences("wmt14", groups, runs, papers),
        *early(groups),
        anchors(
            "bleu_wmt14",
            "wmt14",
            "What others measured with the same model and Adam, none of them in the paper's setting; another kind of "
            "BLEU is another scale. The first has a column above, as its BLEU is of the kind of ours:",
        ),
        f"The paper: {cited(paper)}, after {paper['updates']:,} updates. It has no deviations, and says neither with "
        "how many seeds nor with which beam, nor whether checkpoints were averaged.",
        where_published(table4="the paper's numbers", bleu_wmt14="what others measured, and where it was read"),
    )
