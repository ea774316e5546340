"""How far the optimizer with outer momentum is from its theory."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import Rows, claims_of, picked
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("outer_momentum_and_optimizer"),)
DOCUMENT = "docs/outer_momentum.md"


def rows(runs: Sequence[Run]) -> Rows:
    columns = {
        "claim": "claim",
        "comparisons": "comparisons",
        "largest_score": "largest score (standard errors)",
        "share_above_2": "share above 2",
    }
    return picked(claims_of(analysis_run(runs, "outer_momentum_runs")), columns)
