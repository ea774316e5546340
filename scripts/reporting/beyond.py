"""What is tried beyond the paper: momentum on the outer update and local workers, on data; methods and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.reporting.cells import Number, digits_of
from scripts.reporting.draws import value_of
from scripts.reporting.published import NOT_MEASURED, final_number, is_measured, seeds_number
from scripts.reporting.report.intervals import of_difference
from scripts.reporting.report.verdicts import interval_text
from scripts.reporting.series import Series

METHODS = {  # around each inner optimizer, that one first
    "sgd": ("sgd", "la_sgd", "snoo_sgd"),
    "adamw": ("adamw", "la_adamw", "snoo_adamw"),
}
TRIED = {"cifar100": ("sgd", "adamw"), "ptb": ("sgd", "adamw"), "multi30k": ("adamw",)}  # inner optimizers, by data
NAMES = {
    "sgd": "SGD",
    "la_sgd": "Lookahead (SGD)",
    "snoo_sgd": "SNOO (SGD)",
    "adamw": "AdamW",
    "la_adamw": "Lookahead (AdamW)",
    "snoo_adamw": "SNOO (AdamW)",
}
METRICS = {  # of results, by data, in words
    "cifar100": {"val/accuracy": "validation accuracy (%)"},
    "ptb": {
        "val/original_perplexity": "validation perplexity",
        "test/original_perplexity": "test perplexity",
    },
    "multi30k": {"val/loss": "validation loss (nats)", "test/bleu": "test BLEU"},
    "digits": {"val/accuracy": "validation accuracy (%)", "val/loss": "validation loss (nats)"},
}
KEYS = ("optim.lr", "schedule.multiplier", "optim.k", "optim.alpha", "optim.outer_momentum")
SETTINGS = ("learning rate", "k", "α", "μ")


def setting(config: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the rate, k, α and outer momentum μ of a run, None of what its optimizer does not have.

    A record of Lookahead from before there was outer momentum has none of it.
    """
    lr, multiplier, k, alpha, momentum = (value_of(config, key) for key in KEYS)
    if k is not None and momentum is None:
        momentum = 0.0
    rate = lr * (1 if multiplier is None else multiplier)
    return dict(zip(SETTINGS, (rate, k, alpha, momentum), strict=True))


def cells(group: Series) -> dict[str, str]:
    """Return the setting of a series as cells of a table, empty where its optimizer has no such value."""
    found = setting(group.runs[0].config)
    return {name: "" if value is None else f"{value:g}" for name, value in found.items()}


def order(group: Series) -> tuple[float, ...]:
    """Return a key by which the settings of a method sort."""
    return tuple(-1.0 if value is None else float(value) for value in setting(group.runs[0].config).values())


def results(group: Series, beside: Series | None, task: str) -> dict[str, Any]:
    """Return the cells with the metrics of a series, behind each its difference to that of another series, if any."""
    found: dict[str, Any] = {}
    for metric, name in METRICS[task].items():
        there = is_measured(group, metric)
        found[name] = final_number(group, metric, digits_of(metric)) if there else Number(words=NOT_MEASURED)
        both = beside is not None and there and is_measured(beside, metric)
        found[f"difference in {name}"] = difference(group, beside, metric) if both else ""
    return {**found, "seeds": seeds_number(group)}


def difference(group: Series, beside: Series, metric: str) -> str:
    """Return the first mean less the second, with Welch's interval where there are seeds; empty where one diverged."""
    first, second = (one.final(metric) for one in (group, beside))
    if first.diverged or second.diverged:
        return ""
    interval, digits = of_difference(first, second), digits_of(metric)
    text = f"{first.mean - second.mean:+.{digits}f}"
    return text if interval is None else f"{text} {interval_text(interval, digits)}"
