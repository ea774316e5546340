"""What a process says of another one that has ended, and of a meeting that fails: with stand-ins for the others."""

from __future__ import annotations

import os
import signal
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from experiments.engine import processes
from experiments.engine.errors import ConfigurationError, SaidByFirst
from experiments.engine.launch import Launch
from experiments.engine.peers import Peer
from experiments.engine.processes import ALONE, Processes, ProcessLost, joined, meeting_point

CPU = torch.device("cpu")
PEERS = [Peer("host", "", 100 + rank, "1") for rank in range(4)]
CLOSED = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]:52309")
SILENT = RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 3000ms for recv operation")


class Store(dict):
    """A store in this process that notes for how long it was asked to wait."""

    def __init__(self, **values):
        super().__init__(values)
        self.waited = []

    def wait(self, keys, timeout):
        self.waited.append((keys, timeout))
        if any(key not in self for key in keys):
            raise dist.DistStoreError("timed out")

    def set(self, key, value):
        self[key] = value.encode() if isinstance(value, str) else value

    def get(self, key):
        return self[key]

    def check(self, keys):
        return all(key in self for key in keys)

    def add(self, key, count):
        self[key] = dict.get(self, key, 0) + count
        return self[key]


def test_the_first_process_alone_fetches_and_says_whether_it_could():
    others = {"prepared 1": b"yes", "prepared 2": b"no"}
    store = Store(**others)
    with Processes(0, 3, store).first_alone():
        assert store == others  # they still wait
    assert store == {"prepared": b"yes", **others}
    assert store.waited == []
    store = Store(prepared=b"yes")
    entered = []
    with Processes(1, 2, store).first_alone():
        entered.append(1)
    assert entered == [1]
    assert store.waited == [(["prepared"], timedelta(hours=2))]
    assert store == {"prepared": b"yes", "prepared 1": b"yes"}
    with pytest.raises(ZeroDivisionError), Processes(1, 2, store).first_alone():
        raise ZeroDivisionError
    assert store["prepared 1"] == b"no"
    store.waited.clear()
    with pytest.raises(ZeroDivisionError), Processes(0, 2, store).first_alone():
        raise ZeroDivisionError
    assert (store["prepared"], store.waited) == (b"no", [])
    with pytest.raises(SaidByFirst), Processes(1, 2, store).first_alone():
        entered.append(2)
    assert entered == [1]
    with ALONE.first_alone():
        entered.append(3)
    with pytest.raises(ZeroDivisionError), ALONE.first_alone():
        raise ZeroDivisionError


def test_last_words_are_one_line_and_never_raise():
    store = Store()
    two = Processes(1, 2, store)
    two.announce(ValueError("a\n  b"))
    assert store["failed"] == b"process 1: a b"
    two.announce(KeyboardInterrupt())
    assert store["failed"] == b"process 1: KeyboardInterrupt"
    Processes(1, 2, None).announce(ValueError("x"))
    ALONE.announce(ValueError("x"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[/pytorch/third_party/gloo/transport/tcp/pair.cc] closed by peer"),
        RuntimeError("nccl: unhandled"),
        RuntimeError("Connection reset by peer"),
        RuntimeError("timed out after 3 s\nmore"),
        RuntimeError("a timeout"),
        dist.DistBackendError("x"),
        dist.DistStoreError(""),
    ],
)
def test_an_error_of_communication_is_explained_by_what_another_process_said(error):
    lost = Processes(0, 3, Store(failed=b"process 2: a sample is broken")).explanation(error)
    assert isinstance(lost, ProcessLost)
    expected = "another of the 3 processes ended (process 2: a sample is broken); the same command goes on"
    assert str(lost) == expected
    silent = Store()
    assert "(processes 1, 2 do not answer, or were killed)" in str(
        Processes(0, 3, silent, PEERS[:3]).explanation(error)
    )
    assert silent.waited == [(["failed"], timedelta(seconds=2))]
    assert "(it does not answer, or was killed)" in str(Processes(0, 3, None).explanation(error))
    assert ALONE.explanation(error) is None


@pytest.mark.parametrize(
    ("ended", "noticed", "error", "reason"),
    [
        ([False, True, False, False], [], CLOSED, "process 1 was killed"),
        ([False, True, False, True], [], SILENT, "processes 1, 3 were killed"),
        # Of another host nothing is known, but who noticed the end of another one has not ended.
        ([False, None, None, None], [1, 3], CLOSED, "process 2 does not answer, or was killed"),
        ([False, None, None, False], [1], CLOSED, "process 2 does not answer, or was killed"),
        ([False, None, None, False], [], CLOSED, "processes 1, 2 do not answer, or were killed"),
        # A process of this host that lives may hang.
        ([False, False, False, False], [1, 3], SILENT, "process 2 does not answer, or was killed"),
        ([False, False, None, False], [1], SILENT, "processes 2, 3 do not answer, or were killed"),
        ([False, False, False, False], [1, 2, 3], SILENT, "processes 1, 2, 3 do not answer, or were killed"),
    ],
)
def test_a_process_that_ends_without_a_word_is_named(ended, noticed, error, reason, monkeypatch):
    monkeypatch.setattr(processes, "has_ended", lambda peer: ended[PEERS.index(peer)])
    monkeypatch.setattr(processes, "LAST_WORDS", timedelta(seconds=0.05))
    store = Store(**{f"noticed {rank}": "yes" for rank in noticed})
    lost = Processes(0, 4, store, PEERS).explanation(error)
    assert str(lost) == f"another of the 4 processes ended ({reason}); the same command goes on"
    # The others are told, and say the same.
    store.clear()
    store["failed"] = reason.encode()
    assert str(Processes(2, 4, store, PEERS).explanation(error)) == str(lost)
    assert store["heard"] == 1


def test_the_end_of_the_process_that_keeps_the_store_is_told_from_silence():
    class Gone(Store):
        def wait(self, keys, timeout):
            raise dist.DistNetworkError("broken pipe")

    lost = Processes(1, 3, Gone(), PEERS[:3]).explanation(CLOSED)
    assert "(process 0 was killed, or says why itself)" in str(lost)


def test_the_process_that_keeps_the_store_stays_until_the_others_have_heard(monkeypatch):
    monkeypatch.setattr(processes, "has_ended", lambda peer: peer is PEERS[2])
    asked = []

    class Slow(Store):
        def add(self, key, count):
            asked.append(key)
            return len(asked)  # one more each time

    Processes(0, 4, Slow(), PEERS).explanation(CLOSED)
    assert asked == ["heard"] * 2  # of the processes 1 and 3
    asked.clear()
    Processes(1, 4, Slow(), PEERS).explanation(CLOSED)
    assert asked == []


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), RuntimeError(""), RuntimeError("x\ntimed out")])
def test_another_error_is_none_of_communication(error):
    assert Processes(0, 2, Store(failed=b"x")).explanation(error) is None


def test_the_processes_of_a_run_meet_by_what_their_devices_need(monkeypatch):
    begun, ended = [], []
    monkeypatch.setattr(dist, "rendezvous", lambda *given, **options: iter([(Store(), given, options)]))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: begun.append((backend, options)))
    monkeypatch.setattr(dist, "PrefixStore", lambda prefix, store: (prefix, store))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: ended.append(1) or 1 / 0)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    for device, backend in ((CPU, "gloo"), (torch.device("cuda", 0), "cpu:gloo,cuda:nccl")):
        with joined(Launch(2, 4, 0), device, 7.5) as processes:
            assert (processes.rank, processes.count, processes.store[0]) == (2, 4, "run")
            assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("2", "4")
        ((found, options),) = begun
        assert found == backend
        assert (options["rank"], options["world_size"], options["timeout"]) == (2, 4, timedelta(seconds=7.5))
        assert ended.pop()  # and what it raises at the end is nobody's concern
        begun.clear()
    with joined(Launch(), CPU, 1.0) as processes:
        assert processes is ALONE
    assert (begun, ended) == ([], [])


def test_what_a_run_raises_is_told_to_the_others(monkeypatch):
    store = Store()
    monkeypatch.setattr(dist, "rendezvous", lambda *given, **options: iter([(store, 0, 0)]))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: None)
    monkeypatch.setattr(dist, "PrefixStore", lambda prefix, store: store)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    for error in (RuntimeError("shapes differ"), KeyboardInterrupt("stop"), ConfigurationError("wrong")):
        store.clear()
        with pytest.raises(type(error)) as raised, joined(Launch(1, 2, 1), CPU, 1.0):
            raise error
        assert raised.value is error
        assert store["failed"].decode() == f"process 1: {error}"
    store.clear()
    with pytest.raises(ProcessLost), joined(Launch(1, 2, 1), CPU, 1.0):
        raise RuntimeError("gloo: closed")
    assert "failed" not in store  # it only repeats what another one has to say


@pytest.mark.usefixtures("signals_put_back")
@pytest.mark.parametrize("torchrun", [False, True])
def test_a_process_says_which_one_ended_though_it_is_told_to_end_too(torchrun, monkeypatch):
    class Ending(Store):
        def wait(self, keys, timeout):
            os.kill(os.getpid(), signal.SIGTERM)
            super().wait(keys, timeout)

    monkeypatch.setattr(dist, "rendezvous", lambda *given, **options: iter([(Ending(failed=b"process 0: x"), 0, 0)]))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: None)
    monkeypatch.setattr(dist, "PrefixStore", lambda prefix, store: store)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    if not torchrun:
        monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ProcessLost, match="process 0: x"), joined(Launch(1, 2, 1), CPU, 1.0):
        raise RuntimeError("gloo: closed")
    assert signal.getsignal(signal.SIGTERM) == (signal.SIG_IGN if torchrun else before)


def test_the_meeting_point_of_a_step_is_its_own_and_alone_this_host():
    assert meeting_point({}) == {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "20000"}
    step = {"SLURM_STEP_NODELIST": "b[2-3]", "SLURM_JOB_NODELIST": "a[1-3]", "SLURM_JOB_ID": "9999"}
    assert meeting_point(step) == {"MASTER_ADDR": "b2", "MASTER_PORT": "29999"}
    assert meeting_point(step | {"SLURM_STEP_ID": "1"}) == {"MASTER_ADDR": "b2", "MASTER_PORT": "20100"}
    assert meeting_point(step | {"SLURM_STEP_ID": "3"}) == {"MASTER_ADDR": "b2", "MASTER_PORT": "20302"}
    assert meeting_point({"MASTER_PORT": "7"}) == {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "7"}


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_of_a_meeting_that_fails_the_first_line_is_said(error, monkeypatch):
    def failing(*_, **__):
        raise error("nobody came\nat frame 7")

    monkeypatch.setattr(dist, "rendezvous", failing)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(ProcessLost, match=r"^the 2 processes do not meet at 1:1 \(nobody came\)$"):
        joined(Launch(1, 2, 1), CPU, 1.0).__enter__()
