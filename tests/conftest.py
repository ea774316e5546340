"""Tests run on one thread each, so that results do not depend on the machine and xdist can use every core."""

import signal
import urllib.error
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def signals_put_back() -> Iterator[None]:
    """Put back, after a test, the handlers of signals: a later test's child of this process would have them."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def offline(monkeypatch) -> None:
    """Let every download of usual files fail as without a network."""

    def fail(*_: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("experiments.engine.downloads.download_url", fail)
