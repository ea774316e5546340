"""Run code that may crash, hang or change classes: in a forked child each, so that nothing of it stays."""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import torch
import torch._dynamo  # which optimizers import when first made: here once, not in every child
import torch.distributed as dist

from benchmarks.capabilities.adapters import Excluded, Unsupported

FORK = multiprocessing.get_context("fork")  # a fresh interpreter would import torch anew, two seconds each
LONGEST_REASON = 240


class Outcome(NamedTuple):
    """Whether a check passed, in one line why it did not, and whether it could not in the setting."""

    passed: bool
    reason: str = ""
    excluded: bool = False


def outcome_of(function: Callable[..., None], *arguments: Any) -> Outcome:
    """Call a check in this process."""
    try:
        function(*arguments)
    except (AssertionError, Excluded, Unsupported) as error:
        return Outcome(False, _one_line(str(error)), isinstance(error, Excluded))
    except Exception as error:
        return Outcome(False, _one_line(f"{type(error).__name__}: {error}"))
    return Outcome(True)


def isolated(function: Callable[..., None], *arguments: Any, timeout: float = 60) -> Outcome:
    """Call a check in a child process, which is ended with all its own children after `timeout` seconds."""
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_child, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            return Outcome(False, f"does not end within {timeout:g} seconds")
        return receiver.recv()
    except EOFError:
        process.join()
        return Outcome(False, f"the interpreter ends with code {process.exitcode}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the child leads a group of its own
        process.join()


def on_two_ranks(function: Callable[..., Any], *arguments: Any, timeout: float = 40) -> list[Any]:
    """Call `function(rank, *arguments)` on two gloo processes and return what each returned (plain objects)."""
    with tempfile.TemporaryDirectory() as folder:
        pipes = [FORK.Pipe(duplex=False) for _ in range(2)]
        processes = [
            FORK.Process(target=_rank, args=(rank, f"file://{folder}/rendezvous", pipes[rank][1], function, arguments))
            for rank in range(2)
        ]
        try:
            for process in processes:
                process.start()
            results: dict[Any, Any] = {}
            while len(results) < 2:
                ready = multiprocessing.connection.wait({r for r, _ in pipes} - set(results), timeout)
                if not ready:
                    raise AssertionError(f"two processes do not end within {timeout:g} seconds")
                results |= {receiver: receiver.recv() for receiver in ready}
                for failure in (result for result in results.values() if isinstance(result, Outcome)):
                    raise AssertionError(failure.reason)
        finally:
            for process in processes:
                process.kill()
                process.join()
    return [results[receiver] for receiver, _ in pipes]


def _child(sender: Any, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    gc.freeze()  # what was there before the check is not searched for garbage, or for tensors
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # warnings of many runs would hide the table
        os.dup2(quiet, stream)
    sender.send(outcome_of(function, *arguments))


def _rank(rank: int, rendezvous: str, sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    results: list[Any] = []

    def run() -> None:
        dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
        results.append(function(rank, *arguments))

    outcome = outcome_of(run)
    sender.send(results[0] if outcome.passed else outcome)
    signal.pause()  # until the other rank is done too: one that leaves early breaks its connections


def _one_line(text: str) -> str:
    line = re.sub(r"/\S*/", "…/", " ".join(text.split()))  # paths differ from machine to machine
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…"
