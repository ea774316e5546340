"""Configurations composed by hydra, in a program that hydra started or in one that it did not."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

import experiments.engine.parse_trees
import experiments.engine.resolvers
import experiments.engine.yaml_texts

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ROOTS = {"train": "train.py", "analyze": "analyze.py"}  # root configurations and their programs
FilesState = tuple[tuple[str, int, int], ...]


@contextlib.contextmanager
def hydra_ready() -> Iterator[None]:
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            yield


def composed(root: str, overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
    """Return the configuration that `overrides` choose below a root configuration. Raises what hydra raises.

    What the choices of groups make is composed once, and values are set in a copy of it, as hydra does; a mistake is
    left to hydra, for its words.
    """
    with hydra_ready():
        if not with_hydra and _only_our_folder(overrides):
            with contextlib.suppress(HydraException):
                parsed = OverridesParser.create().parse_overrides(list(overrides))
                chosen = tuple(override.input_line for override in parsed if not _is_value(override))
                config = copy.deepcopy(_chosen(root, chosen, state_of_files()))
                ConfigLoaderImpl._apply_overrides_to_config([each for each in parsed if _is_value(each)], config)
                return config
        return compose(root, overrides=list(overrides), return_hydra_config=with_hydra)


@functools.lru_cache(maxsize=128)
def _chosen(root: str, overrides: tuple[str, ...], state: FilesState) -> DictConfig:
    """Return what choices of groups make while the files are in this state; not to be changed."""
    return compose(root, overrides=list(overrides))


def _is_value(override: Override) -> bool:
    """Say whether an override sets a value in what was composed; in doubt it is one that hydra composes with."""
    key = override.key_or_group
    if override.is_sweep_override() or override.package is not None or key.partition(".")[0] == "hydra":
        return False
    return isinstance(override.value(), dict) or not (CONFIGS / key).is_dir()


def _only_our_folder(overrides: Sequence[str]) -> bool:
    """Say whether hydra looks for configurations in our folder alone, and not in one of the command line as well."""
    if any("hydra.searchpath" in override for override in overrides):
        return False
    sources = [each.path for each in GlobalHydra.instance().config_loader().get_search_path().get_path()]
    return [path for path in sources if not path.startswith(("pkg://", "structured://"))] == [str(CONFIGS)]


def state_of_files() -> FilesState:
    """Return the path, time of change and size of each of our files: what is kept holds for this state of them."""
    found = ((path, path.stat()) for path in sorted(CONFIGS.rglob("*.yaml")))
    return tuple((str(path), state.st_mtime_ns, state.st_size) for path, state in found)


def bare(root: str, choices: tuple[str, ...]) -> DictConfig:
    """Return a configuration that nothing but choices of groups makes; not to be changed."""
    return _bare(root, choices, state_of_files())


@functools.lru_cache(maxsize=64)
def _bare(root: str, choices: tuple[str, ...], state: FilesState) -> DictConfig:
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
