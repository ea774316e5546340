"""A run's folder follows from its configuration, never from the clock: `outputs/<name>/seed-<n>`.

identity.py makes the name. Where the values of a recipe change, a name stays: then the config.yaml in the folder tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.engine.errors import RunFolderError
from experiments.engine.files import replace_text
from experiments.engine.identity import run_name
from experiments.engine.leaves import NOT_IN_THE_RESULT, PRESETS, leaves, plain, same, value_at
from experiments.engine.records import read_config


def relative_folder(config: DictConfig) -> str:
    """Return `<name>/seed-<n>`."""
    return f"{run_name(config)}/seed-{config.seed}"


def result_config(config: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration, seed included, without what does not change the result."""
    return plain(config, tuple(path for path in (*NOT_IN_THE_RESULT, *PRESETS) if path not in ("seed", "hydra")))


def conflicts(config: DictConfig, recorded: Mapping[str, Any]) -> list[str]:
    """Return "optim.lr 0.1 there, 0.05 here" for each value of a recorded configuration that today's does not share.

    A key that only one of them has is no conflict, nor a class that was moved, nor another way to carry a run out.
    """
    return conflicts_of({path: leaf.value for path, leaf in leaves(config).items()} | {"seed": config.seed}, recorded)


def conflicts_of(today: Mapping[str, Any], recorded: Mapping[str, Any]) -> list[str]:
    """Return what `conflicts` does, for a configuration given as its compared values by path."""
    recorded = _as_today(recorded)
    found = []
    for path, value in today.items():
        before = value_at(recorded, path, ...)
        if before is ... and path in ("task.name", "analysis.name"):
            found.append(f"{path} not there, {_shown(value)} here")
        if before is ... or isinstance(before, dict) or same(before, value):
            continue
        if path.endswith("_target_") and str(before).rpartition(".")[2] == str(value).rpartition(".")[2]:
            continue
        found.append(f"{path} {_shown(before)} there, {_shown(value)} here")
    return found


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _as_today(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a recorded configuration with the keys that had another form when it was written."""
    changed = dict(recorded)
    precision = changed.get("precision")
    if isinstance(precision, Mapping):  # it was a node of three
        changed["precision"] = precision.get("autocast") or "fp32"
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
