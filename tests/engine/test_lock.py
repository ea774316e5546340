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
from experiments.engine.files import NoSpaceLeft
from tests.helpers.locks import ENVIRONMENT, HOLD, recorded, refused, taken

UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]


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
