"""A real Slurm of one node for these tests, in a folder and on ports of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import slurm as local

REQUIRED = "SLURM_TESTS_REQUIRED"  # set to 1 where Slurm has to be there, so that these tests do not pass by skipping


@pytest.fixture(scope="session")
def slurm() -> Iterator[local.Slurm]:
    missing = local.missing()
    if missing:
        reason = f"Slurm is not installed ({', '.join(missing)}); apt-get install slurmctld slurmd slurm-client munge"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-tests-"))  # a short path: munge listens at a socket below it
    folder.chmod(0o755)
    running = local.started(folder)
    yield running
    local.stop(running)
    shutil.rmtree(folder)
