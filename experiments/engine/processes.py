"""What the processes of a run say to each other.

torchrun and Slurm start them (launch.py); without them there is one process, and everything here is trivial.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from experiments.engine.errors import SaidByFirst, UserError
from experiments.engine.launch import Launch, whole_number
from experiments.engine.peers import Peer, has_ended, this_process

PREPARING = timedelta(hours=2)  # for what the first process does alone, such as a download
LOOK_S = 0.1  # between two looks at processes that are waited for
LAST_WORDS = timedelta(seconds=2)  # for what another process says of its end


class ProcessLost(UserError):
    """Another process of this run ended, or does not answer."""


def meeting_point(environment: Mapping[str, str]) -> dict[str, str]:
    """Return MASTER_ADDR and MASTER_PORT: those given, else Slurm's first host and a port that its job makes."""
    hosts = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST") or "127.0.0.1"
    job, step = (whole_number(environment.get(name, ""), 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    address = environment.get("MASTER_ADDR") or first_host(hosts)
    port = environment.get("MASTER_PORT") or str(20000 + (job + 101 * step) % 10000)
    return {"MASTER_ADDR": address, "MASTER_PORT": port}


def first_host(hosts: str) -> str:
    """Return the first host of a list in Slurm's notation: node003 of node[003-006,009],other."""
    found = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\]([^,]*))?", hosts)
    return "".join(part or "" for part in found.groups()) if found else hosts


@dataclass
class Processes:
    """The processes of a run. Every method but `announce` is called by all of them, in the same order."""

    rank: int = 0
    count: int = 1
    store: dist.Store | None = field(default=None, repr=False)
    peers: Sequence[Peer] = ()  # all of them, by rank

    @property
    def alone(self) -> bool:
        return self.count == 1

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes the run's files."""
        return self.rank == 0

    def meet(self) -> None:
        """Learn where each process runs, so that one that ends without a word can be named."""
        self.peers = self.gather(this_process())

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes, in float64."""
        if self.alone:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def any(self, flag: bool) -> bool:
        """Return whether it holds on some process."""
        return self.sum([float(flag)])[0] > 0

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in the order of the processes."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """Return the first process's value."""
        if self.alone:
            return value
        box = [value if self.writes else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def broadcast_tensors(self, tensors: Iterable[torch.Tensor]) -> None:
        """Copy the first process's tensors into those of the others, in place."""
        if not self.alone:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def average_tensors(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their means over all processes, in place."""
        if not self.alone and tensors:
            flat = torch.cat([tensor.detach().reshape(-1).double() for tensor in tensors])
            dist.all_reduce(flat)
            for tensor, mean in zip(tensors, (flat / self.count).split([t.numel() for t in tensors]), strict=True):
                tensor.detach().copy_(mean.view_as(tensor))

    def gather_to_first(self, value: Any) -> list[Any] | None:
        """Return every process's value on the first one, in their order, and None on the others."""
        if self.alone:
            return [value]
        values: list[Any] | None = [None] * self.count if self.writes else None
        dist.gather_object(value, values, dst=0)
        return values

    def first(self, call: Callable[[], Any]) -> Any:
        """Let the first process call; return what it returns on all. What it raises ends the others quietly."""
        if self.alone:
            return call()
        outcome, error = None, None
        if self.writes:
            try:
                outcome = call()
            except Exception as raised:
                error = raised
        failed = self.broadcast(error is not None)
        if error is not None:
            raise error
        if failed:
            raise SaidByFirst
        return self.broadcast(outcome)

    @contextlib.contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first process go through the block before the others do: it may fetch what they then find.

        It then waits for them, as what they do there may take longer than an answer to an exchange may.
        """
        if not self.alone and not self.writes:
            self.store.wait(["prepared"], PREPARING)
            if self.store.get("prepared") != b"yes":
                raise SaidByFirst
        done = b"no"
        try:
            yield
            done = b"yes"
        finally:
            if not self.alone:
                self.store.set("prepared" if self.writes else f"prepared {self.rank}", done)
        if not self.alone and self.writes:
            self._wait_for_the_others()

    def _wait_for_the_others(self) -> None:
        """Wait until all have gone through the block; if one of them has ended, the next exchange says so."""
        missing, end = range(1, self.count), time.monotonic() + PREPARING.total_seconds()
        while time.monotonic() < end:
            missing = [rank for rank in missing if not self.store.check([f"prepared {rank}"])]
            if not missing or any(has_ended(self.peers[rank]) for rank in missing if self.peers):
                return
            time.sleep(LOOK_S)

    def announce(self, error: BaseException) -> None:
        """Tell the others why this process ends, for their last words; never raises."""
        if not self.alone and not isinstance(error, SaidByFirst):
            with contextlib.suppress(Exception):
                self.store.set("failed", f"process {self.rank}: {' '.join(str(error).split()) or type(error).__name__}")

    def explanation(self, error: RuntimeError) -> ProcessLost | None:
        """Return what to say of an error of communication, or None where it is another one."""
        text = str(error).splitlines()[0] if str(error) else ""
        of_communication = isinstance(error, dist.DistError) or re.search("gloo|nccl|[Cc]onnection|timed? ?out", text)
        if self.alone or not of_communication:
            return None
        reason = self._said_or_seen(silent=bool(re.search("timed? ?out", text, re.IGNORECASE)))
        return ProcessLost(f"another of the {self.count} processes ended ({reason}); the same command goes on")

    def _said_or_seen(self, silent: bool) -> str:
        """Return what another process said before it ended, or else which one is gone, and tell the others so."""
        reason = "it does not answer, or was killed"
        try:
            self.store.set(f"noticed {self.rank}", "yes")
            with contextlib.suppress(dist.DistStoreError):  # nobody says anything
                self.store.wait(["failed"], LAST_WORDS)
                self.store.add("heard", 1)
                return self.store.get("failed").decode()
            reason = self._missing(silent)
            self.store.set("failed", reason)
            self._let_others_hear()
        except dist.DistNetworkError:  # without torchrun the first process keeps the store
            reason = "process 0 was killed, or says why itself"
        except Exception:
            pass
        return reason

    def _missing(self, silent: bool) -> str:
        """Say which other process was killed, or did not notice, as this one did, that one does not answer."""
        others = [rank for rank in range(self.count) if rank != self.rank]
        ended = {rank: has_ended(self.peers[rank]) for rank in others}
        gone, verb = [rank for rank in others if ended[rank]], ("was", "were")
        if not gone:
            gone = [rank for rank in others if not self.store.check([f"noticed {rank}"])] or others
            gone = [rank for rank in gone if silent or ended[rank] is None] or gone
            verb = ("does not answer, or was", "do not answer, or were")
        which = f"process {gone[0]}" if len(gone) == 1 else f"processes {', '.join(map(str, gone))}"
        return f"{which} {verb[len(gone) > 1]} killed"

    def _let_others_hear(self) -> None:
        """Wait, in the process that keeps the store, until the others have read why they end."""
        end = time.monotonic() + LAST_WORDS.total_seconds()
        expected = sum(not has_ended(peer) for peer in self.peers) - 1
        while self.writes and self.store.add("heard", 0) < expected and time.monotonic() < end:
            time.sleep(0.02)


ALONE = Processes()


@contextlib.contextmanager
def _not_stopped() -> Iterator[None]:
    """Ignore SIGTERM, which torchrun sends to the others once a process has ended, before they could say which one.

    Under torchrun it stays ignored, as what follows is the end of this process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextlib.contextmanager
def joined(started: Launch, device: torch.device, timeout_s: float) -> Iterator[Processes]:
    """Meet the other processes, over gloo and for CUDA tensors NCCL, and leave them at the end.

    A process that does not answer for `timeout_s` seconds ends the others, which say why.
    """
    if started.count == 1:
        yield ALONE
        return
    os.environ.update(meeting_point(os.environ), RANK=str(started.rank), WORLD_SIZE=str(started.count))
    timeout = timedelta(seconds=timeout_s)
    try:
        store, _, _ = next(dist.rendezvous("env://", started.rank, started.count, timeout=timeout))
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=started.rank, world_size=started.count, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise ProcessLost(
            f"the {started.count} processes do not meet at {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} "
            f"({str(error).splitlines()[0]})"
        ) from error
    processes = Processes(started.rank, started.count, dist.PrefixStore("run", store))
    try:
        yield processes
    except RuntimeError as error:
        with _not_stopped():
            explained = processes.explanation(error)
        if explained is None:
            processes.announce(error)
            raise
        raise explained from error
    except BaseException as error:
        processes.announce(error)
        raise
    finally:
        _let_go(sys.exc_info()[1])
        with contextlib.suppress(Exception):
            dist.destroy_process_group()


def _let_go(error: BaseException | None) -> None:
    """Free what the run still holds, where nothing but the frames of an error, or a circle of references, does so.

    A reducer of DDP that outlives its group of processes takes that apart itself, and may then wait for ever: it holds
    Python's lock, which a thread of the group waits for.
    """
    known: list[BaseException] = []
    while error is not None and error not in known:
        known.append(error)
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()
