"""What a figure or table declares to be made of: experiments, with filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig


@dataclass(frozen=True, init=False)
class Draws:
    """Runs that a figure or table is made of: those of an experiment whose configuration has the given values.

    `Draws("table1_cifar", task="cifar100", where={"optim.lr": [0.05, 0.1]})`: a group is compared by its name, a key
    inside one is written with dots in `where`, and a list holds the values of which one must match.
    """

    experiment: str
    where: Mapping[str, Any]

    def __init__(self, experiment: str, where: Mapping[str, Any] | None = None, **filters: Any) -> None:
        object.__setattr__(self, "experiment", experiment)
        object.__setattr__(self, "where", {**filters, **(where or {})})

    def accepts(self, config: Mapping[str, Any]) -> bool:
        """Return whether a run of this configuration is drawn."""
        for key, wanted in self.where.items():
            if value_of(config, key) not in (wanted if isinstance(wanted, list | tuple) else [wanted]):
                return False
        return True


def value_of(config: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key with dots, the name of a group that has one, or None where there is no such key."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping | DictConfig) else None
    return node["name"] if isinstance(node, Mapping | DictConfig) and "name" in node else node
