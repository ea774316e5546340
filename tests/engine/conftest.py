"""The programs run as a user runs them, in the tests' own process; processes that hold the lock of a folder."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

import analyze
import train
from experiments.engine import command_line
from tests.helpers.locks import ENVIRONMENT, HOLD


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    """Run `python train.py ...`, or analyze.py, in this process; return exit code and the lines on standard error."""
    monkeypatch.delenv(command_line.TRACEBACK, raising=False)
    monkeypatch.setattr(command_line, "_failed", None)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, program: str = "train") -> tuple[int, list[str]]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [f"{program}.py", *arguments])
        monkeypatch.setenv(command_line.TRACEBACK, "0")
        with pytest.raises(SystemExit) as stop:
            command_line.main({"train": train.train, "analyze": analyze.analyze}[program], program)
        return stop.value.code, capfd.readouterr().err.splitlines()

    return run


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


@pytest.fixture
def without_flock(monkeypatch):
    def unsupported(descriptor, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
