"""Up to where Lookahead is better than momentum, and by how much (Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import Rows, claims_of, picked
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("fig04_momentum_quadratic"),)
DOCUMENT = "docs/quadratic.md"


def rows(runs: Sequence[Run]) -> Rows:
    """Return one row per coefficient, spectrum and inner state: up to where Lookahead is better, and by how much."""
    run = analysis_run(runs, "momentum_rates")
    claims = claims_of(run)
    under = claims[claims["claim"] == "better when under-damped"].set_index("case")
    over = claims[claims["claim"] == "worse when over-damped"].set_index("case")
    under["under"], under["over"] = under["margin_median"], -over["margin_median"]
    columns = {
        "case": "β, spectrum, velocity",
        "critical": "critical condition number",
        "last_crossing": "last crossing seen",
        "crossings": "crossings seen",
        "holds": "holds, under-damped",
        "fails": "fails, under-damped",
        "under": "median margin, under-damped",
        "over": "median margin, over-damped",
    }
    return picked(under.reset_index(), columns)
