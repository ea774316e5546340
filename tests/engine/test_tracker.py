"""Weights & Biases gets the same, needs no account, and never ends a run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.engine import loop
from experiments.engine.composition import CONFIGS
from experiments.engine.errors import ConfigurationError, Diverged
from experiments.engine.records import read_summary
from experiments.engine.tracker import WandbTracker, chosen_mode, run_id
from tests.helpers.running import run_in, run_in_child, signal_at_call, state
from tests.helpers.wandb_api import UploadedRun

SMOKE = ["task=digits", "scale=smoke", "optim=la_sgd"]


def parts(folder):
    return sorted(path.name for path in (folder / "wandb").glob("offline-run-*"))


@pytest.mark.slow
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
    without, tracked = (state(tmp_path / tracker)["model"] for tracker in ("none", "wandb"))
    assert all((without[key] == tracked[key]).all() for key in without)


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
    warnings = [record.message for record in caplog.records if "W&B stops here" in record.message]
    assert len(warnings) == 1
    assert "the network is gone" in warnings[0]


@pytest.mark.slow
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


def kill_services():
    """Kill the W&B services that this process has started, and wait until they are gone; return their number."""
    ps = ["ps", "-ww", "-o", "pid=,stat=,args=", "--ppid", str(os.getpid())]  # -ww: however narrow the terminal is
    table = subprocess.run(ps, capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in table.stdout.splitlines()]
    found = [int(pid) for pid, status, arguments in rows if "wandb-core" in arguments and "Z" not in status]
    for pid in found:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # wandb is its parent, and reaps it
    return len(found)


def test_a_service_that_was_killed_costs_one_run_its_tracker_and_no_later_one(tmp_path, monkeypatch, caplog):
    original, killed = loop.Trainer.update, []

    def killing(trainer, *arguments):
        if trainer.position.step == 3:
            killed.append(kill_services())
        return original(trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "update", killing)
        run_in(tmp_path / "first", *SMOKE, "tracker=wandb")
    assert killed == [1]
    assert read_summary(tmp_path / "first")["status"] == "done"
    assert caplog.text.count("W&B stops here") == 1
    caplog.clear()
    run_in(tmp_path / "second", *SMOKE, "tracker=wandb")
    assert "W&B stops here" not in caplog.text
    (part,) = (tmp_path / "second" / "wandb").glob("offline-run-*")
    assert next(part.glob("*.wandb")).stat().st_size > 1000


def a_tracker(folder):
    return WandbTracker("p", None, "offline", folder=folder, config={}, group="g", name="n")


def test_a_service_that_was_killed_is_noticed_when_the_run_is_closed_at_the_latest(tmp_path, caplog):
    tracker = a_tracker(tmp_path)
    tracker.log({"step": 1, "train/loss": 2.0})
    assert kill_services() == 1
    tracker.finish({"status": "done"})
    assert caplog.text.count("W&B stops here") == 1


def test_what_w_and_b_does_when_it_is_torn_down_ends_no_run_and_an_error_without_words_is_named(
    tmp_path, monkeypatch, caplog
):
    import wandb

    tracker = a_tracker(tmp_path)
    original = wandb.teardown

    def abandoned(*_, **__):
        raise TimeoutError

    def torn_down():
        original()
        raise SystemExit(-9)  # as wandb does where its service ended with that code

    monkeypatch.setattr(wandb.Run, "log", abandoned)
    monkeypatch.setattr(wandb, "teardown", torn_down)
    tracker.log({"step": 1})
    assert "W&B stops here (TimeoutError); the run goes on" in caplog.text


def saved(folder):
    """Return the files that W&B uploads of the run folder's parts, its own aside, by name."""
    return {file.name: file.path for file in UploadedRun(folder).files() if "/" in file.name}


def test_the_files_of_the_record_go_with_the_run_as_copies_and_no_others(tmp_path):
    folder = tmp_path / "digits-la_sgd[a]@smoke" / "seed-1"
    folder.mkdir(parents=True)
    for name in ("claims.csv", "grid.npz", "weights.npz", "trajectory.csv", "notes.txt"):
        (folder / name).write_bytes(b"content of " + name.encode())
    run_in(folder, *SMOKE, "tracker=wandb")
    found = saved(folder)
    names = ("config.yaml", "history.csv", "summary.json", "claims.csv", "grid.npz")
    assert found.keys() == {f"digits-la_sgd[a]@smoke/seed-1/{name}" for name in names}
    for path in found.values():
        assert not path.is_symlink()  # which would break where the folder is moved
        assert path.read_bytes() == (folder / path.name).read_bytes()
    run = UploadedRun(folder)
    assert (run.state, run.summary["status"], run.group) == ("finished", "done", "digits-la_sgd[a]@smoke")


def test_an_analysis_saves_what_it_found(tmp_path):
    folder = tmp_path / "momentum_rates@smoke" / "seed-1"
    run_in(folder, "analysis=momentum_rates", "scale=smoke", "tracker=wandb")
    written = {path.name for path in folder.iterdir() if path.suffix in (".yaml", ".json", ".csv", ".npz")}
    assert {path.name for path in saved(folder).values()} == written > {"claims.csv", "rates.csv"}


def test_a_run_that_diverged_saves_its_record_with_that_status(tmp_path):
    with pytest.raises(Diverged):
        run_in(tmp_path, *SMOKE, "tracker=wandb", "optim=sgd", "optim.lr=1e30")
    assert {"config.yaml", "summary.json"} <= {path.name for path in saved(tmp_path).values()}
    run = UploadedRun(tmp_path)
    assert (run.state, run.summary["status"]) == ("finished", "diverged")


@pytest.mark.parametrize("owner", ["wandb", "disk"])
def test_files_that_cannot_be_saved_are_said_once_and_never_end_the_run(owner, tmp_path, monkeypatch, caplog):
    import wandb

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((wandb.Run, "save") if owner == "wandb" else (shutil, "copyfile")), fail)
    run_in(tmp_path, *SMOKE, "tracker=wandb")
    assert read_summary(tmp_path)["status"] == "done"
    assert caplog.text.count("W&B stops here") == 1


def test_the_environment_can_switch_the_tracker_off_and_that_is_said(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run_in(tmp_path, *SMOKE, "tracker=wandb")
    assert read_summary(tmp_path)["status"] == "done"
    assert not (tmp_path / "wandb").exists()
    assert "W&B is disabled: WANDB_MODE in the environment goes before tracker.mode=offline" in caplog.text


@pytest.mark.parametrize("value", ["", "offline"])
def test_an_environment_that_agrees_is_not_spoken_of(tmp_path, monkeypatch, caplog, value):
    caplog.set_level("INFO")
    monkeypatch.setenv("WANDB_MODE", value)
    assert chosen_mode("offline") == "offline"
    assert caplog.text == ""


def test_an_unknown_mode_in_the_environment_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "of")
    with pytest.raises(ConfigurationError, match=r"WANDB_MODE=of is not possible; .*offline"):
        run_in(tmp_path, *SMOKE, "tracker=wandb")


def test_the_id_is_the_folders_names_where_w_and_b_takes_them():
    assert run_id(Path("/x/outputs/cifar100-la_sgd/seed-1")) == "cifar100-la_sgd-seed-1"
    assert run_id(Path("/y/elsewhere/cifar100-la_sgd/seed-1")) == "cifar100-la_sgd-seed-1"


def test_every_folder_has_an_id_of_its_own_that_w_and_b_takes():
    import wandb

    names = ["a:b/c%d", "a,b/c d", "a;b/c@d", "a[0]/c#d", "a=1,b=2@short,bf16/seed-1", "a=1,b=2@short,bf16/seed-2"]
    names += ["a:b/c#d", "ä/ö", "x" * 200 + "/seed-1", "x" * 200 + "/seed-2", "y" + "x" * 199 + "/seed-1"]
    names += ["x" * (128 - 7) + "/seed-1", "x" * (128 - 6) + "/seed-1"]
    ids = [run_id(Path("outputs") / name) for name in names]
    assert len(set(ids)) == len(names)
    for text in ids:
        assert 0 < len(text) <= 128
        assert text.isascii()
        assert set("%@[]:;,#?/' ").isdisjoint(text)
        wandb.Settings(run_id=text)  # raises for what it does not take
    assert ids[4].startswith("a=1_b=2_short_bf16-seed-1-")
