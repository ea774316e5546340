"""How many settings of a grid are sooner than SGD of the same final loss, for each momentum."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import COUNTS, MARGINS, Rows, claims_with, picked
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("outer_momentum"),)
DOCUMENT = "docs/outer_momentum.md"


def rows(runs: Sequence[Run]) -> Rows:
    claims = claims_with(analysis_run(runs, "outer_momentum"), "a setting of the grid")
    counted = {"beyond": "final loss beyond SGD's", "unstable": "unstable"}
    return picked(claims, {"case": "momentum", **COUNTS, **MARGINS, **counted})
