"""Whether meeting every k steps is sooner, with one value changed."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import Rows, changed_labels, claims_with, verdict_in_words
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("local_workers"),)
DOCUMENT = "docs/outer_momentum.md"


def rows(runs: Sequence[Run]) -> Rows:
    """Return a row for each changed value and k; a column for each claim."""
    claims = claims_with(analysis_run(runs, "local_workers"), " is sooner than SGD at every step", changed=True)
    found: dict[tuple[str, str], dict[str, str]] = {}
    for label, claim in zip(changed_labels(claims), claims.to_dict("records"), strict=True):
        k, _, when = claim["case"].partition(", ")
        if when != "in the long run":
            row = found.setdefault((label, k), {"changed": label, "k": k.removeprefix("k ")})
            row[claim["claim"].removesuffix(" is sooner than SGD at every step")] = verdict_in_words(claim)
    return list(found.values())
