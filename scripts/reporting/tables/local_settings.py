"""Whether meeting every k steps has the lower loss at equal settings."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import COUNTS, MARGINS, Rows, claims_with, picked
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("local_workers"),)
DOCUMENT = "docs/outer_momentum.md"


def rows(runs: Sequence[Run]) -> Rows:
    claims = claims_with(analysis_run(runs, "local_workers"), "at equal settings")
    return picked(claims, {"case": "case", **COUNTS, **MARGINS})
