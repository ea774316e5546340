"""Beyond the paper: SGD and AdamW, and Lookahead and SNOO around them, with as many trials each, on three data sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scripts.reporting.beyond import KEYS, METHODS, NAMES, TRIED, cells, order
from scripts.reporting.captions import provenance
from scripts.reporting.cells import digits_of
from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page
from scripts.reporting.published import final_number, our_heading, seeds_number
from scripts.reporting.records import Run
from scripts.reporting.searches import BOLD, MEASURES
from scripts.reporting.series import Series, series
from scripts.reporting.style import TASKS
from scripts.reporting.trained import what_was_trained

METRICS = {"cifar100": "val/accuracy", "ptb": "val/original_perplexity", "multi30k": "val/loss"}
DRAWS = tuple(
    Draws(f"beyond_{task}_{optim}") for task, inner in TRIED.items() for name in inner for optim in METHODS[name]
)


def page(runs: Sequence[Run]) -> Page:
    """Return the page: for each data set every trial of each method, the best of a method in bold."""
    sections, trained = [], []
    for task, inner in TRIED.items():
        its = [run for run in runs if run.config.task.name == task]
        groups = series(its, by=("optim.name", *KEYS))
        heading = f"{TASKS[task]}: {MEASURES[METRICS[task]].title}, {our_heading(runs)}"
        methods = [optim for name in inner for optim in METHODS[name]]
        rows = [row for optim in methods for row in _rows(optim, groups, METRICS[task])]
        sections.append((heading, rows or [{"method": "not run yet"}]))
        if its:
            trained.append(f"{TASKS[task]}: {what_was_trained(its[0])}.")
    return Page(
        "Beyond the paper: trials of momentum on the outer update",
        sections,
        [
            f"{BOLD} Each method has six trials at most, of one seed: SGD and AdamW of their learning rates, Lookahead "
            "of k and α, SNOO (Nesterov's momentum μ on the outer update, α = 0.7) of k and μ; the latter two at the "
            "inner optimizer's best rate. The best of six is optimistic for each of them alike, and differences as "
            "small as those between seeds say nothing: the best of each is run with three seeds "
            "(`experiment=beyond_<task>`).",
            " ".join([*trained, f"{provenance(runs)}." if runs else ""]),
        ],
    )


def _rows(optim: str, groups: Sequence[Series], metric: str) -> list[dict[str, Any]]:
    """Return the trials of a method, in the order of their settings."""
    its = sorted((group for group in groups if group.values[0] == optim), key=order)
    means = [group.final(metric).mean for group in its]
    finite = [mean for mean in means if math.isfinite(mean)]
    best = MEASURES[metric].best(finite) if len(finite) > 1 else None
    return [
        {
            "method": NAMES[optim],
            **cells(group),
            MEASURES[metric].number: replace(final_number(group, metric, digits_of(metric)), bold=mean == best),
            "seeds": seeds_number(group),
        }
        for group, mean in zip(its, means, strict=True)
    ]
