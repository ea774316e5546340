"""The scripts as programs: a bad argument, a signal or a full disk is one line, and nothing half-written stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys

import pytest

from experiments.engine import output
from experiments.engine.files import replace_text
from scripts import collect, evaluate, figures, status, tables
from scripts.reporting.modules import RECORDS
from scripts.reporting.program import Arguments, folder_argument, run_script

RECORD = str(RECORDS / "digits-sgd")


def refused(main, *arguments):
    """Return the exit code of a program that was given these arguments."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return ended.code


FOLDERS = {
    "status --outputs": (status, ["demo", "--outputs"], []),
    "status --records": (status, ["demo", "--records"], []),
    "status --commands": (status, ["demo", "--commands", "--outputs"], []),
    "figures --runs": (figures, ["demo", "--runs"], []),
    "figures --out": (figures, ["demo", "--out"], []),
    "tables --runs": (tables, ["table1", "--runs"], []),
    "tables --out": (tables, ["table1", "--out"], []),
    "collect": (collect, [], ["--to", "there"]),
    "collect --to": (collect, [RECORD, "--to"], []),
    "evaluate --run": (evaluate, ["--run"], []),
}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_file_in_the_place_of_a_folder_is_named_and_stays(name, where, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    program, before, after = FOLDERS[name]
    assert refused(program.main, *before, tmp_path / where, *after) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'file'} is no folder" in line
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("program", [status, figures, tables, collect, evaluate])
@pytest.mark.parametrize("arguments", [["--nothing"], ["--run"], ["--out", "x", "--to"]])
def test_arguments_that_there_are_not_are_one_line(program, arguments, capsys):
    assert refused(program.main, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith("--help says more")


VALUES = {
    "=5": "=5 names no key; give key=value",
    "optim.lr=[1": "optim.lr=[1 cannot be read (no viable alternative at input '[1')",
    "optim.k=range(1,1)": "optim.k=range(1,1) has no values",
    "seed=range(5,5)": "seed=range(5,5) has no values",
    "seed=abc": "seed=abc is not possible; give a whole number of at least 0",
    "scale=x": "scale=x does not exist; choose one of paper",
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("program", "name"), [(status, "demo"), (figures, "demo"), (tables, "table1")])
def test_a_value_that_is_none_is_named(program, name, value, tmp_path, capsys):
    assert refused(program.main, name, value, *([] if program is status else ["--out", tmp_path])) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {VALUES[value]}")


@pytest.mark.parametrize("program", [figures, tables])
def test_a_folder_of_runs_that_there_is_not_is_named_where_all_is_asked_for(program, tmp_path, capsys):
    assert program.main(["--runs", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"error: --runs: there is no folder {tmp_path / 'none'}\n"


@pytest.mark.parametrize(("program", "name"), [(figures, "fig03"), (tables, "same_risk")])
def test_a_table_of_other_columns_is_named_by_its_folder(program, name, tmp_path, capsys):
    shutil.copytree(RECORDS / "convergence", tmp_path / "convergence")
    claims = tmp_path / "convergence" / "seed-1" / "claims.csv"
    claims.write_text("a,b\n1,2\n")  # a record of the first schema has no digests of its files
    summary = claims.with_name("summary.json")
    content = json.loads(summary.read_text())
    summary.write_text(json.dumps({key: value for key, value in content.items() if key != "files"}))
    assert program.main([name, "--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot be made of {claims.parent}: a table there is damaged" in line


def test_a_folder_may_begin_with_the_home_and_be_still_to_come(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = Arguments("Says what it does.")
    parser.add_argument("--to", type=folder_argument)
    assert parser.parse_args(["--to", "~/a/b"]).to == tmp_path / "a" / "b"
    assert parser.parse_args(["--to", str(tmp_path)]).to == tmp_path


@pytest.fixture
def ended(signals_put_back):
    """Run a function as a script does; return its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(main):
        with pytest.raises(SystemExit) as stop:
            run_script(main)
        return stop.value.code

    return run


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_script_in_one_line_and_nothing_half_written_stays(
    signum, ended, tmp_path, monkeypatch, capsys
):
    path = replace_text(tmp_path / "table.md", "of before")
    monkeypatch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signum))
    assert ended(lambda: replace_text(path, "new") and 0) == 128 + signum
    assert capsys.readouterr().err == f"error: stopped by {signum.name}; what was finished before is kept\n"
    assert [file.read_text() for file in tmp_path.iterdir()] == ["of before"]


def test_a_script_ends_with_what_its_function_returns_also_where_nobody_hears_it(ended, monkeypatch, capsys):
    assert [ended(lambda code=code: code) for code in (0, 1)] == [0, 1]
    monkeypatch.setattr(sys, "stdout", None)  # it was closed before: `script >&-`
    assert ended(lambda: print("nothing") or 0) == 0
    assert capsys.readouterr().err == ""


def test_a_script_whose_output_found_no_space_has_failed(ended, monkeypatch):
    monkeypatch.setattr(output, "_lost", True)
    assert [ended(lambda code=code: code) for code in (0, 2)] == [1, 2]
