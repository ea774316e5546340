"""The values of the paper's tables beside ours: the difference with its interval, and whether both intervals meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scripts.reporting.draws import Draws
from scripts.reporting.published import published
from scripts.reporting.report.evidence import PAPER, Evidence, Place, measured
from scripts.reporting.report.intervals import of_difference, of_mean, of_published
from scripts.reporting.report.verdicts import NOT_RUN, UNREADABLE, interval_text, meets
from scripts.reporting.series import Series, Spread
from scripts.reporting.style import LABELS, TABLE3_LABELS, TABLE4_LABELS, TASKS
from scripts.reporting.trained import network_of

SGD_OF_TABLE_1 = Draws("table1_cifar", task="cifar100", optim="sgd")  # Table 5 has it beside Lookahead
RESNET152 = "imagenet_resnet152"
NOT_JUDGED = "not judged"  # at a smaller scale, whose values have another size
NAMES = {"table3": TABLE3_LABELS, "table4": TABLE4_LABELS}
METRICS = {
    "val/accuracy": "top 1",
    "val/top5_accuracy": "top 5",
    "train/original_perplexity": "training perplexity",
    "val/original_perplexity": "validation perplexity",
    "test/original_perplexity": "test perplexity",
    "val/bleu": "BLEU, newstest2013",
    "test/bleu": "BLEU, newstest2014",
}


@dataclass(frozen=True)
class Value:
    """A published value: what it is of, which runs are held against it, and after which part of them."""

    label: str
    metric: str
    mean: float
    draws: Draws
    deviation: float | None = None
    seeds: int | None = None
    part: float = 1
    text: str = ""
    others: str = ""  # what an independent reproduction has


@dataclass(frozen=True)
class Compared:
    """A published value and ours: where ours was reached, the difference, and the verdict, which may be NOT_JUDGED."""

    value: Value
    paper: str
    ours: str
    difference: str
    place: str
    verdict: str


def tables() -> list[str]:
    """Return the names of the paper's tables."""
    return list(published("claims")["values"])


def values_of(table: str) -> Iterator[Value]:
    """Yield the published values of a table of the paper, in its order."""
    shape, paper = published("claims")["values"][table], published(table)
    for row in paper["rows"]:
        if "la_sgd" in row:  # Table 2 has a column for each optimizer
            for optim in ("la_sgd", "sgd"):
                if row[optim] is not None:
                    yield _of_table_2(shape, paper, row, optim)
            continue
        filters = {key: row[name] for name, key in shape["keys"].items()}
        draws = Draws(shape["experiment"], {**shape.get("where", {}), **filters})
        if row.get("optim") == "sgd" and table == "table5":
            draws = SGD_OF_TABLE_1
        label = _label(row, NAMES.get(table, LABELS))
        if "mean" in row:
            others = _reproduced_mean(row) if table == "table1" else ""
            yield Value(label, paper["metric"], row["mean"], draws, row["std"], paper["seeds"], others=others)
            continue
        for split, metric in paper["metrics"].items():
            if row[split] is not None:
                others = _reproduced_perplexity(row, split) if table == "table3" else ""
                of_split = f"{label}, {METRICS[metric]}"
                yield Value(of_split, metric, float(row[split]), draws, text=row[split], others=others)


def _reproduced_mean(row: Mapping[str, Any]) -> str:
    """Return the student reproduction's accuracy; its Lookahead is another setting, and stands in dispute_cifar."""
    found = [
        one for one in published("reproduction")["rows"] if (one["task"], one["setting"]) == (row["task"], row["optim"])
    ]
    return _mean(found[0]["mean"], found[0]["std"]) if found else ""


def _reproduced_perplexity(row: Mapping[str, Any], split: str) -> str:
    """Return the student reproduction's perplexity at the first of its rates, in 350 epochs mostly."""
    found = [one for one in published("reproduction_ptb")["rows"] if one["optim"] == row["optim"]]
    return found[0][split] if found else ""


def _of_table_2(shape: Mapping[str, Any], paper: Mapping[str, Any], row: Mapping[str, Any], optim: str) -> Value:
    experiment = shape["experiment"] if row["network"] == "resnet50" else RESNET152
    draws = Draws(experiment, {**shape["where"], "optim": optim})
    network = {"resnet50": "ResNet-50", "resnet152": "ResNet-152"}[row["network"]]
    label = f"{network}, {LABELS[optim]}, epoch {row['epoch']}, {METRICS[row['metric']]}"
    return Value(label, row["metric"], float(row[optim]), draws, part=row["epoch"] / paper["epochs"], text=row[optim])


def _label(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    words = [TASKS[row["task"]]] if "task" in row else []
    if "optim" in row and row.get("k") is None:
        words.append(names[row["optim"]])
    if row.get("k") is not None:
        words.append(f"k = {row['k']}, α = {row['alpha']:g}")
    return ", ".join([*words, *([row["inner_state"]] if "inner_state" in row else [])])


def compare(table: str, evidence: Evidence) -> list[Compared]:
    """Return the published values of a table beside ours, which are judged at the paper's scale alone.

    A value of a smaller scale has another size, and says nothing of whether the paper's is right. What is not there at
    the paper's scale is shown at one other: the scale that has most of the table, the largest of equals.
    """
    values = list(values_of(table))
    experiments = dict.fromkeys(value.draws.experiment for value in values)
    found = {
        place: {row: one for row, value in enumerate(values) if (one := _recorded(value, evidence, place)) is not None}
        for place in evidence.places(*experiments)
    }
    preferred = [place for place in found if place.scale == PAPER.scale]
    preferred += sorted(found, key=lambda place: -len(found[place]))[:1]
    compared = []
    for row, value in enumerate(values):
        place = next((place for place in preferred if row in found[place]), None)
        if place is not None:
            compared.append(_beside(value, found[place][row], place))
            continue
        wrong = any(_unreadable(value, evidence, place) for place in evidence.places(value.draws.experiment))
        compared.append(Compared(value, _text(value), "", "", "", UNREADABLE if wrong else NOT_RUN))
    return compared


def _unreadable(value: Value, evidence: Evidence, place: Place) -> bool:
    return any(one.unreadable for one in evidence.candidates(value.draws, place))


def _recorded(value: Value, evidence: Evidence, place: Place) -> Series | None:
    """Return the runs of a value; a smaller network, which a proxy has, stands for ResNet-50 and not for ResNet-152."""
    if place not in evidence.runs(value.draws.experiment):
        return None
    found = [one.series for one in evidence.candidates(value.draws, place) if one.series is not None]
    if not found or (value.draws.experiment == RESNET152 and network_of(found[0].runs[0]) != "resnet152"):
        return None
    return found[0]


def _beside(value: Value, found: Series, place: Place) -> Compared:
    ours = measured(found, value.metric, value.part)
    told = (value, _text(value), ours.text(".2f", ".2f"))
    if place.scale != PAPER.scale:
        return Compared(*told, "", place.text, NOT_JUDGED)
    finding = meets(value.label, ours, of_published(value.mean, value.deviation, value.seeds))
    return Compared(*told, _difference(value, ours), place.text, finding.verdict)


def _difference(value: Value, ours: Spread) -> str:
    """Return ours less the paper's: Welch's interval where both have a deviation, else that of our mean."""
    if value.deviation is not None and value.seeds is not None:
        interval = of_difference(ours, Spread(value.mean, value.deviation, None, None, value.seeds))
    else:
        mean = of_mean(ours)
        interval = None if mean is None else mean.shifted(-value.mean)
    text = f"{ours.mean - value.mean:+.2f}"
    return text if interval is None else f"{text} {interval_text(interval, 2)}"


def _text(value: Value) -> str:
    if value.text:
        return value.text
    return _mean(value.mean, value.deviation)


def _mean(mean: float, deviation: float | None) -> str:
    return f"{mean:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")
