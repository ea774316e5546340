"""From run folders to records: what is collected, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess

import pytest

from experiments.engine.records import write_summary
from scripts import collect
from scripts.reporting import index
from tests.helpers.running import run_in

NAMES = ("digits-la_sgd@smoke", "digits-sgd@smoke")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    for name in NAMES:
        optim = name.removeprefix("digits-").partition("@")[0]
        run_in(root / name / "seed-1", "task=digits", "scale=smoke", f"optim={optim}", "runtime.commit=abc123")
    return root


@pytest.fixture
def outputs(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "outputs")


@pytest.fixture
def to(tmp_path):
    return tmp_path / "records"


def edit(folder, **changes):
    path = folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def names(folder):
    """Return the files of the records in a folder; beside them is the index alone."""
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return [name for name in found if name != index.NAME]


def test_records_lie_where_their_folders_are_named_without_weights(outputs, to, capsys):
    assert collect.main([str(outputs), "--to", str(to)]) == 0
    kept = ("config.yaml", "history.csv", "summary.json")
    assert names(to) == [f"{name}/seed-1/{file}" for name in NAMES for file in kept]
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        *(f"{outputs / name / 'seed-1'}: collected" for name in NAMES),
        "2 collected, 0 collected before, 0 skipped, 0 refused",
    ]
    assert collect.main([str(outputs / NAMES[0] / "seed-1"), "--to", str(to)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        f"{outputs / NAMES[0] / 'seed-1'}: collected before",
        "0 collected, 1 collected before, 0 skipped, 0 refused",
    ]


def test_nothing_is_overwritten_unless_asked(outputs, to, capsys):
    collect.main([str(outputs), "--to", str(to)])
    changed = to / NAMES[0] / "seed-1" / "history.csv"
    (to / NAMES[0] / "seed-1" / "extra.csv").write_text("of the record before\n")
    changed.write_text("mine\n")
    assert collect.main([str(outputs), "--to", str(to)]) == 1
    assert changed.read_text() == "mine\n"
    assert f"refused: {changed.parent} holds another record; give --replace" in capsys.readouterr().out
    assert collect.main([str(outputs), "--to", str(to), "--replace"]) == 0
    assert changed.read_text() != "mine\n"
    assert sorted(path.name for path in changed.parents[1].iterdir()) == ["seed-1"]
    assert not (changed.parent / "extra.csv").exists()


def test_unknown_and_mixed_code_is_refused_and_unfinished_runs_are_passed_over(outputs, to, capsys):
    one, other = (outputs / name / "seed-1" for name in NAMES)
    (other / "summary.json").unlink()
    for changes, reason in [
        ({"commit": "abc-dirty"}, "its commit is abc-dirty: run it from a clean checkout"),
        ({"commit": "unknown"}, "its commit is unknown"),
        ({"commit": "b", "commits": ["a", "b"]}, "it ran under several commits (a, b)"),
    ]:
        edit(one, **changes)
        assert collect.main([str(outputs), "--to", str(to)]) == 1
        shown = capsys.readouterr().out
        assert f"{one}: refused: {reason}" in shown
        assert f"{other}: not finished" in shown
        assert shown.splitlines()[-1] == "0 collected, 0 collected before, 1 skipped (1 not finished), 1 refused"
        assert not to.exists()
        assert collect.main([str(outputs), "--to", str(to), "--accept-dirty"]) == 0
        shutil.rmtree(to)
    edit(one, commit="b", commits=["b"])
    assert collect.main([str(outputs), "--to", str(to)]) == 0


def test_a_run_that_diverged_is_collected_and_marked(outputs, to, capsys):
    edit(outputs / NAMES[0] / "seed-1", status="diverged", reason="the loss is nan")
    for done in ("collected", "collected before"):
        assert collect.main([str(outputs), "--to", str(to)]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert shown[0] == f"{outputs / NAMES[0] / 'seed-1'}: {done} (it diverged: the loss is nan)"
    assert shown[-1] == "0 collected, 2 collected before, 0 skipped, 0 refused"


@pytest.mark.parametrize("name", ["summary.json", "history.csv", "config.yaml"])
def test_a_damaged_record_is_named_and_the_others_are_collected(outputs, to, name, capsys):
    damaged = outputs / NAMES[0] / "seed-1" / name
    damaged.write_bytes(damaged.read_bytes()[:5])
    assert collect.main([str(outputs), "--to", str(to)]) == 1
    shown = capsys.readouterr().out
    assert f"refused: {damaged} is damaged (" in shown
    assert {name.partition("/")[0] for name in names(to)} == {NAMES[1]}
    assert len(shown.splitlines()) == 3
    assert shown.splitlines()[-1] == "1 collected, 0 collected before, 0 skipped, 1 refused"


def test_a_copy_of_a_run_is_not_one_more_seed(outputs, to, capsys):
    folder = outputs / NAMES[0] / "seed-1"
    shutil.copytree(folder, folder.with_name("seed-1 (copy)"))
    shutil.copytree(folder, folder.with_name("seed-2"))
    assert collect.main([str(folder.parent), "--to", str(to)]) == 1
    assert capsys.readouterr().out.count("refused: the folder of a run with this seed is named seed-1") == 2
    assert [path.name for path in (to / NAMES[0]).iterdir()] == ["seed-1"]


def test_arrays_of_probes_are_collected_and_weights_and_their_trajectories_never(tmp_path, to, capsys):
    folder = tmp_path / "outputs" / "probed" / "seed-1"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 1\nanalysis: {name: x}\n")
    for name in ("accuracies.npz", "claims.csv", "weights.npz", "weights-12.npz", "trajectory.npz", "trajectory.csv"):
        (folder / name).write_bytes(b"content")
    write_summary(folder, {"status": "done", "seed": 1, "analysis": "x", "final": {}, "commit": "abc"})
    assert collect.main([str(folder), "--to", str(to)]) == 0
    kept = ["accuracies.npz", "claims.csv", "config.yaml", "summary.json"]
    assert names(to) == [f"probed/seed-1/{name}" for name in kept]
    for size, code in ((20 * 2**20, 0), (20 * 2**20 + 1, 1)):
        with (folder / "large.npz").open("wb") as file:
            file.truncate(size)
        write_summary(folder, {"status": "done", "seed": 1, "analysis": "x", "final": {}, "commit": "abc"})
        capsys.readouterr()
        assert collect.main([str(folder), "--to", str(to), "--replace"]) == code
    assert "refused: large.npz has 20 MB, more than the 20 MB of a file in results/" in capsys.readouterr().out


def test_links_are_followed_and_named_as_they_were_given(outputs, to, tmp_path, monkeypatch, capsys):
    disk = outputs.rename(tmp_path / "disk")
    (disk / NAMES[1] / "seed-1").rename(tmp_path / "elsewhere")
    (disk / NAMES[1] / "seed-1").symlink_to(tmp_path / "elsewhere")
    (disk / NAMES[1] / "loop").symlink_to(disk)
    monkeypatch.chdir(tmp_path)
    outputs.symlink_to(disk)
    assert collect.main(["--to", str(to)]) == 0  # outputs/ where nothing is named
    assert capsys.readouterr().out.splitlines()[:-1] == [f"outputs/{name}/seed-1: collected" for name in NAMES]
    assert [path.parent.name for path in sorted(to.rglob("seed-1"))] == list(NAMES)
    monkeypatch.chdir(outputs / NAMES[0] / "seed-1")
    assert collect.main([".", "--to", str(to)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == ".: collected before"


def test_what_lies_in_a_run_folder_is_no_run(outputs, to, capsys):
    inner = outputs / NAMES[0] / "seed-1" / "wandb" / "offline-run-1" / "files"
    inner.mkdir(parents=True)
    (inner / "config.yaml").write_text("wandb: 1\n")
    assert collect.main([str(outputs), "--to", str(to)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("missing", [False, True])
def test_a_folder_without_runs_is_named(tmp_path, missing, to, capsys):
    folder = tmp_path / "empty"
    if not missing:
        folder.mkdir()
    assert collect.main([str(folder), "--to", str(to)]) == 1
    assert f"error: no run at or below {folder}: a run folder holds a config.yaml" in capsys.readouterr().err


def test_a_full_disk_is_named_and_nothing_is_left_nor_lost(outputs, to, monkeypatch, capsys):
    collect.main([str(outputs), "--to", str(to)])
    record = to / NAMES[0] / "seed-1"
    (record / "history.csv").write_text("mine\n")
    before = names(to)
    copy, calls = shutil.copyfile, []

    def full(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(source, target)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        assert collect.main([str(outputs), "--to", str(to), "--replace"]) == 1
    assert f"error: no space left to write {record}; make room" in capsys.readouterr().err
    assert names(to) == before
    assert (record / "history.csv").read_text() == "mine\n"
    assert sorted(path.name for path in record.parent.iterdir()) == ["seed-1"]


def test_a_record_that_cannot_take_its_place_leaves_the_one_before(outputs, to, monkeypatch):
    collect.main([str(outputs), "--to", str(to)])
    torn = to / NAMES[0] / ".collect-seed-1"
    torn.mkdir()
    (torn / "torn.csv").write_text("of a process that was killed\n")
    (to / NAMES[0] / "seed-1" / "history.csv").write_text("mine\n")
    assert collect.main([str(outputs), "--to", str(to), "--replace"]) == 0
    assert sorted(path.name for path in torn.parent.iterdir()) == ["seed-1"]
    assert "torn.csv" not in names(to / NAMES[0] / "seed-1")


@pytest.mark.parametrize("mask", [0o022, 0o007])
def test_folders_and_files_have_the_modes_that_the_umask_gives(outputs, to, mask):
    before = os.umask(mask)
    try:
        collect.main([str(outputs), "--to", str(to)])
    finally:
        os.umask(before)
    folder = to / NAMES[0] / "seed-1"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~mask
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666 & ~mask}


def test_make_sync_finds_parts_behind_links_whatever_their_names(tmp_path):
    part = tmp_path / "disk" / "a b,c=1@smoke" / "seed-1" / "wandb" / "offline-run-1"
    part.mkdir(parents=True)
    (tmp_path / "outputs").symlink_to(tmp_path / "disk")
    makefile = collect.Path(__file__).resolve().parents[2] / "Makefile"
    shown = subprocess.run(
        # What is called in the place of W&B prints its arguments, each on a line.
        ["make", "-s", "-f", str(makefile), "sync", "VENV=venv", "READY=", "PY=true"],
        cwd=tmp_path,
        env={**os.environ, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert "wandb" in shown.stderr  # not there: it was asked for
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    program = tmp_path / "venv" / "bin" / "wandb"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    shown = subprocess.run(
        ["make", "-s", "-f", str(makefile), "sync", "VENV=venv", "READY="], cwd=tmp_path, capture_output=True, text=True
    )
    assert shown.stdout.splitlines() == ["sync", "--yes", "outputs/a b,c=1@smoke/seed-1/wandb/offline-run-1"]
