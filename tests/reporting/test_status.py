"""From run folders to records: status, collect, evaluate."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

from experiments.engine.composition import CONFIGS
from scripts import collect, status
from scripts.reporting.draws import Draws
from tests.helpers.running import run_in, run_in_child, signal_at_call

SMOKE = ("demo", "scale=smoke")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Two seeds of two optimizers of the demo at smoke scale, in the folders that train.py would give them."""
    root = tmp_path_factory.mktemp("outputs")
    for run in status.expected_runs(Draws("demo"), ["scale=smoke"]):
        if run.seed != 3:
            asked = (*run.setting.point, f"seed={run.seed}")
            run_in(root / run.folder, "experiment=demo", "scale=smoke", "runtime.commit=abc123", *asked)
    return root


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_status_tells_done_running_resumable_and_missing_apart(outputs, tmp_path, capsys):
    root = tmp_path / "outputs"
    shutil.copytree(outputs, root)
    arguments = [*SMOKE, "--outputs", str(root), "--records", str(tmp_path / "none")]
    assert status.main(arguments) == 0
    assert lines(capsys)[0] == "demo: 4 done, 2 missing"

    from experiments.engine import lock, loop

    third = root / "digits-la_sgd@smoke" / "seed-3"
    run_in_child(
        third,
        "experiment=demo",
        "optim=la_sgd",
        "scale=smoke",
        "seed=3",
        "runtime.checkpoint_every_s=0",
        prepare=signal_at_call(loop.Trainer, "update", 9),
    )
    status.main(arguments)
    shown = lines(capsys)
    assert shown[0] == "demo: 4 done, 1 missing, 1 resumable"
    assert any("resumable" in line and "step-00000007" in line for line in shown)
    first = root / "digits-sgd@smoke" / "seed-1" / "summary.json"
    summary = json.loads(first.read_text())
    first.write_text(json.dumps({**summary, "status": "diverged", "final": {"val/loss": None}}))
    status.main(arguments)
    assert any("diverged" in line and "val/loss not finite" in line for line in lines(capsys))
    first.write_text(json.dumps(summary))
    with lock.locked(third):
        status.main(arguments)
        assert lines(capsys)[0] == "demo: 4 done, 1 missing, 1 running"


def test_status_of_an_unknown_experiment_names_the_choices(capsys):
    assert status.main(["demoo"]) == 1
    assert "did you mean demo?" in capsys.readouterr().err


def test_a_value_that_no_run_can_have_is_refused(capsys):
    assert status.main([*SMOKE, "batch_size=0"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: batch_size=0 is not possible; give a whole number")
    assert captured.err.count("\n") == 1


def test_status_finds_what_was_collected(outputs, tmp_path, capsys):
    collect.main([str(outputs), "--to", str(tmp_path)])
    capsys.readouterr()
    status.main([*SMOKE, "--outputs", str(tmp_path / "none"), "--records", str(tmp_path)])
    shown = lines(capsys)
    assert shown[0] == "demo: 4 done, 2 missing"
    assert sum("in results/runs/" in line for line in shown) == 4


def test_status_says_with_which_values_a_record_disagrees(outputs, tmp_path, capsys):
    shutil.copytree(outputs, tmp_path / "outputs")
    path = tmp_path / "outputs" / "digits-sgd@smoke" / "seed-1" / "config.yaml"
    path.write_text(path.read_text().replace("lr: 0.1\n", "lr: 0.3\n"))
    arguments = [*SMOKE, "--outputs", str(tmp_path / "outputs"), "--records", str(tmp_path / "none")]
    assert status.main(arguments) == 0
    shown = lines(capsys)
    assert shown[0] == "demo: 1 other, 3 done, 2 missing"
    assert f"({path.parent} was recorded with other values (optim.lr 0.3 there, 0.1 here" in shown[1]


@pytest.mark.parametrize(("name", "content"), [("summary.json", ""), ("config.yaml", "a: [")])
def test_a_damaged_record_is_named_and_the_others_are_shown(name, content, outputs, tmp_path, capsys):
    shutil.copytree(outputs, tmp_path / "outputs")
    path = tmp_path / "outputs" / "digits-sgd@smoke" / "seed-1" / name
    path.write_text(content)
    arguments = [*SMOKE, "--outputs", str(tmp_path / "outputs"), "--records", str(tmp_path / "none")]
    assert status.main(arguments) == 0
    shown = lines(capsys)
    assert shown[0] == "demo: 1 damaged, 3 done, 2 missing"
    assert f"({path} is damaged" in shown[1]
    assert status.main([*arguments, "--commands"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2  # the damaged one would be refused, and a line says why
    assert f"note: no command for digits-sgd@smoke/seed-1: {path} is damaged" in captured.err


def test_status_prints_the_folders_of_what_is_done(outputs, capsys):
    assert status.main([*SMOKE, "--folders", "--outputs", str(outputs)]) == 0
    names = [f"digits-{optim}@smoke/seed-{seed}" for seed in (1, 2) for optim in ("sgd", "la_sgd")]
    assert lines(capsys) == [str(outputs / name) for name in names]


@pytest.mark.slow
def test_commands_carry_out_each_missing_run_once_through_xargs(tmp_path, monkeypatch, capsys):
    outputs = tmp_path / "Anna's own runs"
    monkeypatch.setenv("PYTHONPATH", str(CONFIGS.parent))
    own = ["tracker=none", "runtime.device=cpu", "runtime.threads=1", "runtime.progress=none"]
    monkeypatch.chdir(tmp_path)
    arguments = [*SMOKE, "seed=2", *own, "--commands", "--outputs", str(outputs), "--records", str(tmp_path / "none")]
    assert status.main(arguments) == 0
    printed = capsys.readouterr().out
    asked = [re.search(r"optim=(\w+) seed=(\d)", line).groups() for line in printed.splitlines()]
    assert asked == [("sgd", "2"), ("la_sgd", "2")]
    xargs = ["xargs", "-d", "\n", "-P", "4", "-I{}", "sh", "-c", "{}"]
    done = subprocess.run(xargs, input=printed, text=True, cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    runs = {run.folder for run in status.expected_runs(Draws("demo"), ["scale=smoke", "seed=2"])}
    assert {str(path.parent.relative_to(outputs)) for path in outputs.rglob("summary.json")} == runs
    assert sum("done: " in line for line in done.stdout.splitlines()) == len(runs) == 2
    assert [path.name for path in tmp_path.iterdir()] == [outputs.name]  # nothing lies anywhere else
    assert status.main(arguments) == 0
    assert capsys.readouterr().out == ""


def test_runs_of_several_processes_are_started_by_torchrun(tmp_path, capsys):
    asked = ["workers_digits_sgd", "scale=smoke", "seed=2", "--commands", "--records", str(tmp_path), "--outputs"]
    assert status.main([*asked, str(tmp_path)]) == 0
    (line,) = lines(capsys)
    assert line.startswith(
        f"{sys.executable} -m torch.distributed.run --standalone --nproc_per_node=2 {CONFIGS.parent}/train.py "
    )
    (run,) = status.expected_runs(Draws("workers_digits_sgd"), ["scale=smoke", "seed=2"])
    assert run.folder == "digits-sgd,processes=2@smoke/seed-2"
