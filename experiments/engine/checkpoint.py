"""Checkpoints: written atomically, with their checksum in the file's name, the last two kept.

`00012-step-00000391.<16 hex digits of sha256>.pt`: a serial number, the step, the checksum. One rename makes the
file and its checksum appear together, so that a kill at any moment leaves either the whole checkpoint or none.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from experiments.engine.errors import RunFolderError
from experiments.engine.files import digest, replace_file

log = logging.getLogger(__name__)

KEPT = 2
NAME = re.compile(r"(\d+)-step-\d+\.([0-9a-f]{16})\.pt")


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
        """Write `state` as the newest checkpoint, then delete all but the last two. Raises NoSpaceLeft."""
        self.folder.mkdir(exist_ok=True)
        for torn in self.folder.glob(".*.tmp"):  # of a process that was killed while it wrote
            torn.unlink()
        newest = next(iter(self.paths()), None)
        stem = f"{_serial(newest) + 1 if newest else 1:05d}-step-{step:08d}"
        path = replace_file(
            self.folder / stem,
            write=lambda temporary: _write(temporary, state),
            name=lambda temporary: f"{stem}.{digest(temporary)}.pt",
        )
        for old in self.paths()[KEPT:]:
            old.unlink()
        return path

    def load(self) -> dict[str, Any] | None:
        """Return the newest undamaged checkpoint, on the CPU whatever wrote it, or None where there is none at all.

        A damaged one that is passed over is named in the log. Raises RunFolderError where all are damaged, or where
        the newest holds what this code does not read.
        """
        paths, damaged = self.paths(), []
        for path in paths:
            if digest(path) == NAME.fullmatch(path.name)[2]:
                for bad in damaged:  # else it would count as one of the two that are kept
                    bad.rename(bad.with_suffix(".damaged"))
                return self._read(path)
            log.warning("checkpoint %s is damaged (its checksum differs): the one before it is used", path)
            damaged.append(path)
        if paths:
            raise RunFolderError(
                f"every checkpoint in {self.folder} is damaged; move {self.folder.parent} away to start again"
            )
        return None

    def _read(self, path: Path) -> dict[str, Any]:
        with self.fitting(path):
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict):
                raise ValueError(f"it holds a {type(state).__name__}")
        return state

    @contextlib.contextmanager
    def fitting(self, path: Path | None = None) -> Iterator[None]:
        """Name the checkpoint (the newest) where a part cannot take its state from it, being of other code.

        Raises RunFolderError for what `load_state_dict` and its like raise; put states back inside this context.
        """
        unfit = (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, pickle.UnpicklingError)
        try:
            yield
        except torch.OutOfMemoryError:  # a RuntimeError, too
            raise
        except unfit as error:
            path = path or next(iter(self.paths()), self.folder)
            kind = f"{type(error).__name__}: " if isinstance(error, KeyError | IndexError) else ""
            reason = kind + str(error).strip().split("\n")[0]
            raise RunFolderError(
                f"{path} does not fit this code ({reason}); use the code that wrote it, or move "
                f"{self.folder.parent} away to start again"
            ) from error


def _write(path: Path, state: dict[str, Any]) -> None:
    with path.open("wb") as file:  # given a path, torch keeps to itself what the operating system said
        torch.save(state, file)


def _serial(path: Path) -> int:
    return int(NAME.fullmatch(path.name)[1])
