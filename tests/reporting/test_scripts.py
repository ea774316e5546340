"""What has run, as status.py tells it."""

from __future__ import annotations

import json
import shutil

import pytest

from scripts import collect, status
from tests.helpers.running import run_in, run_in_child, signal_at_call


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Two seeds of two optimizers of the demo at smoke scale, in the folders that train.py would give them."""
    root = tmp_path_factory.mktemp("outputs")
    from hydra import initialize_config_dir

    from experiments.engine.composition import CONFIGS

    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        runs = list(status.expected_runs("demo", ["scale=smoke"]))
    for folder, point in runs:
        if "seed=3" not in point:
            run_in(root / folder, "experiment=demo", "scale=smoke", "runtime.commit=abc123", *point.split())
    return root


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_status_tells_done_running_resumable_and_missing_apart(outputs, tmp_path, capsys):
    root = tmp_path / "outputs"
    shutil.copytree(outputs, root)
    arguments = ["demo", "scale=smoke", "--outputs", str(root), "--records", str(tmp_path / "none")]
    assert status.main(arguments) == 0
    assert lines(capsys)[0] == "demo: 4 done, 2 missing"

    from experiments.engine import lock, loop

    third = next(root.glob("demo/digits-la_sgd-*")) / "seed-3"
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
    first = next(root.glob("demo/digits-sgd-*")) / "seed-1" / "summary.json"
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


def test_status_finds_what_was_collected(outputs, tmp_path, capsys):
    collect.main([str(outputs), "--to", str(tmp_path)])
    capsys.readouterr()
    status.main(["demo", "scale=smoke", "--outputs", str(tmp_path / "none"), "--records", str(tmp_path)])
    shown = lines(capsys)
    assert shown[0] == "demo: 4 done, 2 missing"
    assert sum("in results/runs/" in line for line in shown) == 4
