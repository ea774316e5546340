"""Figure 11 at its two choices of alpha and updates, with when the first alpha wins."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.captions import grid_in_words
from scripts.reporting.claims import COUNTS, MARGINS, Rows, claims_of, picked
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run

DRAWS = (Draws("fig11_noisy_convergence"),)
DOCUMENT = "docs/quadratic.md"


def rows(runs: Sequence[Run]) -> Rows:
    """Return Figure 11's rows: at its two choices of alpha and updates, with when the first alpha wins."""
    found = []
    for run in sorted(runs, key=lambda run: run.config.analysis.updates):
        claims = claims_of(run, "the same risk sooner", "an alpha wins early")
        first = claims["first_win"].max() if "first_win" in claims else None
        claims = claims[(claims["changed"] == "") & (claims["claim"] == "the same risk sooner")]
        columns = {"updates": "updates", "alphas": "α", **COUNTS, **MARGINS, "first": "first win of any α"}
        analysis = run.config.analysis
        alphas = grid_in_words(analysis.alphas)
        found += picked(claims.assign(updates=analysis.updates, alphas=alphas, first=first), columns)
    return found
