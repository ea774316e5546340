"""The programs run as a user runs them, in the tests' own process."""

from __future__ import annotations

import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

import analyze
import train
from experiments.engine import command_line


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
