"""Runs for tests: composed as train.py composes them, in this process or in a child that is killed."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig

from experiments.engine import analysis
from experiments.engine.composition import composed, root_of
from experiments.engine.run import run

QUIET = {
    "train": ["tracker=none", "runtime.progress=none", "runtime.device=cpu"],
    "analyze": ["tracker=none", "runtime.threads=1"],
}
QUICK = ["task=digits", "scale=smoke", "tracker=none", "runtime.device=cpu"]  # a run of the programs


def configuration(*overrides: str) -> DictConfig:
    """Compose what train.py, or for an analysis analyze.py, would run."""
    names = [override.partition("=")[2] for override in overrides if override.startswith("experiment=")]
    analysis = any(override.startswith(("analysis", "quadratic@")) for override in overrides)
    root = "analyze" if analysis else root_of(names[0]) if names else "train"
    return composed(root, [*QUIET[root], *overrides])


def run_in(folder: Path, *overrides: str):
    folder.mkdir(parents=True, exist_ok=True)
    config = configuration(*overrides)
    return analysis.run(config, folder) if "analysis" in config else run(config, folder)


def history(folder: Path, drop: tuple[str, ...] = ("wall_s",)) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in drop} for row in csv.DictReader(file)]


def newest_checkpoint(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("*.pt"))


def state(folder: Path) -> dict:
    return torch.load(newest_checkpoint(folder), weights_only=True)


def run_in_child(folder: Path, *overrides: str, prepare: Callable[[], None]) -> int:
    """Run in a forked child after `prepare()` (which plants a signal there); return its exit code, -n for signal n."""

    def child() -> None:
        prepare()
        run_in(folder, *overrides)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(120)
    return process.exitcode


def signal_at_call(
    owner: object, name: str, count: int, signum: int = signal.SIGKILL, after: bool = False
) -> Callable[[], None]:
    """Return a `prepare` that sends the child `signum` before or after the `count`-th call of `owner.name`."""

    def prepare() -> None:
        original, calls = getattr(owner, name), 0

        def counted(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == count and not after:
                os.kill(os.getpid(), signum)
            result = original(*args, **kwargs)
            if calls == count and after:
                os.kill(os.getpid(), signum)
            return result

        setattr(owner, name, counted)

    return prepare
