"""Whether another process of a run has ended, as one on the same host sees it."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys

import pytest

from experiments.engine import peers
from experiments.engine.peers import has_ended, this_process


@pytest.fixture
def other():
    """Another process, stopped before it does anything, and the peer that it is."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process, dataclasses.replace(this_process(), pid=process.pid, started=peers._state(process.pid)[1])
    process.kill()
    process.communicate()


def test_this_process_and_one_that_stands_still_have_not_ended(other):
    process, peer = other
    assert has_ended(this_process()) is False
    assert has_ended(peer) is False
    os.kill(process.pid, signal.SIGSTOP)
    assert has_ended(peer) is False


def test_a_process_that_was_killed_has_ended_before_and_after_what_started_it_asks(other):
    process, peer = other
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert has_ended(peer) is True
    process.wait()
    assert has_ended(peer) is True


def test_a_later_process_of_the_same_number_is_another_one():
    assert has_ended(dataclasses.replace(this_process(), started="1")) is True


@pytest.mark.parametrize("elsewhere", [{"host": "other"}, {"namespace": "pid:[1]"}])
def test_of_another_host_or_container_nothing_is_known(elsewhere):
    assert has_ended(dataclasses.replace(this_process(), pid=2**22 + 1, **elsewhere)) is None


def test_where_the_system_tells_nothing_of_processes_nothing_is_known(monkeypatch):
    known = this_process()
    monkeypatch.setattr(peers, "_state", lambda pid: ("", ""))
    assert has_ended(known) is None
