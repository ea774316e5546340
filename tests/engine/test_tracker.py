"""Weights & Biases gets the same, needs no account, and never ends a run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from experiments.engine import loop
from experiments.engine.composition import CONFIGS
from experiments.engine.records import read_summary
from tests.helpers.running import run_in, run_in_child, signal_at_call, state

SMOKE = ["task=digits", "scale=smoke", "optim=la_sgd"]


def parts(folder):
    return sorted(path.name for path in (folder / "wandb").glob("offline-run-*"))


def test_a_resumed_offline_run_leaves_two_parts_of_one_id_that_sort_in_order(tmp_path):
    folder = tmp_path / "single" / "digits-la_sgd-0a1b2c3d" / "seed-1"
    run_in_child(folder, *SMOKE, "tracker=wandb", prepare=signal_at_call(loop.Trainer, "update", 9))
    first = parts(folder)
    run_in(folder, *SMOKE, "tracker=wandb")
    both = parts(folder)
    assert len(first) == 1
    assert len(both) == 2
    assert both[0] == first[0]
    assert {name.split("-", 3)[3] for name in both} == {"digits-la_sgd-0a1b2c3d-seed-1"}
    for name in both:
        assert list((folder / "wandb" / name).glob("*.wandb"))


def test_the_tracker_does_not_change_the_result(tmp_path):
    for tracker in ("none", "wandb"):
        run_in(tmp_path / tracker, *SMOKE, f"tracker={tracker}")
    ours, theirs = (state(tmp_path / tracker)["model"] for tracker in ("none", "wandb"))
    assert all((ours[key] == theirs[key]).all() for key in ours)


@pytest.mark.parametrize("when", ["init", "log", "finish"])
def test_a_failure_of_the_tracker_is_said_once_and_never_ends_the_run(when, tmp_path, monkeypatch, caplog):
    import wandb

    def fail(*_, **__):
        raise ConnectionError("the network\nis gone")

    if when == "init":
        monkeypatch.setattr(wandb, "init", fail)
    else:
        monkeypatch.setattr(wandb.Run, when, fail)
    run_in(tmp_path, *SMOKE, "tracker=wandb")
    assert read_summary(tmp_path)["status"] == "done"
    said = [record.message for record in caplog.records if "W&B stops here" in record.message]
    assert len(said) == 1
    assert "the network is gone" in said[0]


def test_without_a_tracker_wandb_is_not_imported_and_help_does_not_import_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['train.py', *{arguments!r}]\n"
        "import train\nfrom experiments.engine import command_line\n"
        "try: command_line.main(train.train, 'train')\nexcept SystemExit: pass\n"
        "print('imported', [name for name in ('wandb', 'torch') if name in sys.modules])"
    )

    def imported(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", code.format(arguments=arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(CONFIGS.parent)},
        )
        return done.stdout.splitlines()[-1]

    assert imported(*SMOKE, "tracker=none", "epochs=1") == "imported ['torch']"
    assert imported("--help") == "imported []"
