"""Whether outer momentum is sooner, with one value changed."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.claims import Rows, changed_labels, claims_with, verdict_in_words
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, analysis_run

DRAWS = (Draws("outer_momentum"),)
DOCUMENT = "docs/outer_momentum.md"
COLUMNS = {
    "Lookahead with outer momentum is sooner than Lookahead": "heavy ball over Lookahead",
    "Lookahead with outer Nesterov momentum is sooner than Lookahead": "Nesterov over Lookahead",
    "Lookahead with outer Nesterov momentum is sooner than SGD with Nesterov momentum": "Nesterov over SGD with it",
}


def rows(runs: Sequence[Run]) -> Rows:
    run = analysis_run(runs, "outer_momentum")
    claims = claims_with(run, " is sooner than ", changed=True)
    found: dict[str, dict[str, str]] = {}
    for label, claim in zip(changed_labels(claims), claims.to_dict("records"), strict=True):
        if claim["claim"] in COLUMNS:
            when = "in the end" if claim["case"] == "in the long run" else "after the updates"
            row = found.setdefault(label, {"changed": label})
            row[f"{COLUMNS[claim['claim']]}, {when}"] = verdict_in_words(claim)
    return list(found.values())
