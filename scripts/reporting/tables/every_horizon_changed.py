"""At how many horizons Lookahead is better, with one value changed (Figure 12)."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import COUNTS, Rows, changed, claims_of
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("fig12_finite_horizon"),)
DOCUMENT = "docs/quadratic.md"


def rows(runs: Sequence[Run]) -> Rows:
    """Return the counts on the grid, against a finer one for SGD and on a wider range: one row per changed value."""
    run = analysis_run(runs, "finite_horizon")
    claims = claims_of(run, "Lookahead dominates at every horizon")
    of_case = {
        name: changed(claims[claims["case"].str.endswith(end)], COUNTS)
        for name, end in (("finer", "times finer"), ("wider", "range of learning rates"))
    }
    found = changed(claims[claims["case"] == ""], COUNTS | {"margin_median": "median margin"})
    for name, others in of_case.items():
        for row, other in zip(found, others, strict=True):
            row |= {f"{count}, {name}": other[count] for count in COUNTS}
    return found
