"""One process a run folder: a lock that names host, process and Slurm job, and is stale when that process is gone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Any

from experiments.engine.errors import RunFolderError
from experiments.engine.files import replace_file


def _started(pid: int) -> str | None:
    """Return when a process of this host started (its clock ticks since boot), or None where that is unknown.

    A process number is used again after a while; the number and the start together are not.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def _owner() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "slurm_restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
    }


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def holder(folder: Path) -> dict[str, Any] | None:
    """Return who holds the folder's lock, or None where nobody does or the lock is stale."""
    try:
        there = json.loads((folder / "lock").read_text())
    except FileNotFoundError:
        return None
    except ValueError:  # cut short, by a power cut say: nobody can tell whose it is
        return {"host": "an unknown host", "pid": "?", "slurm_job": None}
    here = _owner()
    if (
        there["slurm_job"]
        and there["slurm_job"] == here["slurm_job"]
        and there["slurm_restart"] != here["slurm_restart"]
    ):
        return None  # the same Slurm job, started again: its earlier process is gone
    if there["host"] == here["host"] and not (_alive(there["pid"]) and _started(there["pid"]) == there["started"]):
        return None
    return there


@contextlib.contextmanager
def locked(folder: Path):
    """Hold the folder's lock inside the context. Raises RunFolderError where another process holds it."""
    lock = folder / "lock"
    with _one_at_a_time(folder):
        there = holder(folder)
        if there is not None:
            job = f", Slurm job {there['slurm_job']}" if there["slurm_job"] else ""
            raise RunFolderError(
                f"{folder} is in use by process {there['pid']} on {there['host']}{job}; if that is gone, delete {lock}"
            )
        # A whole file appears at once, in the place of a stale one.
        replace_file(lock, lambda path: path.write_text(json.dumps(_owner())))
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


@contextlib.contextmanager
def _one_at_a_time(folder: Path):
    """Let one process of this host look and write; between hosts, where the file system takes part in flock."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which gives the flock back
