"""What processes say to each other: real ones of this host, forked."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import weakref

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks.ports import free_port
from experiments.engine.errors import ConfigurationError
from experiments.engine.launch import Launch
from experiments.engine.peers import Peer
from experiments.engine.processes import ProcessLost, joined
from tests.helpers.forked_processes import forked, found_by

CPU = torch.device("cpu")
PEERS = [Peer("host", "", 100 + rank, "1") for rank in range(4)]
CLOSED = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]:52309")
SILENT = RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 3000ms for recv operation")


def together(folder, call, count=2, timeout_s=60.0):
    """Return what each of `count` processes that have met finds by `call(processes)`."""

    def met(rank):
        with joined(Launch(rank, count, rank), CPU, timeout_s) as processes:
            return call(processes)

    return found_by(folder, forked(folder, met, count))


def test_what_each_process_says_reaches_all_in_their_order(tmp_path):
    def call(processes):
        rank = processes.rank
        weights = [torch.full((2,), float(rank), requires_grad=True), torch.tensor(10 + rank)]
        processes.broadcast_tensors(weights)
        calls = []
        return {
            "sum": processes.sum([rank + 1, 0.1]),
            "any": [processes.any(rank == 1), processes.any(False)],
            "gather": processes.gather({"rank": rank}),
            "broadcast": processes.broadcast(f"of {rank}"),
            "tensors": [tensor.tolist() for tensor in weights],
            "first": processes.first(lambda: calls.append(1) or f"by {rank}"),
            "calls": len(calls),
            "alone, writes": [processes.alone, processes.writes],
        }

    for rank, found in enumerate(together(tmp_path, call, count=3)):
        assert found == {
            "sum": [6.0, pytest.approx(0.3, rel=1e-15)],
            "any": [True, False],
            "gather": [{"rank": 0}, {"rank": 1}, {"rank": 2}],
            "broadcast": "of 0",
            "tensors": [[0.0, 0.0], 10],
            "first": "by 0",
            "calls": int(rank == 0),
            "alone, writes": [False, rank == 0],
        }
    assert not dist.is_initialized()


def test_what_the_first_process_raises_ends_the_others_quietly(tmp_path):
    def call(processes):
        return processes.first(lambda: 1 / 0)

    assert together(tmp_path, call) == [
        ["ZeroDivisionError", "division by zero"],
        ["SaidByFirst", "the first process of this run says why it ends"],
    ]


def test_what_one_process_raises_is_said_by_those_that_wait_for_it(tmp_path):
    def call(processes):
        if processes.rank == 1:
            raise ValueError("a sample\n  is broken")
        return processes.sum([1.0])

    first, second = together(tmp_path, call)
    assert second == ["ValueError", "a sample\n  is broken"]
    assert first == [
        "ProcessLost",
        "another of the 2 processes ended (process 1: a sample is broken); the same command goes on",
    ]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_meets_nobody_says_where_it_waited(rank, tmp_path, monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "to be put back")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    with pytest.raises(ProcessLost) as raised, joined(Launch(rank, 2, rank), CPU, timeout_s=0.5):
        pass
    start = f"the 2 processes do not meet at 127.0.0.1:{os.environ['MASTER_PORT']} ("
    assert str(raised.value).startswith(start)
    assert len(str(raised.value).splitlines()) == 1
    assert not dist.is_initialized()


@pytest.mark.slow
def test_the_first_process_waits_for_others_that_prepare_for_longer_than_an_exchange_may_take(tmp_path):
    def call(processes):
        with processes.first_alone():
            if processes.rank == 1:
                time.sleep(6)
        return processes.sum([1.0])

    assert together(tmp_path, call, timeout_s=4) == [[2.0], [2.0]]


def test_the_first_process_waits_no_longer_for_one_that_was_killed(tmp_path):
    def call(processes):
        processes.meet()
        with processes.first_alone():
            if processes.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        return processes.sum([1.0])

    first, second = together(tmp_path, call)
    assert second is None
    assert first == ["ProcessLost", "another of the 2 processes ended (process 1 was killed); the same command goes on"]


@pytest.mark.parametrize("error", [ValueError("wrong"), RuntimeError("in torch"), KeyboardInterrupt(), None])
def test_no_reducer_outlives_its_group_of_processes(error, tmp_path):
    def run(references):
        model = DistributedDataParallel(torch.nn.Linear(2, 2))
        model.itself = [model]  # which alone would keep it until Python looks for such circles
        references.append(weakref.ref(model))
        try:
            if error is not None:
                raise error
        except ValueError as cause:
            raise ConfigurationError("said otherwise") from cause

    def met(rank):
        references, found, destroy = [], [], dist.destroy_process_group

        def noting():
            found.append(references[0]() is None)
            destroy()

        dist.destroy_process_group = noting
        with contextlib.suppress(BaseException), joined(Launch(rank, 2, rank), CPU, 60.0):
            run(references)
        return found

    assert found_by(tmp_path, forked(tmp_path, met, 2)) == [[True], [True]]


def test_processes_learn_where_each_of_them_runs(tmp_path):
    def call(processes):
        processes.meet()
        return [os.getpid(), [peer.pid for peer in processes.peers]]

    (first, peers), (second, same) = together(tmp_path, call)
    assert peers == same == [first, second]
