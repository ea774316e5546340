"""A run's folder follows from its configuration, never from the clock.

`outputs/<experiment>/<task>-<optim>-<8 hex digits>/seed-<n>` (an analysis has its name for the two): the digits are a
hash of the resolved configuration without what does not change the result (runtime, tracker, hydra) and without the
seed, which has its own level.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.engine.errors import RunFolderError
from experiments.engine.files import replace_file

# Where a run is carried out, and the presets that the keys at the top already hold.
PRESETS = ("task.preset", "optim.average")
# What refers to `runtime` is as little part of the result as that is.
REFERENCES = ("task.data_dir", "task.channels_last", "task.eval_batch_size", "optim.optimizer.fused")
NOT_IN_THE_RESULT = ("runtime", "tracker", *PRESETS, *REFERENCES)
SINGLE = "single"  # the <experiment> of a run that belongs to none


def result_config(config: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration without what does not change the result: what the hash is of, seed aside."""
    return _without(config, NOT_IN_THE_RESULT)


def _without(config: DictConfig, paths: Sequence[str]) -> dict[str, Any]:
    # hydra's node is left out before resolving: it asks for this very folder.
    plain = OmegaConf.to_container(
        OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]), resolve=True
    )
    for path in paths:
        node, (*parents, key) = plain, path.split(".")
        for parent in parents:
            node = node.get(parent) or {}
        node.pop(key, None)
    return plain


def config_hash(config: DictConfig) -> str:
    """Return the first 8 hex digits of the hash of everything that changes the result but the seed."""
    plain = result_config(config)
    plain.pop("seed")
    plain.get("analysis", {}).pop("seed", None)  # the same one, handed on
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]


def relative_folder(config: DictConfig, experiment: str | None) -> str:
    """Return `<experiment>/<task>-<optim>-<hash>/seed-<n>`; an analysis has its name in the place of the two."""
    name = config.analysis.name if "analysis" in config else f"{config.task.name}-{config.optim.name}"
    return f"{experiment or SINGLE}/{name}-{config_hash(config)}/seed-{config.seed}"


def register_resolver() -> None:
    """Make `${run_folder:}` known to OmegaConf: it serves hydra.run.dir and hydra.sweep.subdir alike."""

    def run_folder(*, _root_: DictConfig) -> str:
        return relative_folder(_root_, _root_.hydra.runtime.choices.get("experiment"))

    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)


def differences(here: Any, there: Any, path: str = "") -> list[str]:
    """Return "key: value there, value here" for each leaf in which two plain configurations differ."""
    if isinstance(here, dict) and isinstance(there, dict):
        keys = list(dict.fromkeys([*there, *here]))
        return [d for key in keys for d in differences(here.get(key), there.get(key), f"{path}.{key}".lstrip("."))]
    return [] if here == there else [f"{path} {there} there, {here} here"]


def check_same_configuration(config: DictConfig, there: dict[str, Any], where: Path) -> None:
    """Raise RunFolderError where the configuration recorded in `where` would give another result."""
    different = differences(result_config(config), there)
    if different:
        shown = "; ".join(different[:4]) + ("; ..." if len(different) > 4 else "")
        raise RunFolderError(f"{where} is of another configuration ({shown}); choose another folder or the same values")


def check_folder(folder: Path, config: DictConfig) -> None:
    """Raise RunFolderError where the folder holds a run of another configuration."""
    path = folder / "config.yaml"
    if path.exists():
        check_same_configuration(config, result_config(OmegaConf.load(path)), path)


def write_config(folder: Path, config: DictConfig) -> None:
    """Write config.yaml, unless a run began here before: resolved, without hydra's node and the presets."""
    path = folder / "config.yaml"
    if not path.exists():
        text = OmegaConf.to_yaml(OmegaConf.create(_without(config, PRESETS)))
        replace_file(path, lambda temporary: temporary.write_text(text))
