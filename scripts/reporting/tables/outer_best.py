"""Which method is sooner than which at equal final loss, each at its own best settings."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import COUNTS, ENDS, Rows, claims_with, picked
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("outer_momentum"),)
DOCUMENT = "docs/outer_momentum.md"


def rows(runs: Sequence[Run]) -> Rows:
    claims = claims_with(analysis_run(runs, "outer_momentum"), " is sooner than ")
    best = claims[~claims["claim"].str.contains("alpha|grid")]
    return picked(best, {"claim": "claim", "case": "when", **COUNTS, **ENDS})
