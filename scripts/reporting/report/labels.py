"""What comparisons are called: settings by the names that figures have for them, and metrics with their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reporting.classification import ACCURACY, LOSS, LOSSES, METRICS
from scripts.reporting.draws import value_of
from scripts.reporting.report.evidence import Candidate
from scripts.reporting.report.values import METRICS as OF_TABLES
from scripts.reporting.style import LABELS, TABLE3_LABELS, TABLE4_LABELS, TASKS
from scripts.reporting.swa import INNER, NETWORKS
from scripts.reporting.trained import NAMES

MINUS = " − "
OPTIMIZERS = {  # by task; else LABELS, where "Adam" is C.1's, which is AdamW
    "ptb": {**TABLE3_LABELS, "adamw": "AdamW"},
    "wmt14": TABLE4_LABELS,
    "multi30k": {**TABLE4_LABELS, "adamw": "AdamW"},
}
SCHEDULES = {"imagenet": "conventional schedule", "imagenet_aggressive": "aggressive schedule"}
STATES = {"maintain": "maintained momentum", "interpolate": "interpolated momentum", "reset": "reset momentum"}
SETTINGS = {  # what experiments vary, by its key: in words
    "optim.lr": lambda value: f"rate {value:g}",
    "optim.weight_decay": lambda value: f"weight decay {value:g}",
    "optim.momentum": lambda value: f"momentum {value:g}",
    "optim.k": lambda value: f"k={value}",
    "optim.alpha": lambda value: f"α={value:g}",
    "optim.inner_state": STATES.__getitem__,
    "optim.local": lambda local: "local workers" if local else "DDP",
    "average.start": lambda value: f"a start in epoch {value + 1}",  # counted from 1, as in the paper
    "schedule.multiplier": lambda value: f"{value:g} times the recipe's rate",
}
PERPLEXITIES = {name: words for name, words in OF_TABLES.items() if name.endswith("perplexity")}
MEASURED = {
    **{name: f"{words} (nats)" for name, words in LOSSES.items()},
    "val/loss": "validation loss (nats)",
    ACCURACY: METRICS[ACCURACY],
    "train_sample/accuracy": "training accuracy (%)",
    "train_sample/loss": METRICS[LOSS] + " (nats)",
    **PERPLEXITIES,
    "val/bleu": "validation BLEU",
    "test/bleu": "test BLEU",
    "test/loss": "test loss (nats)",
}


def measured_as(metric: str, part: float = 1, difference: bool = True, within: float | None = None) -> str:
    """Return what a metric is called, with its unit, and after which part of the runs it is compared.

    The unit of a difference between percentages is a point. `within` is a share of the best value: what is compared
    then is when the metric comes so near to it.
    """
    words = MEASURED[metric]
    if within is not None:
        words = f"part of the run until {words} is within {100 * within:g} % of its best (%)"
    return (words.replace("(%)", "(points)") if difference else words) + (f", after {100 * part:.0f} %" * (part < 1))


class Names:
    """The names of the settings that a test compares: each says as much as tells it from the others."""

    def __init__(self, settings: Sequence[Candidate]) -> None:
        groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for one in settings:
            groups.setdefault(_group(one), []).append(one.values)
        self._varied = {  # by data and optimizer: the keys in which its settings differ
            group: [key for key in SETTINGS if any(_differ(its[0], other, key) for other in its)]
            for group, its in groups.items()
        }

    def of(self, *sides: Candidate) -> str:
        """Return what is compared, the first less the second; what both share stands once, before a colon."""
        parts = [self._parts(side) for side in sides]
        shared = [(key, text) for key, text in parts[0].items() if all(part.get(key) == text for part in parts)]
        common = ", ".join(text for _, text in shared)
        own = [{key: text for key, text in part.items() if (key, text) not in shared} for part in parts]
        if len(sides) == 1 or not any(own):
            return common
        return f"{common}: " * bool(common) + MINUS.join(_together(part) for part in own)

    def name(self, side: Candidate) -> str:
        """Return the name of one setting, without its data."""
        return _together({key: text for key, text in self._parts(side).items() if key != "data"})

    def _parts(self, side: Candidate) -> dict[str, str]:
        data, optimizer = _group(side)
        told = {key: SETTINGS[key](value_of(side.values, key)) for key in self._varied[data, optimizer]}
        return {"data": data, "optimizer": optimizer, **told}


def _together(parts: Mapping[str, str]) -> str:
    """Return "Lookahead with k=5, α=0.8", or the settings alone where the optimizer is told before."""
    settings = ", ".join(text for key, text in parts.items() if key != "optimizer")
    if "optimizer" in parts:
        return parts["optimizer"] + (f" with {settings}" if settings else "")
    return f"({settings})" if "," in settings else settings


def _group(side: Candidate) -> tuple[str, str]:
    return _data(side.values), _optimizer(side)


def _differ(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> bool:
    return value_of(one, key) != value_of(other, key)


def _data(values: Mapping[str, Any]) -> str:
    task, network = value_of(values, "task"), values["model"]["_target_"].rpartition(".")[2]
    of = NAMES.get(network, network) if task in NETWORKS else SCHEDULES.get(task)
    return ", ".join([TASKS[task], *([of] if of else [])])


def _optimizer(side: Candidate) -> str:
    name, task = side.values["optim"]["name"], value_of(side.values, "task")
    if task in NETWORKS and name in INNER:
        return INNER[name] if side.weights else f"SWA over {INNER[name]}"
    return OPTIMIZERS.get(task, LABELS).get(name, LABELS[name])
