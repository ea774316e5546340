"""A run's folder follows from its configuration, never from the clock: `outputs/<name>/seed-<n>`.

identity.py makes the name. Where the values of a recipe change, a name stays: then the config.yaml in the folder tells.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from experiments.engine.errors import RunFolderError
from experiments.engine.files import replace_text
from experiments.engine.identity import run_name
from experiments.engine.leaves import NOT_IN_THE_RESULT, PRESETS, is_below, leaves, plain, same, uncompared, value_at
from experiments.engine.records import read_config

NOT_ARGUMENTS = ("_partial_", "_convert_")  # hydra's own


def relative_folder(config: DictConfig) -> str:
    """Return `<name>/seed-<n>`."""
    return f"{run_name(config)}/seed-{config.seed}"


def result_config(config: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration, seed included, without what does not change the result."""
    return plain(config, tuple(path for path in (*NOT_IN_THE_RESULT, *PRESETS) if path not in ("seed", "hydra")))


def without_defaults(node: Any) -> Any:
    """Return a plain configuration without arguments that have their class's default: who gives one says nothing by it.

    So a setting stays the same where an argument that has a default is added to a file of configs/, or taken out.
    """
    if isinstance(node, list):
        return [without_defaults(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if not same(_default(node, node, "", key), value)}
    return {key: without_defaults(value) for key, value in kept.items()}


def conflicts(config: DictConfig, recorded: Mapping[str, Any]) -> list[str]:
    """Return "optim.lr 0.1 there, 0.05 here" for each value of a recorded configuration that today's does not share.

    A class that was moved is no conflict, nor another way to carry a run out. Of a key that only one of them has,
    `conflicts_of` says when it counts.
    """
    today = {path: leaf.value for path, leaf in leaves(config).items()} | {"seed": config.seed}
    return conflicts_of(today, recorded, uncompared(config))


def conflicts_of(
    today: Mapping[str, Any], recorded: Mapping[str, Any], unsure: Collection[str] | None = None
) -> list[str]:
    """Return what `conflicts` does, for a configuration given as its compared values by path.

    An argument of a class that only one of them has counts with the class's default on the other side, so that adding
    it orphans no record; `unsure` are paths that say nothing alone (None: all). Other keys come and go with the code;
    null in the place of a node is a value, though.
    """
    recorded = _as_today(recorded)
    found = []
    for path, value in today.items():
        before = value_at(recorded, path, ...)
        if before is ...:
            found += _only_today(path, value, today, recorded, unsure)
            continue
        if isinstance(before, dict) and value is None:
            before = "a node"
        if isinstance(before, dict) or same(before, value):
            continue
        if path.endswith("_target_") and str(before).rpartition(".")[2] == str(value).rpartition(".")[2]:
            continue
        found.append(f"{path} {_shown(before)} there, {_shown(value)} here")
    return list(dict.fromkeys(found)) + _only_recorded(today, recorded, unsure)


def _only_today(
    path: str, value: Any, today: Mapping[str, Any], recorded: Mapping[str, Any], unsure: Collection[str] | None
) -> list[str]:
    if path in ("task.name", "optim.name", "analysis.name"):
        return [f"{path} not there, {_shown(value)} here"]
    parts = path.split(".")
    for depth in range(1, len(parts)):
        if value_at(recorded, above := ".".join(parts[:depth]), ...) is None:
            return [f"{above} null there, a node here"]
    if unsure is None or path in unsure:
        return []
    parent, _, key = path.rpartition(".")
    default = _default(today, value_at(recorded, parent, ...), parent, key)
    return [] if default is ... or same(default, value) else [f"{path} {_shown(default)} there, {_shown(value)} here"]


def _only_recorded(today: Mapping[str, Any], recorded: Mapping[str, Any], unsure: Collection[str] | None) -> list[str]:
    """Return the conflicts of arguments that only the recorded configuration gives to a class of today."""
    found = []
    for target in () if unsure is None else today:
        parent, _, last = target.rpartition(".")
        node = value_at(recorded, parent) if last == "_target_" else None
        for key, before in node.items() if isinstance(node, Mapping) else ():
            path = f"{parent}.{key}"
            if (
                path in unsure
                or is_below(path, NOT_IN_THE_RESULT + PRESETS)
                or any(is_below(other, (path,)) for other in today)
            ):
                continue
            default = _default(today, node, parent, key)
            if default is not ... and not same(default, before):
                found.append(f"{path} {_shown(before)} there, {_shown(default)} here")
    return found


def _default(today: Mapping[str, Any], before: Any, parent: str, key: str) -> Any:
    """Return an argument's default in the class that both have at `parent`, `...` where there is none."""
    target = today.get(f"{parent}._target_" if parent else "_target_")
    if not isinstance(before, Mapping) or not isinstance(target, str) or key in NOT_ARGUMENTS:
        return ...
    if str(before.get("_target_")).rpartition(".")[2] != target.rpartition(".")[2]:
        return ...  # two classes, which is said already
    parameter = _parameters(target).get(key)
    return ... if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default


@functools.cache
def _parameters(target: str) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(get_object(target)).parameters
    except Exception:  # whatever an import may raise
        return {}


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _as_today(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a recorded configuration with the keys that had another form when it was written."""
    changed = dict(recorded)
    precision = changed.get("precision")
    if isinstance(precision, Mapping):  # it was a node of three
        changed["precision"] = precision.get("autocast") or "fp32"
    if changed.get("evaluation", ...) is None:
        del changed["evaluation"]
    evaluation = dict(changed.get("evaluation") or {})
    if evaluation.get("batch_norm") == "kept" and isinstance(precision, Mapping):
        del evaluation["batch_norm"]  # it was what is null now
        changed["evaluation"] = evaluation
    return changed


def check_same_configuration(config: DictConfig, recorded: Mapping[str, Any], where: Path) -> None:
    """Raise RunFolderError where the configuration recorded in `where` has other values than `config`."""
    different = conflicts(config, recorded)
    if different:
        shown = "; ".join(different[:4]) + ("; ..." if len(different) > 4 else "")
        raise RunFolderError(f"{where} was recorded with other values ({shown}); choose another folder or those values")


def check_folder(folder: Path, config: DictConfig) -> None:
    """Raise RunFolderError where the folder holds a run of other values."""
    path = folder / "config.yaml"
    if path.exists():
        check_same_configuration(config, OmegaConf.to_container(read_config(folder)), path)


def write_config(folder: Path, config: DictConfig) -> None:
    """Write config.yaml, unless a run began here before: resolved, without hydra's node and the presets."""
    path = folder / "config.yaml"
    if not path.exists():
        replace_text(path, OmegaConf.to_yaml(OmegaConf.create(plain(config, PRESETS))))
