"""One process a run folder: a lock that names host, process and Slurm job, and is stale when that process is gone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from experiments.engine.errors import RunFolderError


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
    mine = folder / f".lock.{os.getpid()}.tmp"
    mine.write_text(json.dumps(_owner()))
    try:
        if lock.exists() and holder(folder) is None:
            # Of two processes that find it stale, one renames it; the other's rename fails, and so does its link below.
            with contextlib.suppress(FileNotFoundError):
                lock.rename(folder / f".lock.stale.{os.getpid()}")
        os.link(mine, lock)  # fails where the lock exists: atomic also on network file systems
    except FileExistsError:
        there = holder(folder) or {"pid": "?", "host": "?", "slurm_job": None}
        job = f", Slurm job {there['slurm_job']}" if there["slurm_job"] else ""
        raise RunFolderError(
            f"{folder} is in use by process {there['pid']} on {there['host']}{job}; if that is gone, delete {lock}"
        ) from None
    finally:
        mine.unlink()
        (folder / f".lock.stale.{os.getpid()}").unlink(missing_ok=True)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
