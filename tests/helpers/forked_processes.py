"""Processes forked from a test, which meet in less than a second as nothing is imported anew."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.ports import free_port
from tests.helpers.engine_processes import do

Forked = multiprocessing.context.ForkProcess


def forked(folder: Path, call: Callable[[int], Any], count: int = 2) -> list[Forked]:
    """Start processes that each write to `folder` what `call(rank)` returns, or the kind and words of its error."""
    port = str(free_port())

    def child(rank: int) -> None:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        try:
            found = call(rank)
        except BaseException as error:
            found = [type(error).__name__, str(error)]
        (folder / f"{rank}.json").write_text(json.dumps(found))

    started = [multiprocessing.get_context("fork").Process(target=child, args=(rank,)) for rank in range(count)]
    for process in started:
        process.start()
    return started


def found_by(folder: Path, started: Sequence[Forked]) -> list[Any]:
    """Wait for the processes to end; return what each of them wrote, None of one that was killed."""
    for process in started:
        process.join(120)
        if process.is_alive():
            process.kill()
    files = [folder / f"{rank}.json" for rank in range(len(started))]
    return [json.loads(file.read_text()) if file.exists() else None for file in files]


def runs_of_two(folder: Path, jobs: Mapping[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Let two processes do `jobs` one after the other, each in its own folder; return what both found of each."""
    ports = {name: str(free_port()) for name in jobs}  # one each, as that of the run before may not be free yet

    def child(rank: int) -> dict[str, dict]:
        os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
        found = {}
        for name, job in jobs.items():
            os.environ["MASTER_PORT"] = ports[name]
            found[name] = do(job | {"folder": str(folder / name)}, rank)
            gc.collect()  # what a run leaves of torch's DDP, in both processes before the next one begins
        return found

    started = forked(folder, child)
    for process in started:
        process.join(1000)
    found = found_by(folder, started)
    assert all(isinstance(each, dict) for each in found), found
    return {name: [each[name] for each in found] for name in jobs}


def among(folder: Path, call: Callable[[int], Any], count: int = 2) -> list[Any]:
    """Return what `call(rank)` gives in each of several processes that have met, or the words of its error."""

    def child(rank: int) -> Any:
        torch.set_num_threads(1)
        # Not destroyed: in torch 2.4 that can wait, with the interpreter's lock, for a thread which needs the lock to
        # let go of the last tensor that it exchanged. The process ends without it.
        dist.init_process_group("gloo", rank=rank, world_size=count)
        return call(rank)

    return found_by(folder, forked(folder, child, count))
