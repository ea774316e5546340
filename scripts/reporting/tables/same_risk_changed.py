"""Where Lookahead has the same risk sooner, with one value changed (Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import ALPHAS, COUNTS, MARGINS, Rows, changed, claims_of
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("fig03_noisy_quadratic"),)
DOCUMENT = "docs/quadratic.md"


def rows(runs: Sequence[Run]) -> Rows:
    run = analysis_run(runs, "convergence")
    return changed(claims_of(run, "the same risk sooner"), COUNTS | MARGINS | ALPHAS)
