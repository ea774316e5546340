"""make: the targets of reporting wait for each other where they are asked for together."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from scripts.reporting.modules import REPOSITORY

SCRIPTS = {"figures": ["figures.py", "tables.py"], "report": ["report.py"], "site": ["site.py"]}


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("targets", [["site", "report", "figures"], ["report"], ["site"], ["report", "figures"]])
def test_the_page_follows_the_report_and_the_report_the_pictures(targets, tmp_path):
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    program = tmp_path / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    # Drawing takes its time here, so that what does not wait for it is first.
    program.write_text('#!/bin/sh\ncase $1 in *figures.py|*tables.py) sleep 0.5;; esac\necho "${1#scripts/}" >> made\n')
    program.chmod(0o755)
    (tmp_path / ".venv" / ".ready").touch()
    subprocess.run(["make", "-s", "-j", "4", *targets], cwd=tmp_path, check=True, env={"PATH": "/usr/bin:/bin"})
    made = (tmp_path / "made").read_text().split()
    groups = [sorted(SCRIPTS[target]) for target in ("figures", "report", "site") if target in targets]
    assert sorted(made[: len(groups[0])]) + made[len(groups[0]) :] == [script for group in groups for script in group]
