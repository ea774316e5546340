"""Lookahead with settings in use, at equal final loss, beside the best of SGD and of Lookahead."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import COUNTS, ENDS, Rows, claims_with, picked
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("outer_momentum"),)
DOCUMENT = "docs/outer_momentum.md"


def rows(runs: Sequence[Run]) -> Rows:
    claims = claims_with(analysis_run(runs, "outer_momentum"), "Lookahead with alpha")
    return picked(claims, {"claim": "claim", "case": "when", **COUNTS, **ENDS})
