"""The comments at the head of an experiment's configuration: what it costs, and the command that runs it."""

from __future__ import annotations

import re
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
