"""The comments at the head of an experiment's configuration: what it costs, and the command that runs it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.engine.composition import CONFIGS

FIELDS = ("Cost", "Command")


@dataclass(frozen=True)
class Header:
    """What an experiment costs, in words, and the command that runs it."""

    cost: str
    command: str


def header(experiment: str) -> Header:
    """Return what configs/experiment/<experiment>.yaml says of its cost and command. Raises ValueError without them."""
    path = CONFIGS / "experiment" / f"{experiment}.yaml"
    comments = re.match(r"(#.*\n)*", path.read_text(encoding="utf-8"))[0]
    text = " ".join(line.lstrip("#").strip() for line in comments.splitlines())
    ends = "|".join(rf"\b{field}:" for field in FIELDS)
    found = {field: re.search(rf"\b{field}: (.+?)\s*(?:{ends}|$)", text) for field in FIELDS}
    missing = [field for field, value in found.items() if value is None]
    if missing:
        raise ValueError(f"{path} has no line '# {missing[0]}: ...'")
    return Header(found["Cost"][1], found["Command"][1])


def costs(experiments: Sequence[str]) -> list[str]:
    """Return what experiments cost, by name where there are several; what all say of the proxy alike stands once."""
    found = [header(experiment).cost for experiment in experiments]
    if len(found) == 1:
        return found
    parts = [cost.partition(" As a proxy: ") for cost in found]
    proxies = {proxy for _, _, proxy in parts}
    if len(proxies) > 1 or proxies == {""}:
        return [f"{name}: {cost}" for name, cost in zip(experiments, found, strict=True)]
    told = [f"{name}: {cost}" for name, (cost, _, _) in zip(experiments, parts, strict=True)]
    return [*told, f"each as a proxy: {proxies.pop()}"]
