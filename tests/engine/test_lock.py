"""The lock of a run folder lets one process in, whatever containers, hosts and file systems are between them."""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.engine import lock
from experiments.engine.errors import RunFolderError
from experiments.engine.files import NoSpaceLeft

HOLD = """
import sys, pathlib, experiments.engine.lock as l
with l.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.getcwd()}
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]


@pytest.fixture
def elsewhere():
    """Start processes that hold the lock of a folder until they are told or killed; return them once they hold it."""
    started = []

    def hold(folder, *prefix):
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", HOLD, str(folder)],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        process.said = process.stdout.readline()
        return process

    yield hold
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def recorded(folder, **changes):
    """Write the lock of this process, with some values changed and others (None) left out, as if it had been left."""
    owner = {**lock._this_process(), "flock": True, **changes}
    (folder / "lock").write_text(json.dumps({key: value for key, value in owner.items() if value is not ...}))


def refused(folder, match="in use by"):
    with pytest.raises(RunFolderError, match=match), lock.locked(folder):
        pass
    return True


def taken(folder):
    with lock.locked(folder):
        assert lock.holder(folder)["pid"] == os.getpid()
    assert list(folder.iterdir()) == []
    return True


@pytest.fixture
def without_flock(monkeypatch):
    def unsupported(descriptor, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)


def test_a_second_process_is_kept_out_by_name_and_the_lock_goes_with_its_holder(tmp_path, elsewhere):
    with lock.locked(tmp_path):
        assert lock.holder(tmp_path)["pid"] == os.getpid()
        child = elsewhere(tmp_path)
        assert child.said == ""
        assert f"{tmp_path} is in use by process {os.getpid()} on" in child.stderr.read()
        assert lock.holder(tmp_path)["pid"] == os.getpid()
        refused(tmp_path)  # nor does the same process get it twice
    assert list(tmp_path.iterdir()) == []
    assert lock.holder(tmp_path) is None


def test_a_process_that_is_killed_gives_the_lock_back(tmp_path, elsewhere):
    child = elsewhere(tmp_path)
    assert lock.holder(tmp_path)["pid"] == child.pid
    assert refused(tmp_path, f"process {child.pid} on")
    child.kill()
    child.wait()
    assert lock.holder(tmp_path) is None
    assert taken(tmp_path)


def test_a_live_holder_in_another_pid_namespace_is_kept_and_a_dead_one_is_not(tmp_path, elsewhere):
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0:
        pytest.skip("unshare is not permitted; the next test simulates it")
    child = elsewhere(tmp_path, *UNSHARE)
    assert child.said == "held\n"
    assert lock.holder(tmp_path)["pid"] == 1
    assert refused(tmp_path, r"process 1 on .* \(its number in another container\); if that is gone, delete .*lock")
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert taken(tmp_path)


@pytest.mark.parametrize("host", [{}, {"host": "container-7"}])
def test_a_flock_that_is_held_decides_whatever_names_and_numbers_say(tmp_path, elsewhere, host):
    child = elsewhere(tmp_path)
    # Seen from this process, the numbers name nobody, or somebody else.
    recorded(tmp_path, pid=1 << 30, started="1", boot="another", pid_namespace="pid:[1]", **host)
    assert refused(tmp_path)
    assert lock.holder(tmp_path) is not None
    child.communicate("go\n")
    assert lock.holder(tmp_path) is None  # it deleted its file, which was rewritten in place
    assert taken(tmp_path)


def test_a_forked_worker_that_outlives_its_parent_does_not_hold_the_lock(tmp_path):
    fork = "import os; os.fork() or print('forked', flush=True) or sys.stdin.readline(); os._exit(1)"
    code = HOLD.replace("sys.stdin.readline()", fork)
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert [parent.stdout.readline() for _ in range(2)] == [b"held\n", b"forked\n"]
    parent.kill()
    parent.wait()
    assert taken(tmp_path)  # while the worker still waits for its line
    parent.communicate()


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


def test_without_flock_the_lock_is_held_and_released_by_name(tmp_path, without_flock):
    with lock.locked(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["flock"] is False
        assert refused(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_released_when_the_run_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), lock.locked(tmp_path):
        raise ZeroDivisionError
    assert taken(tmp_path)


def test_a_lock_that_was_deleted_and_taken_by_another_is_not_deleted_again(tmp_path, elsewhere):
    with lock.locked(tmp_path):
        (tmp_path / "lock").unlink()  # as the refusal tells a user to
        child = elsewhere(tmp_path)
        assert child.said == "held\n"
    assert lock.holder(tmp_path)["pid"] == child.pid
    assert refused(tmp_path)


def test_a_folder_that_was_moved_away_does_not_hide_how_the_run_ended(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="config"), lock.locked(folder):
        (folder.rename(tmp_path / "moved") / "config").read_text()


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


def test_a_disk_without_room_for_the_lock_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(NoSpaceLeft, match=f"no space left to write {tmp_path / 'lock'}"), lock.locked(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []
    assert taken(tmp_path)


def test_a_lock_that_is_only_looked_at_is_not_taken(tmp_path, monkeypatch):
    assert lock.holder(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    # Deleted between the two looks.
    monkeypatch.setattr(Path, "exists", lambda path: True)
    assert lock.holder(tmp_path) is None


def test_a_process_is_told_by_number_and_start():
    with open("/proc/self/stat") as file:
        fields = file.read().split(") ")[1].split()
    assert lock._started(os.getpid()) == fields[22 - 3]  # field 22 of proc(5), which begins with the third
    assert lock._started(dead_process()) is None


def test_looking_and_taking_come_one_after_the_other_on_the_folder(tmp_path, monkeypatch):
    calls, flock = [], fcntl.flock

    def noted(descriptor, operation):
        calls.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), operation))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", noted)
    with lock.locked(tmp_path):
        lock.holder(tmp_path)
    folder = (True, fcntl.LOCK_EX)
    assert calls == [
        folder, (False, fcntl.LOCK_EX | fcntl.LOCK_NB),  # taken
        folder, (False, fcntl.LOCK_SH | fcntl.LOCK_NB),  # looked at
        folder,  # given back
    ]  # fmt: skip


def test_no_descriptor_stays_open_here_or_in_a_child(tmp_path):
    gc.collect()  # what earlier tests left open would be closed at any time
    before = os.listdir("/proc/self/fd")
    with lock.locked(tmp_path):
        child = os.fork()
        if child == 0:
            os._exit(len(lock._held))  # else it would close a number that is another file's by then
        assert os.waitpid(child, 0)[1] == 0
        refused(tmp_path)
    assert os.listdir("/proc/self/fd") == before
