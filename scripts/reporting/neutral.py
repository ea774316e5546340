"""Records without the folders of the machine on which they were made, which nobody else has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.engine.files import digest_of
from experiments.engine.records import DamagedRecord, read_config, read_summary

FOLDERS = ("runtime.output_dir", "runtime.data_dir")


def neutral(folder: Path) -> dict[str, bytes]:
    """Return the files of a record that change, by name, where its FOLDERS become their last names: /disk/data is data.

    These are config.yaml, also where another value of it repeats such a folder, and summary.json, which has its digest.
    Nothing changes where no folder is absolute. Raises DamagedRecord.
    """
    config, summary = read_config(folder), read_summary(folder) or {}
    named = [OmegaConf.select(config, key) for key in FOLDERS]
    last_names = {name: Path(name).name for name in named if isinstance(name, str) and os.path.isabs(name)}
    if not last_names:
        return {}
    content = OmegaConf.to_yaml(OmegaConf.create(_replaced(OmegaConf.to_container(config), last_names))).encode()
    changed = {"config.yaml": content}
    before = summary.get("files", {}).get("config.yaml")
    if before is not None:  # an old summary has no digests
        text = (folder / "summary.json").read_bytes()
        changed["summary.json"] = text.replace(f'"{before}"'.encode(), f'"{digest_of(content)}"'.encode())
    return changed


def holds(target: Path, files: Iterable[Path], changed: Mapping[str, bytes]) -> bool:
    """Return whether the record at `target` is of these files of a run, `changed` as `neutral` says.

    A record that still names its folders is the same one.
    """
    if not all((target / path.name).exists() for path in files):
        return False
    try:
        changed_there = neutral(target)
    except DamagedRecord:
        return False
    return all(_content(target / path.name, changed_there) == _content(path, changed) for path in files)


def _content(path: Path, changed: Mapping[str, bytes]) -> bytes:
    return changed[path.name] if path.name in changed else path.read_bytes()


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value
