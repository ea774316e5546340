"""What the tests of the lock of a run folder share."""

from __future__ import annotations

import json
import os

import pytest

from experiments.engine import lock
from experiments.engine.errors import RunFolderError

HOLD = """
import sys, pathlib, experiments.engine.lock as l
with l.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.getcwd()}


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
