"""Beyond the paper: two workers that meet at the outer update alone, beside two that sum their gradients (DDP)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.reporting.beyond import METHODS, NAMES, cells, order, results
from scripts.reporting.captions import provenance
from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page
from scripts.reporting.published import our_heading
from scripts.reporting.records import Run
from scripts.reporting.series import Series, series
from scripts.reporting.style import TASKS
from scripts.reporting.trained import what_was_trained

DATA = ("digits", "ptb")
WAYS = {False: "sum gradients at every step (DDP)", True: "meet at the outer update"}
DRAWS = tuple(Draws(f"workers_{task}_{optim}") for task in DATA for optim in METHODS["sgd"])


def page(runs: Sequence[Run]) -> Page:
    """Return the page: for each data set every optimizer with both ways of working together."""
    sections, trained = [], []
    for task in DATA:
        its = [run for run in runs if run.config.task.name == task]
        rows = _rows(series(its, by=("optim.name", "optim.k", "optim.local")), task)
        sections.append((f"{TASKS[task]}, {our_heading(runs)}", rows or [{"method": "not run yet"}]))
        if its and task != "digits":  # which are whole
            trained.append(f"{TASKS[task]}: {what_was_trained(its[0])}.")
    return Page(
        "Beyond the paper: two workers that meet every k steps, on data",
        sections,
        [
            "Mean ± one standard deviation over seeds. Each of two processes has half of every batch. Differences are "
            "those to the same optimizer with DDP, with Welch's 95 % interval; the report has the verdicts. Exchanged "
            "are the weights, once in k steps, for the gradients of each.",
            " ".join([*trained, f"{provenance(runs)}." if runs else ""]),
        ],
    )


def _rows(groups: Sequence[Series], task: str) -> list[dict[str, Any]]:
    found = {(name, k, bool(local)): group for group in groups for name, k, local in [group.values]}
    methods = METHODS["sgd"]
    ordered = sorted(found, key=lambda its: (methods.index(its[0]), order(found[its]), its[2]))
    return [
        {
            "method": NAMES[name],
            "processes": WAYS[local],
            **cells(found[name, k, local]),
            **results(found[name, k, local], found.get((name, k, False)) if local else None, task),
        }
        for name, k, local in ordered
    ]
