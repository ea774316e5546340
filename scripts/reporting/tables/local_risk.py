"""Whether meeting every k steps is sooner at equal final loss, by k."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import Rows, claims_with, verdict_in_words
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("local_workers"),)
DOCUMENT = "docs/outer_momentum.md"


def rows(runs: Sequence[Run]) -> Rows:
    """Return a row for each method, what it is compared with and when; a column for each k."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for claim in claims_with(analysis_run(runs, "local_workers"), " at every step").to_dict("records"):
        k, _, when = claim["case"].partition(", ")
        local, _, other = claim["claim"].partition(" is sooner than ")
        row = found.setdefault((claim["claim"], when), {"every k steps": local, "than": other, "when": when})
        row[k] = verdict_in_words(claim)
    return list(found.values())
