"""A configuration as its leaves: each value with its path, and what it refers to where it only repeats another one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

REFERENCE = re.compile(r"\$\{(?:oc\.select:(?=.*,))?(\.*)([A-Za-z_][\w.]*)(?:,\w+)?\}")
# Where and how a run is carried out, which changes the last bits at most; the seed has a level of its own in a folder.
NOT_IN_THE_RESULT = ("seed", "runtime", "tracker", "hydra")
# What other keys hold already: they refer to these, or these choose among them.
PRESETS = ("task.preset", "task.recipes", "optim.average", "analysis.preset", "smaller_model", "scale_factor")


@dataclass(frozen=True)
class Leaf:
    """A resolved value; `target` is the path of the key that it refers to, or None where it is a value of its own."""

    value: Any
    target: str | None = None


def is_below(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root}.") for root in roots)


def leaves(config: DictConfig) -> dict[str, Leaf]:
    """Return, by their paths, the leaves of a configuration that change a result; a list is one leaf.

    Not among them: what is below NOT_IN_THE_RESULT or PRESETS, and what refers to the former. What refers to a preset
    is a value of its own. A value that cannot be resolved is left out where it asks for a recipe that is not there.
    """
    return {path: leaf for path, leaf in _walk(config, "", None) if not _is_ignored(path, leaf)}


def uncompared(config: DictConfig) -> tuple[str, ...]:
    """Return the paths of leaves that say nothing alone: how a run is carried out, and what repeats another key."""
    return tuple(path for path, leaf in _walk(config, "", None) if leaf.target is not None or _is_ignored(path, leaf))


def _is_ignored(path: str, leaf: Leaf) -> bool:
    target = leaf.target or ""
    return is_below(path, NOT_IN_THE_RESULT + PRESETS) or is_below(target, NOT_IN_THE_RESULT)


def _walk(node: DictConfig, prefix: str, inside: str | None, raw: Any = None) -> Iterator[tuple[str, Leaf]]:
    """Yield the leaves below a node; `inside` is the path of the node itself where that was reached by a reference.

    `raw` is what stands in the node's place, unresolved, where that is known.
    """
    raw = raw if isinstance(raw, dict) else OmegaConf.to_container(node, resolve=False)
    for key in node:
        if prefix == "" and str(key) in NOT_IN_THE_RESULT:
            continue  # hydra's node would ask for this very name
        path = f"{prefix}.{key}" if prefix else str(key)
        target = _target(raw[key], path) or (f"{inside}.{key}" if inside else None)
        try:
            value = node[key] if not OmegaConf.is_missing(node, key) else "???"
        except InterpolationResolutionError:
            continue
        if isinstance(value, DictConfig) and len(value):
            below = None if target is None or is_below(target, PRESETS) else target
            yield from _walk(value, path, below, raw[key])
            continue
        if target and is_below(target, PRESETS):
            target = None
        yield path, Leaf(_plain(value), target)


def _target(raw: Any, path: str) -> str | None:
    """Return the absolute path that a raw value refers to, or None where it is no plain reference."""
    found = REFERENCE.fullmatch(raw) if isinstance(raw, str) else None
    if found is None:
        return None
    dots, name = len(found[1]), found[2]
    if dots == 0:
        return name
    above = path.split(".")[:-dots]
    return ".".join([*above, name])


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def same(one: Any, other: Any) -> bool:
    """Say whether two plain values mean the same: numbers by their value, True and 1 apart, nan like nan."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


def differences(here: Any, there: Any, path: str = "") -> list[str]:
    """Return "key value there, value here" for each leaf in which two plain configurations differ."""
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        keys = list(dict.fromkeys([*there, *here]))
        return [d for key in keys for d in differences(here.get(key), there.get(key), f"{path}.{key}".lstrip("."))]
    return [] if same(here, there) else [f"{path} {there} there, {here} here"]


def without_hydra(config: DictConfig) -> DictConfig:
    """Return the configuration, or where it has hydra's node a copy without it."""
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]) if "hydra" in config else config


def plain(config: DictConfig, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the resolved configuration as plain values, without hydra's node and the paths in `leave_out`."""
    resolved = OmegaConf.to_container(without_hydra(config), resolve=True)
    for path in leave_out:
        node, (*parents, key) = resolved, path.split(".")
        for parent in parents:
            node = node.get(parent) or {}
        node.pop(key, None)
    return resolved


def value_at(values: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """Return the value at a dotted path of plain nested values, or `default` where there is none."""
    if path in values:  # a key may have dots of its own, as those of `sensitivity`
        return values[path]
    parts = path.split(".")
    for count in range(1, len(parts)):
        below = values.get(".".join(parts[:count]))
        if isinstance(below, Mapping):
            found = value_at(below, ".".join(parts[count:]), ...)
            if found is not ...:
                return found
    return default
