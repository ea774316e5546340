"""Processes forked from a test, which meet in less than a second as nothing is imported anew."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ports import free_port

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
