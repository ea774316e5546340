"""Which of a run's processes have ended, as another one on the same host sees it: Linux tells a zombie, too."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

ENDED = ("Z", "X")  # states of a process that what started it has not asked about yet


@dataclass(frozen=True)
class Peer:
    """A process of a run. `started` (clock ticks since boot) tells it from a later one with its number."""

    host: str
    namespace: str  # in which its number counts: another one in another container
    pid: int
    started: str


def this_process() -> Peer:
    """Return this process as the others of its run know it."""
    namespace, pid = "", os.getpid()
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return Peer(socket.gethostname(), namespace, pid, _state(pid)[1])


def has_ended(peer: Peer) -> bool | None:
    """Say whether a process has ended; None where this process cannot know: on another host, in another container."""
    own = this_process()
    if not own.started or (peer.host, peer.namespace) != (own.host, own.namespace):
        return None
    state, started = _state(peer.pid)
    return state in ENDED or started != peer.started


def _state(pid: int) -> tuple[str, str]:
    """Return a process's state, a letter, and when it started; both are empty where there is none."""
    try:
        # The name before it, in parentheses, may have spaces.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]
