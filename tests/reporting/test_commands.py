"""The scripts as programs: run as `__main__`, in this process, with something that there is not."""

from __future__ import annotations

import runpy
import sys

import pytest

from scripts.reporting import program
from scripts.reporting.modules import REPOSITORY


@pytest.mark.parametrize("name", ["collect", "evaluate", "figures", "status", "tables"])
@pytest.mark.usefixtures("signals_put_back")
def test_a_program_ends_with_the_code_of_its_answer_and_its_output_stops_nothing(name, tmp_path, monkeypatch, capsys):
    called = []
    monkeypatch.setattr(program, "make_output_unstoppable", lambda: called.append(name))
    given = ["--run"] if name == "evaluate" else []
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *given, str(tmp_path / "nonsense")])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(REPOSITORY / "scripts" / f"{name}.py"), run_name="__main__")
    assert (stop.value.code, called) == (1, [name])
    assert len(capsys.readouterr().err.splitlines()) == 1
