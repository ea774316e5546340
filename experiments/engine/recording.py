"""What a run of training and an analysis share: the lock, config.yaml, the tracker, the commit and the summary."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from experiments.engine import provenance, records
from experiments.engine.errors import Diverged
from experiments.engine.lock import locked
from experiments.engine.processes import ALONE, Processes
from experiments.engine.run_folder import check_folder, write_config
from experiments.engine.tracker import NoTracker, Tracker

log = logging.getLogger(__name__)


class Recording:
    """The open records of one run. `done` is the summary of a run that another process finished in the meantime."""

    def __init__(self, config: DictConfig, folder: Path, commit: str, processes: Processes) -> None:
        self.config, self.folder, self.commit, self.processes = config, folder, commit, processes
        self.tracker: Tracker = NoTracker()
        self.done: dict[str, Any] | None = None
        self.summary: dict[str, Any] | None = None

    def finish(self, values: dict[str, Any], device: torch.device, commits: list[str] | None = None) -> dict[str, Any]:
        """Write summary.json from `values` and what every summary says; return it."""
        summary = {
            **values,
            "peak_memory_bytes": provenance.peak_memory(device),
            "device": provenance.device_name(device),
            "commit": self.commit,
            "commits": commits or [self.commit],
            "versions": provenance.versions(),
        }
        if self.processes.writes:
            records.write_summary(self.folder, summary)
        self.summary = summary
        return summary


@contextlib.contextmanager
def recorded(config: DictConfig, folder: Path, commit: str, processes: Processes = ALONE) -> Iterator[Recording]:
    """Hold the run's folder inside the context; the first process alone touches it.

    Raises RunFolderError where another run holds it or it is of another configuration, and Diverged.
    """
    recording = Recording(config, folder, commit, processes)
    with contextlib.ExitStack() as stack:

        def begin() -> dict[str, Any] | None:
            stack.enter_context(locked(folder))
            done = finished(config, folder)
            if done is None:
                write_config(folder, config)
                recording.tracker = _tracker(config, folder)
                stack.callback(lambda: recording.tracker.finish(recording.summary))
            return done

        recording.done = processes.first(begin)
        yield recording


def identity(config: DictConfig) -> dict[str, Any]:
    """Return what every summary says of its configuration."""
    precision = {"precision": config.precision} if "precision" in config else {}  # an analysis computes in float64
    return {"scale": config.scale, **precision, "seed": config.seed}


def finished(config: DictConfig, folder: Path) -> dict[str, Any] | None:
    """Return the summary of a finished run, which is left as it is, or None. Raises Diverged for one that diverged."""
    check_folder(folder, config)
    summary = records.read_summary(folder)
    if summary is None:
        return None
    if summary["status"] == "diverged":
        raise Diverged(f"{folder} diverged before: {summary['reason']}; delete the folder to run it again")
    final = records.final(summary, config)
    found = f" ({final})" if final else ""  # an analysis has claims instead
    log.info("%s is finished already%s; delete the folder to run it again", folder, found)
    return summary


def _tracker(config: DictConfig, folder: Path) -> Tracker:
    """Start the tracker of the run in `folder`, whose names follow from the folder's."""
    return instantiate(config.tracker)(
        folder=folder,
        config=OmegaConf.to_container(config, resolve=True),
        group=folder.absolute().parts[-2],
        name="-".join(folder.parts[-2:]),
    )
