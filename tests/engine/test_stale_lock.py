"""A lock that was left is taken only where its owner is certainly gone; who owns it is read from what it says."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from experiments.engine import lock
from tests.helpers.locks import ENVIRONMENT, HOLD, recorded, refused, taken


def dead_process():
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    return dead.pid


@pytest.mark.parametrize(
    ("changes", "free_with_flock", "free_without"),
    [
        ({}, False, False),  # alive: a file system may have lost its flocks
        ({"pid": "dead"}, True, True),
        ({"started": "1"}, True, True),  # the number was given to another process
        ({"boot": "another"}, True, True),  # the host was started anew
        ({"pid_namespace": "pid:[1]"}, True, False),  # without a flock its owner cannot be asked
        ({"pid_namespace": "pid:[1]", "flock": False}, False, False),
        ({"pid_namespace": "pid:[1]", "flock": ...}, False, False),
        ({"host": "elsewhere", "pid": "dead"}, False, False),
        ({"host": "elsewhere", "boot": "another"}, False, False),
        ({"boot": ..., "pid_namespace": ..., "flock": ...}, False, False),  # of earlier code, alive
        ({"boot": ..., "pid_namespace": ..., "flock": ..., "pid": "dead"}, True, True),
    ],
)
def test_a_lock_that_was_left_is_stale_only_where_its_owner_is_certainly_gone(
    tmp_path, changes, free_with_flock, free_without, monkeypatch
):
    if changes.get("pid") == "dead":
        changes = {**changes, "pid": dead_process()}
    recorded(tmp_path, **changes)
    assert (lock.holder(tmp_path) is None) is free_with_flock
    assert taken(tmp_path) if free_with_flock else refused(tmp_path)

    def unsupported(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    recorded(tmp_path, **changes)
    assert (lock.holder(tmp_path) is None) is free_without
    assert taken(tmp_path) if free_without else refused(tmp_path)


def test_a_process_that_may_not_be_signalled_is_alive(tmp_path, monkeypatch):
    def forbidden(pid, signum):
        raise PermissionError

    recorded(tmp_path)
    monkeypatch.setattr(os, "kill", forbidden)
    assert refused(tmp_path)


def test_the_same_slurm_job_takes_its_lock_back_when_it_is_restarted(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    recorded(tmp_path, host="elsewhere", slurm_restart="0")
    assert refused(tmp_path, r"on elsewhere, Slurm job 77; if that is gone, delete .*lock")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with lock.locked(tmp_path):
        assert lock.holder(tmp_path)["slurm_restart"] == "1"
    recorded(tmp_path, host="elsewhere", slurm_job="78", slurm_restart="0")
    assert refused(tmp_path, "Slurm job 78")
    recorded(tmp_path, host="elsewhere", slurm_job=None, slurm_restart="0")
    assert refused(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID")
    assert refused(tmp_path)  # two that belong to no job are not one job


def test_a_restarted_slurm_job_does_not_wait_for_a_flock_of_its_lost_node(tmp_path, elsewhere, monkeypatch):
    lost = elsewhere(tmp_path)
    recorded(tmp_path, host="lost-node", slurm_job="77", slurm_restart="0")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with lock.locked(tmp_path):
        assert lock.holder(tmp_path)["pid"] == os.getpid()
        lost.communicate("go\n")  # should it end after all, it leaves the new lock alone
        assert lost.returncode == 0
        assert lock.holder(tmp_path)["pid"] == os.getpid()
        assert refused(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "7"])
def test_a_lock_that_cannot_be_read_is_named_and_holds_where_there_is_no_flock(tmp_path, content, without_flock):
    (tmp_path / "lock").write_text(content)
    assert refused(tmp_path, r"in use by process \? on an unknown host; .* delete .*lock")


@pytest.mark.parametrize("content", ["{", "[]", "{}", "7"])
def test_a_lock_that_cannot_be_read_is_named_and_holds(tmp_path, content):
    (tmp_path / "lock").write_text(content)
    assert refused(tmp_path, r"in use by process \? on an unknown host; .* delete .*lock")


def test_an_empty_lock_is_of_a_process_that_never_began(tmp_path):
    (tmp_path / "lock").write_text("")
    assert taken(tmp_path)


def test_of_processes_that_find_a_stale_lock_at_once_one_gets_it(tmp_path):
    recorded(tmp_path, started="1")
    code = HOLD.replace("with l.locked", "print('ready', flush=True); sys.stdin.readline()\nwith l.locked")
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [subprocess.Popen(command, env=ENVIRONMENT, text=True, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    got = [process.stdout.readline() for process in processes]  # "held", or nothing from one that ended
    assert sorted(got) == ["", "", "", "held\n"]
    errors = [process.communicate("go\n")[1] for process in processes]
    assert sum("in use by process" in text for text in errors) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_process_is_told_by_number_and_start():
    with open("/proc/self/stat") as file:
        fields = file.read().split(") ")[1].split()
    assert lock._started(os.getpid()) == fields[22 - 3]  # field 22 of proc(5), which begins with the third
    assert lock._started(dead_process()) is None
