"""At how many horizons Lookahead is better, by grid (Figure 12)."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import COUNTS, MARGINS, Rows, claims_of, picked
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("fig12_finite_horizon"),)
DOCUMENT = "docs/quadratic.md"


def rows(runs: Sequence[Run]) -> Rows:
    run = analysis_run(runs, "finite_horizon")
    claims = claims_of(run).assign(case=lambda rows: rows["case"].replace("", "the paper's grid"))
    at_multiples = {f"at_multiples_{name}": f"{name} at multiples of k" for name in COUNTS}
    firsts = {"first_strict_win": "first win", "last_fail": "last fail"}
    edges = {
        f"{name.lower()}_at_the_largest_rate_until": f"{name} at the largest rate until"
        for name in ("SGD", "Lookahead")
    }
    return picked(claims, {"case": "grid", **COUNTS, **at_multiples, **firsts, **MARGINS, **edges})
