"""Beyond the paper: SGD, Lookahead and SNOO around it, with as many trials each, on two data sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scripts.reporting.captions import provenance
from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page
from scripts.reporting.published import final_number, our_heading, seeds_number
from scripts.reporting.records import Run
from scripts.reporting.searches import BOLD, MEASURES
from scripts.reporting.series import Series, series
from scripts.reporting.style import LABELS, TASKS
from scripts.reporting.trained import what_was_trained

METRICS = {"cifar100": "val/accuracy", "ptb": "val/original_perplexity"}
METHODS = ("sgd", "la_sgd", "snoo_sgd")
SETTINGS = {"optim.lr": "learning rate", "optim.k": "k", "optim.alpha": "α", "optim.outer_momentum": "μ"}
DRAWS = tuple(Draws(f"beyond_{task}_{optim}") for task in METRICS for optim in METHODS)


def page(runs: Sequence[Run]) -> Page:
    """Return the page: for each data set every trial of each method, the best of a method in bold."""
    sections, trained = [], []
    for task, metric in METRICS.items():
        its = [run for run in runs if run.config.task.name == task]
        groups = series(its, by=("optim.name", *SETTINGS))
        heading = f"{TASKS[task]}: {MEASURES[metric].title}, {our_heading(runs)}"
        rows = [row for optim in METHODS for row in _rows(optim, groups, metric)]
        sections.append((heading, rows or [{"method": "not run yet"}]))
        if its:
            trained.append(f"{TASKS[task]}: {what_was_trained(its[0])}.")
    return Page(
        "Beyond the paper: momentum on the outer update, tried on data",
        sections,
        [
            f"{BOLD} Each method has six trials at most, of one seed: SGD of its learning rate, Lookahead of k and α, "
            "SNOO (Nesterov's momentum μ on the outer update, α = 0.7) of k and μ; the latter two at SGD's best rate. "
            "The best of six is optimistic for each of them alike, and differences as small as those between seeds say "
            "nothing: the report has the verdicts over seeds.",
            " ".join([*trained, f"{provenance(runs)}." if runs else ""]),
            "The theory on quadratics, where outer momentum is sooner, is in "
            "[docs/outer_momentum.md](../../docs/outer_momentum.md).",
        ],
    )


def _rows(optim: str, groups: Sequence[Series], metric: str) -> list[dict[str, Any]]:
    """Return the trials of a method, in the order of their settings."""
    its = sorted((group for group in groups if group.values[0] == optim), key=_order)
    means = [group.final(metric).mean for group in its]
    finite = [mean for mean in means if math.isfinite(mean)]
    best = MEASURES[metric].best(finite) if len(finite) > 1 else None
    return [
        {
            "method": LABELS[optim],
            **{name: _text(value) for name, value in zip(SETTINGS.values(), _settings(group), strict=True)},
            MEASURES[metric].number: replace(final_number(group, metric), bold=mean == best),
            "seeds": seeds_number(group),
        }
        for group, mean in zip(its, means, strict=True)
    ]


def _settings(group: Series) -> list[float | None]:
    """Return the values of a setting; a record of Lookahead from before there was outer momentum has none of it."""
    optim, *values, momentum = group.values
    return [*values, 0.0 if momentum is None and optim != "sgd" else momentum]


def _order(group: Series) -> tuple[float, ...]:
    return tuple(-1.0 if value is None else float(value) for value in _settings(group))


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
