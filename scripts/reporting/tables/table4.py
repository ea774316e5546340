"""Table 4: BLEU on WMT14 English-German, beside the paper's numbers and independent ones."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.draws import Draws
from scripts.reporting.published import cited, page_of, published
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


def page(runs: Sequence[Run]) -> str:
    """Return the page: the table, leads over Adam, what Section 5.4 says of losses, and what others measured."""
    paper = published("table4")
    papers, groups = rows_by_optimizer(paper), by_optimizer(runs)
    return page_of(
        "Table 4: BLEU on WMT14 English-German",
        bleu_rows(groups, runs, papers),
        *what_is_shown(groups, runs),
        leads(groups, runs, papers),
        *differences(groups, runs, papers),
        *early(groups),
        anchors(
            "bleu_wmt14",
            "wmt14",
            "What others measured with the same model and Adam, none of them in the paper's setting; another kind of "
            "BLEU is another scale:",
        ),
        f"The paper: {cited(paper)}, after {paper['updates']:,} updates. It has no deviations, and says neither with "
        "how many seeds nor with which beam, nor whether checkpoints were averaged.",
        "[results/paper](../paper/table4.yaml) has the published numbers, with their sources; what others measured is "
        "in [bleu_wmt14.yaml](../paper/bleu_wmt14.yaml).",
    )
