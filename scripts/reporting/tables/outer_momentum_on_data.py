"""Beyond the paper: what momentum on the outer update gives on data, around SGD and AdamW at their best rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.reporting.beyond import METHODS, NAMES, TRIED, cells, results
from scripts.reporting.captions import provenance
from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page
from scripts.reporting.published import our_heading
from scripts.reporting.records import Run
from scripts.reporting.series import Series, series
from scripts.reporting.style import TASKS
from scripts.reporting.trained import what_was_trained

DRAWS = tuple(Draws(f"beyond_{task}") for task in TRIED)


def page(runs: Sequence[Run]) -> Page:
    """Return the page: for each data set every method's best of six trials beside its inner optimizer."""
    sections, trained = [], []
    for task in TRIED:
        its = [run for run in runs if run.config.task.name == task]
        rows = _rows(series(its), task)
        sections.append((f"{TASKS[task]}, {our_heading(runs)}", rows or [{"method": "not run yet"}]))
        trained += [f"{TASKS[task]}: {what_was_trained(its[0])}."] if its else []
    return Page(
        "Beyond the paper: momentum on the outer update, on data",
        sections,
        [
            "Mean ± one standard deviation over seeds. Settings are the best of six trials of each method "
            "([trials](outer_momentum_trials@proxy.md)), by validation and seed 1, which is among these seeds. SNOO: "
            "Nesterov's momentum μ on the outer update, α = 0.7. Differences are those to the inner optimizer alone, "
            "with Welch's 95 % interval; the report has the verdicts.",
            " ".join([*trained, f"{provenance(runs)}." if runs else ""]),
        ],
    )


def _rows(groups: Sequence[Series], task: str) -> list[dict[str, Any]]:
    """Return a row for each method that has run."""
    found = {group.values[0]: group for group in groups}
    return [
        {
            "method": NAMES[optim],
            **cells(found[optim]),
            **results(found[optim], None if optim == inner else found.get(inner), task),
        }
        for inner in TRIED[task]
        for optim in METHODS[inner]
        if optim in found
    ]
