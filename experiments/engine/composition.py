"""Configurations composed by hydra, in a program that hydra started or in one that it did not."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

import experiments.engine.resolvers

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ROOTS = {"train": "train.py", "analyze": "analyze.py"}  # root configurations and their programs


@contextlib.contextmanager
def hydra_ready() -> Iterator[None]:
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            yield


def composed(root: str, overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
    """Return the configuration that `overrides` choose below a root configuration. Raises what hydra raises."""
    with hydra_ready():
        return compose(root, overrides=list(overrides), return_hydra_config=with_hydra)


@functools.lru_cache(maxsize=64)
def bare(root: str, choices: tuple[str, ...]) -> DictConfig:
    """Return a configuration that nothing but choices of groups makes; not to be changed."""
    return composed(root, choices)


def config_folders(searchpath: Sequence[str] = ()) -> list[Path]:
    """Return the folders that groups are looked for in: hydra.searchpath's, then our own."""
    return [*(Path(entry.removeprefix("file://")) for entry in searchpath), CONFIGS]


def choices_of(group: str, searchpath: Sequence[str] = ()) -> dict[str, Path]:
    """Return the choices of a group and their files, by name."""
    found = {}
    for folder in reversed(config_folders(searchpath)):
        found |= {path.stem: path for path in (folder / group).glob("*.yaml")}
    return dict(sorted(found.items()))


def experiments() -> list[str]:
    return list(choices_of("experiment"))


def root_of(experiment: str) -> str:
    """Return the root configuration of an experiment: `analyze` where it overrides the group `analysis`."""
    path = choices_of("experiment").get(experiment)
    defaults = OmegaConf.load(path).get("defaults", []) if path else []
    return "analyze" if any("override /analysis" in entry for entry in defaults) else "train"


def node_of(path: Path) -> DictConfig:
    """Return what a choice's file holds, with the files of its own group that its defaults name."""
    node = OmegaConf.load(path)
    defaults = node.pop("defaults", [])
    parents = [path.with_name(f"{entry}.yaml") for entry in defaults if isinstance(entry, str) and entry != "_self_"]
    return OmegaConf.merge(*(node_of(parent) for parent in parents), node)
