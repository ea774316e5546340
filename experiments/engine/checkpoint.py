"""Checkpoints: written atomically, with their checksum in the file's name, the last two kept.

`00012-step-00000391.<16 hex digits of sha256>.pt`: a serial number, the step, the checksum. One rename makes the
file and its checksum appear together, so that a kill at any moment leaves either the whole checkpoint or none.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from typing import Any

import torch

from experiments.engine.errors import RunFolderError
from experiments.engine.files import replace_file

log = logging.getLogger(__name__)

KEPT = 2
NAME = re.compile(r"(\d+)-step-\d+\.([0-9a-f]{16})\.pt")


def digest(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            sha.update(chunk)
    return sha.hexdigest()[:16]


class Checkpoints:
    """The checkpoints of one run; loading never runs code from a file (`weights_only=True`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paths(self) -> list[Path]:
        """Return the checkpoints, newest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        return sorted(found, key=_serial, reverse=True)

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write `state` as the newest checkpoint, then delete all but the last two."""
        self.folder.mkdir(exist_ok=True)
        for torn in self.folder.glob(".*.tmp"):  # of a process that was killed while it wrote
            torn.unlink()
        newest = next(iter(self.paths()), None)
        stem = f"{_serial(newest) + 1 if newest else 1:05d}-step-{step:08d}"
        path = replace_file(
            self.folder / stem,
            write=lambda temporary: torch.save(state, temporary),
            name=lambda temporary: f"{stem}.{digest(temporary)}.pt",
        )
        for old in self.paths()[KEPT:]:
            old.unlink()
        return path

    def load(self) -> dict[str, Any] | None:
        """Return the newest undamaged checkpoint, on the CPU whatever wrote it, or None where there is none at all.

        A damaged one that is passed over is named in the log. Raises RunFolderError where all are damaged.
        """
        paths, damaged = self.paths(), []
        for path in paths:
            if digest(path) == NAME.fullmatch(path.name)[2]:
                for bad in damaged:  # else it would count as one of the two that are kept
                    bad.rename(bad.with_suffix(".damaged"))
                return torch.load(path, map_location="cpu", weights_only=True)
            log.warning("checkpoint %s is damaged (its checksum differs): the one before it is used", path)
            damaged.append(path)
        if paths:
            raise RunFolderError(
                f"every checkpoint in {self.folder} is damaged; move {self.folder.parent} away to start again"
            )
        return None


def _serial(path: Path) -> int:
    return int(NAME.fullmatch(path.name)[1])
