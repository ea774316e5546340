"""On how many of momentum's stable learning rates Lookahead diverges (Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import Rows, claims_of, picked
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("fig04_momentum_quadratic"),)
DOCUMENT = "docs/quadratic.md"


def rows(runs: Sequence[Run]) -> Rows:
    run = analysis_run(runs, "momentum_rates")
    claims = claims_of(run, "Lookahead diverges").copy()
    claims["share_of_rates"] *= 100
    return picked(claims, {"case": "β, velocity", "share_of_rates": "of momentum's stable learning rates (%)"})
