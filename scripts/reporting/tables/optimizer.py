"""How far the optimizer itself is from the theory."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import Rows, claims_of, picked
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("theory_and_optimizer"),)
DOCUMENT = "docs/quadratic.md"


def rows(runs: Sequence[Run]) -> Rows:
    run = analysis_run(runs, "optimizer_runs")
    columns = {
        "claim": "claim",
        "case": "velocity",
        "comparisons": "comparisons",
        "largest_score": "largest score (standard errors)",
        "share_above_2": "share above 2",
        "largest_relative_error": "largest relative error",
        "median_relative_error": "median relative error",
    }
    return picked(claims_of(run), columns)
