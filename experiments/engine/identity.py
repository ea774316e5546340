"""A run's name says in words how the run differs from its recipe: `cifar100-la_sgd,alpha=0.5,k=10@short,bf16`.

What differs is found by composing the bare task, optimizer and scale (of an analysis, the bare analysis), and comparing
values. Both sides have whatever the configurations have today, so a key that is added, or a class that is moved,
changes no name. Two settings never share a name, and one setting never has two.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict

from experiments.engine.composition import FilesState, bare, choices_of, node_of, state_of_files
from experiments.engine.errors import ConfigurationError, choices
from experiments.engine.leaves import PRESETS, Leaf, is_below, leaves, same, without_hydra

# Groups whose choice names what is at a path, where it is not the task's or the optimizer's own.
NAMED_GROUPS = {
    "model": "model",
    "average": "average",
    "schedule": "schedule",
    "probe": "probe",
    "analysis.model": "quadratic",
}
IN_THE_HEAD = ("task.name", "optim.name", "analysis.name", "scale", "precision")
LONGEST = 150  # characters, scale and precision aside; the file system allows 255 bytes
ABSENT = Leaf(...)


def head_and_tail(config: DictConfig) -> tuple[str, str]:
    """Return `cifar100-la_sgd` and `@short,bf16`: the ends of a name, between which stands what differs."""
    head = config.analysis.name if "analysis" in config else f"{config.task.name}-{config.optim.name}"
    usual = {"scale": "paper", "precision": "fp32"}
    ends = [config[key] for key, value in usual.items() if isinstance(config.get(key), str) and config[key] != value]
    return head, f"@{','.join(ends)}" if ends else ""


def run_name(config: DictConfig, searchpath: Sequence[str] | None = None) -> str:
    """Return the name of the run's folder, without its seed. Raises ConfigurationError for what has no recipe."""
    _refuse_missing(config)
    words = differences_in_words(config, searchpath)
    head, tail = head_and_tail(config)
    body = ",".join([head, *words])
    if len(body) > LONGEST:
        body = f"{body[: LONGEST - 13]}~{hashlib.sha256(body.encode()).hexdigest()[:12]}"
    return body + tail


def _refuse_missing(config: DictConfig) -> None:
    """Resolve everything that may have no value, so that the recipe that is missing is named first of all."""
    for node in ("optim", "task", "analysis"):
        if node in config:
            OmegaConf.to_container(config[node], resolve=True)


def differences_in_words(config: DictConfig, searchpath: Sequence[str] | None = None) -> list[str]:
    """Return `key=value` for each value that is not the recipe's, and `group=choice`, sorted by key."""
    config = without_hydra(config)
    found, expected, chosen = _found_and_expected(config, _searchpath(searchpath))
    words = dict(chosen)
    for path in found.keys() | expected.keys():
        leaf, target = found.get(path, ABSENT), _repeated(path, expected)
        wanted = _wanted(path, target, expected, found)
        if is_below(path, IN_THE_HEAD):
            continue
        if leaf is not ABSENT:
            if wanted is ABSENT or not same(leaf.value, wanted.value):
                words[_short(path, config)] = _text(leaf.value)
        elif (target is None or target in found) and not _is_covered(path, found):
            words[f"~{_short(_highest_missing(path, found), config)}"] = (
                ""  # what repeats a key that is gone says nothing
            )
    return [f"{key}={value}" if value else key for key, value in sorted(words.items())]


def _is_covered(path: str, found: Mapping[str, Leaf]) -> bool:
    return any(is_below(path, (other,)) or is_below(other, (path,)) for other in found)


def _wanted(path: str, target: str | None, expected: Mapping[str, Leaf], found: Mapping[str, Leaf]) -> Leaf:
    """Return what the bare choices would have at a path, in this very configuration where they repeat another key."""
    if target is not None and target not in found and any(is_below(other, (target,)) for other in found):
        return ABSENT  # a node there, which a value here does not repeat
    return found.get(target, expected.get(path, ABSENT))


def _repeated(path: str, expected: Mapping[str, Leaf]) -> str | None:
    """Return the path that a path of the bare configuration refers to, itself or as part or whole of a node."""
    leaf = expected.get(path)
    return leaf.target if leaf is not None else _target_of_node(path, expected)


def _target_of_node(path: str, expected: Mapping[str, Leaf]) -> str | None:
    """Return the path that a path repeats as part, or as the whole, of a node that refers to another one.

    `lookahead.alpha` is whatever `alpha` is, which may be a node in one configuration and a number in another.
    """
    for other, leaf in expected.items():
        if leaf.target is None:
            continue
        if is_below(path, (other,)):
            return leaf.target + path[len(other) :]
        if is_below(other, (path,)) and leaf.target.endswith(other[len(path) :]):
            return leaf.target[: -len(other[len(path) :])]
    return None


def _highest_missing(path: str, found: Mapping[str, Leaf]) -> str:
    """Return the node highest above a path of which nothing is left, or the path itself."""
    parts = path.split(".")
    above = (".".join(parts[:depth]) for depth in range(1, len(parts)))
    return next((node for node in above if not any(is_below(other, (node,)) for other in found)), path)


def _found_and_expected(
    config: DictConfig, searchpath: tuple[str, ...]
) -> tuple[dict[str, Leaf], dict[str, Leaf], dict[str, str]]:
    """Return the leaves, those that the bare choices have, and the choices that are not the bare ones."""
    its_bare = (state_of_files(), *_bare_choices(config, searchpath))
    found, expected = leaves(config), _bare_leaves(*its_bare)
    chosen = {}
    for path, group in NAMED_GROUPS.items():
        mine = {key: leaf for key, leaf in found.items() if is_below(key, (path,))}
        best = {key: leaf for key, leaf in expected.items() if is_below(key, (path,))}
        fewest = _count(mine, best, found)
        for choice, file in choices_of(group, searchpath).items() if fewest else ():
            candidate = _leaves_with(*its_bare, path, file)
            count = _count(mine, candidate, found)
            if count < fewest:
                fewest, best, chosen[path] = count, candidate, choice
        expected = {key: leaf for key, leaf in expected.items() if not is_below(key, (path,))} | best
    return found, expected, chosen


def _count(mine: Mapping[str, Leaf], other: Mapping[str, Leaf], found: Mapping[str, Leaf]) -> int:
    def differ(key: str) -> bool:
        wanted = _wanted(key, _repeated(key, other), other, found)
        return key not in mine or wanted is ABSENT or not same(mine[key].value, wanted.value)

    return sum(differ(key) for key in mine.keys() | other.keys())


@functools.lru_cache(maxsize=64)
def _bare_leaves(state: FilesState, root: str, choices_made: tuple[str, ...]) -> dict[str, Leaf]:
    """Return the leaves of a bare configuration; not to be changed."""
    return leaves(bare(root, choices_made))


@functools.lru_cache(maxsize=256)
def _leaves_with(state: FilesState, root: str, choices_made: tuple[str, ...], path: str, file: Path) -> dict[str, Leaf]:
    """Return the leaves at `path` of a bare configuration that has the content of a file there; not to be changed."""
    changed = copy.deepcopy(bare(root, choices_made))
    with open_dict(changed):
        OmegaConf.update(changed, path, node_of(file), merge=False)
    return {key: leaf for key, leaf in leaves(changed).items() if is_below(key, (path,))}


def _bare_choices(config: DictConfig, searchpath: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the root configuration and the choices that make the bare one of a configuration, as `bare` takes them."""
    where = [f"hydra.searchpath=[{','.join(searchpath)}]"] if searchpath else []
    for group in ("analysis",) if "analysis" in config else ("task", "optim"):
        known = choices_of(group, searchpath)
        if config[group].name not in known:
            raise ConfigurationError(
                f"{group}.name={config[group].name} is not possible: it is the name of a file; "
                f"choose one by {group}=... of {', '.join(known)}"
            )
    if "analysis" in config:
        return "analyze", (*where, f"analysis={config.analysis.name}", f"scale={config.scale}")
    return "train", (*where, f"task={config.task.name}", f"optim={config.optim.name}", f"scale={config.scale}")


def _searchpath(given: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    return tuple(HydraConfig.get().searchpath) if HydraConfig.initialized() else ()


def _short(path: str, config: DictConfig) -> str:
    """Return a path without `optim.`, unless that would name another key."""
    below = path.removeprefix("optim.")
    return path if below.partition(".")[0] in config else below


def _text(value: Any) -> str:
    """Return a value in characters that a folder's name may have; two values never give the same text."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.+-]*", value) and value not in ("null", "true", "false"):
        return value
    text = json.dumps(_equal_numbers(value), separators=(",", ":"), sort_keys=True, default=str)
    return quote(text, safe="[]{}:,-+._~")


def _equal_numbers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if isinstance(value, list | tuple):
        return [_equal_numbers(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _equal_numbers(each) for key, each in value.items()}
    return value


def check_keys(config: DictConfig, searchpath: Sequence[str] | None = None) -> None:
    """Raise ConfigurationError for a key that was added and that nothing reads.

    A key beside a `_target_` is read where what that names takes it; a line of recipes is read for its optimizer.
    """
    config = without_hydra(config)
    searchpath = _searchpath(searchpath)
    known = _known_paths(state_of_files(), *_bare_choices(config, searchpath), searchpath)
    for path in sorted(_paths(config) - known):
        if not _is_read(config, path):
            parent, _, key = path.rpartition(".")
            near = sorted(other.rpartition(".")[2] for other in known if other.rpartition(".")[0] == parent)
            raise ConfigurationError(f"unknown key {path}, which nothing reads{choices(key, near)}")


@functools.lru_cache(maxsize=64)
def _known_paths(
    state: FilesState, root: str, choices_made: tuple[str, ...], searchpath: tuple[str, ...]
) -> frozenset[str]:
    """Return the paths of a bare configuration and of what the choices of groups may put into it."""
    known = _paths(bare(root, choices_made))
    for path, group in NAMED_GROUPS.items():
        for file in choices_of(group, searchpath).values():
            known |= {f"{path}.{key}" for key in _paths(node_of(file))}
    return frozenset(known)


def _paths(node: DictConfig, prefix: str = "") -> set[str]:
    """Return the path of every key, of what refers to another node that key alone."""
    found = set()
    for key in node:
        path = f"{prefix}{key}"
        found.add(path)
        child = None if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key) else node[key]
        if isinstance(child, DictConfig):
            found |= _paths(child, f"{path}.")
    return found


def _is_read(config: DictConfig, path: str) -> bool:
    if is_below(path, ("task.recipes", "sensitivity", "keep")):  # who reads the last two checks them
        return True
    *parents, key = path.split(".")
    for depth in range(len(parents), 0, -1):
        above = ".".join(parents[:depth])
        node = OmegaConf.select(config, above)
        if is_below(above, PRESETS) and "_target_" not in (node or {}):
            return False
        if isinstance(node, DictConfig) and "_target_" in node:
            return depth < len(parents) or _takes(node["_target_"], key)
    return False


def _takes(target: str, key: str) -> bool:
    if key.startswith("_") and key.endswith("_"):  # hydra's own: _partial_, _convert_
        return True
    try:
        parameters = inspect.signature(get_object(target)).parameters
    except (ImportError, ValueError, TypeError):
        return True  # instantiate says what is wrong with it
    return key in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
