"""Where Lookahead has the same risk sooner (Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import COUNTS, MARGINS, Rows, claims_of, picked
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("fig03_noisy_quadratic"),)
DOCUMENT = "docs/quadratic.md"


def rows(runs: Sequence[Run]) -> Rows:
    run = analysis_run(runs, "convergence")
    return picked(claims_of(run), {"claim": "claim", **COUNTS, **MARGINS})
