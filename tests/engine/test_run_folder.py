"""The run folder follows from the configuration; its lock lets one process in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from experiments.engine import lock
from experiments.engine.errors import RunFolderError
from experiments.engine.run_folder import config_hash, differences, relative_folder
from tests.helpers.running import configuration


def folder(*overrides):
    return relative_folder(configuration(*overrides), None)


def test_the_folder_names_experiment_task_optimizer_hash_and_seed():
    name = folder("task=digits", "optim=sgd", "seed=3")
    experiment, run, seed = name.split("/")
    assert (experiment, seed) == ("single", "seed-3")
    assert run.startswith("digits-sgd-")
    assert len(run.rpartition("-")[2]) == 8
    assert relative_folder(configuration("experiment=demo", "optim=sgd"), "demo").startswith("demo/digits-sgd-")


@pytest.mark.parametrize(
    "override",
    [
        "runtime.device=cuda",
        "runtime.threads=1",
        "runtime.data_dir=/elsewhere",
        "runtime.output_dir=/elsewhere",
        "tracker=wandb",
        "runtime.read_loss_every=7",
        "runtime.checkpoint_every_steps=9",
        "seed=5",
        "model=resnet18",
    ],
)
def test_what_does_not_change_the_result_does_not_change_the_hash(override):
    assert config_hash(configuration("task=cifar100", override)) == config_hash(configuration("task=cifar100"))


@pytest.mark.parametrize(
    "override",
    [
        "optim.k=6",
        "optim.alpha=0.5",
        "optim.lr=0.2",
        "epochs=3",
        "batch_size=64",
        "precision=bf16",
        "optim.inner_state=maintain",
        "schedule.delay=1",
        "evaluation.train_pass=augmented",
        "model=resnet8",
        "task.flip=false",
        "average=polyak",
        "average=swa",
        "evaluation.batch_norm=reestimated",
        "scale=proxy",
    ],
)
def test_what_changes_the_result_changes_the_hash(override):
    assert config_hash(configuration("task=cifar100", override)) != config_hash(configuration("task=cifar100"))


def test_differences_name_each_leaf():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}, "d": 4}) == [
        "a.b 3 there, 1 here",
        "d 4 there, None here",
    ]


def test_a_second_process_is_kept_out_by_name_and_nothing_is_touched(tmp_path):
    with lock.locked(tmp_path):
        child = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys, pathlib, experiments.engine.lock as l\nwith l.locked(pathlib.Path(sys.argv[1])): pass",
                str(tmp_path),
            ],
            capture_output=True,
            text=True,
            cwd=os.getcwd(),
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        assert f"in use by process {os.getpid()} on" in child.stderr
        assert lock.holder(tmp_path)["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def stale(tmp_path, **changes):
    owner = {**lock._owner(), **changes}
    (tmp_path / "lock").write_text(json.dumps(owner))


def test_a_lock_of_a_process_that_is_gone_is_taken_over(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale(tmp_path, pid=dead.pid)
    with lock.locked(tmp_path):
        assert lock.holder(tmp_path)["pid"] == os.getpid()


def test_a_lock_whose_process_number_was_given_to_another_process_is_taken_over(tmp_path):
    stale(tmp_path, started="1")
    with lock.locked(tmp_path):
        pass


def test_a_lock_on_another_host_holds_unless_the_same_slurm_job_was_restarted(tmp_path, monkeypatch):
    stale(tmp_path, host="elsewhere", slurm_job="77", slurm_restart="0")
    with (
        pytest.raises(RunFolderError, match=r"on elsewhere, Slurm job 77; if that is gone, delete .*lock"),
        lock.locked(tmp_path),
    ):
        pass
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with lock.locked(tmp_path):
        assert lock.holder(tmp_path)["slurm_restart"] == "1"


def test_the_lock_is_released_when_the_run_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), lock.locked(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_of_two_processes_that_find_a_stale_lock_one_gets_it(tmp_path):
    stale(tmp_path, started="1")
    code = (
        "import sys, pathlib, time, experiments.engine.lock as l\n"
        "while time.time() < float(sys.argv[2]): pass\n"
        "with l.locked(pathlib.Path(sys.argv[1])): time.sleep(3)"
    )
    start = str(time.time() + 4)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", code, str(tmp_path), start]
    both = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert "in use by process" in "".join(errors)


def test_a_lock_that_cannot_be_read_is_named_and_holds(tmp_path):
    (tmp_path / "lock").write_text("")
    with (
        pytest.raises(RunFolderError, match=r"in use by process \? on an unknown host; .* delete .*lock"),
        lock.locked(tmp_path),
    ):
        pass
