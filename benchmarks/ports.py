"""Ports for processes of this host that are to meet, in benchmarks and in tests."""

from __future__ import annotations

import contextlib
import random
import socket


def free_port() -> int:
    """Return a port below those that the system gives to connections, which nobody takes until it is used."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
