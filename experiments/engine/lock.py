"""One process per run folder: a flock that is held for the whole run, on a file that names who holds it.

The flock decides wherever the file system has it: it ends with its process and sees through containers, whose process
numbers mean nothing outside. The names (host, process, its pid namespace, Slurm job) tell people who it is, and decide
where there is no flock, or where it may not reach another host.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from experiments.engine.errors import RunFolderError
from experiments.engine.files import named_errors

UNKNOWN = {"host": "an unknown host", "pid": "?", "slurm_job": None}

# Descriptors of the locks of this process. A forked child (a data loader's worker) must not keep them after its parent.
_held: set[int] = set()


def _let_go_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class Flock(Enum):
    """What asking for the flock gave."""

    GOT = "got"
    BUSY = "busy"
    UNSUPPORTED = "unsupported"


def _read(path: str) -> str | None:
    """Return what a file of /proc says, or None where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """Return when a process started (clock ticks since boot), or None where that is unknown.

    A process number is used again after a while; the number and the start together are not.
    """
    status = _read(f"/proc/{pid}/stat")
    return status.rpartition(")")[2].split()[19] if status else None


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "pid_namespace": _pid_namespace(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "slurm_restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
    }


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _restarted(owner: dict[str, Any]) -> bool:
    """Return whether the owner belongs to this very Slurm job before it was restarted: Slurm has ended it."""
    own = _this_process()
    return owner["slurm_job"] is not None and (
        owner["slurm_job"] == own["slurm_job"] and owner["slurm_restart"] != own["slurm_restart"]
    )


def _gone(owner: dict[str, Any], flock: Flock) -> bool:
    """Return whether the process that a lock names is certainly gone. Whoever cannot be asked about is not."""
    if _restarted(owner):
        return True
    own = _this_process()
    if flock is Flock.BUSY or owner["host"] != own["host"]:  # a flock may not reach to another host
        return False
    if owner.get("boot") != own["boot"] and owner.get("boot") is not None:
        return True  # this host was started anew since
    if owner.get("pid_namespace", own["pid_namespace"]) == own["pid_namespace"]:
        return not (_exists(owner["pid"]) and _started(owner["pid"]) == owner["started"])
    # Its number means nothing here; but a flock of this host that it held, and that is free, has ended with it.
    return flock is Flock.GOT and owner.get("flock") is True


def _ask(descriptor: int, operation: int) -> Flock:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return Flock.BUSY
    except OSError:
        return Flock.UNSUPPORTED
    return Flock.GOT


def _owner(descriptor: int, flock: Flock) -> dict[str, Any] | None:
    """Return who holds the lock file that is open, or None where nobody does."""
    text = os.pread(descriptor, 1 << 16, 0)
    if not text and flock is Flock.GOT:
        return None  # it ended between making the file and writing its name
    try:
        owner = json.loads(text)
        return None if _gone(owner, flock) else owner
    except (ValueError, KeyError, TypeError, AttributeError):  # cut short, by a power cut say
        return UNKNOWN


def holder(folder: Path) -> dict[str, Any] | None:
    """Return who holds the folder's lock ("host", "pid", "slurm_job"), or None where nobody does or it is stale."""
    if not (folder / "lock").exists():
        return None
    with _one_at_a_time(folder):
        try:
            descriptor = os.open(folder / "lock", os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return _owner(descriptor, _ask(descriptor, fcntl.LOCK_SH))
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock inside the context. Raises RunFolderError where another process holds it."""
    lock = folder / "lock"
    with _one_at_a_time(folder):
        descriptor = _take(lock)
    _held.add(descriptor)
    try:
        yield
    finally:
        with contextlib.suppress(OSError), _one_at_a_time(folder):  # somebody may have moved the folder away
            # Deleted while its flock is held: who opened it before and gets the flock later sees that it is gone.
            if _is_at(descriptor, lock):
                lock.unlink()
        if descriptor in _held:
            _held.remove(descriptor)
            os.close(descriptor)


def _take(lock: Path) -> int:
    """Return the descriptor of the lock file, with its flock and this process's name in it."""
    while True:
        descriptor, created = _open(lock)
        flock = _ask(descriptor, fcntl.LOCK_EX)
        try:
            if not _is_at(descriptor, lock):  # its holder deleted it meanwhile
                os.close(descriptor)
                continue
            owner = None if created and flock is not Flock.BUSY else _owner(descriptor, flock)
            if owner is not None:
                raise RunFolderError(_refusal(lock, owner))
            if flock is Flock.BUSY:  # of a Slurm job that was restarted: its host has not told the file system yet
                lock.unlink()
                os.close(descriptor)
                continue
            _write(descriptor, lock, flock)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise
        return descriptor


def _open(lock: Path) -> tuple[int, bool]:
    """Return the descriptor of the lock file, and whether this call created it: only one process can."""
    while True:
        with named_errors(lock):
            try:
                return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):  # deleted just now
                    return os.open(lock, os.O_RDWR), False


def _refusal(lock: Path, owner: dict[str, Any]) -> str:
    job = f", Slurm job {owner['slurm_job']}" if owner["slurm_job"] else ""
    namespace = owner.get("pid_namespace")
    container = " (its number in another container)" if namespace not in (None, _pid_namespace()) else ""
    process = f"process {owner['pid']} on {owner['host']}{job}{container}"
    return f"{lock.parent} is in use by {process}; if that is gone, delete {lock}"


def _write(descriptor: int, lock: Path, flock: Flock) -> None:
    text = json.dumps({**_this_process(), "flock": flock is Flock.GOT}).encode()
    try:
        with named_errors(lock):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text, 0)
            os.fsync(descriptor)
    except OSError:
        lock.unlink(missing_ok=True)
        raise


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the open file is the one that lies at `path` now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process of this host look and write at a time, where the file system has a flock for folders."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which gives the flock back
