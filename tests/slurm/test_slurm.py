"""Sweeps, preempted, dying and many-process runs as jobs of a real Slurm, against the same runs without it."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from experiments.engine.lock import holder
from tests.helpers.running import history
from tests.helpers.slurm import DIGITS, LAUNCHER, ROOT, Command, Slurm, rows, wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(3600)]

SWEEP = ("optim=la_sgd", "optim.k=5,10", "optim.alpha=0.5,0.8", "epochs=2")
PREEMPTED = ("optim=la_sgd", "epochs=20", "seed=1,2")
PAIR = ("optim=la_sgd", "epochs=8")
KILLED = ("optim=la_sgd", "epochs=500")
TWO_RANKS = (*LAUNCHER, "hydra.launcher.tasks_per_node=2")


@pytest.fixture(scope="module")
def commands(slurm: Slurm) -> dict[str, Command]:
    """All commands of this file, started at once: Slurm and the machine share their work out."""
    script = ROOT / "scripts" / "slurm" / "torchrun.sbatch"
    asked = ("--nodes=1", "--cpus-per-task=2", f"--export=ALL,PROCESSES=2,PYTHON={sys.executable}")
    return {
        "preempted": slurm.train("preempted", *PREEMPTED, "tracker=wandb", *LAUNCHER),
        "killed": slurm.train("killed", *KILLED, *TWO_RANKS),
        "torchrun": slurm.start(
            "torchrun",
            *("sbatch", "--wait", *asked, f"--output={slurm.folder}/torchrun.txt", str(script), *DIGITS, *PAIR),
        ),
        "two ranks": slurm.train("two-ranks", *PAIR, "optim.lr=0.1,1e30", *TWO_RANKS),
        "sweep": slurm.train("sweep", *SWEEP, *LAUNCHER),
        "sweep, no Slurm": slurm.train("sweep-alone", *SWEEP, "-m"),
        "preempted, no Slurm": slurm.train("preempted-alone", *PREEMPTED, "-m"),
    }


@pytest.fixture(scope="module", autouse=True)
def signals(slurm: Slurm, commands: dict[str, Command]) -> Iterator[dict[str, Future]]:
    """What happens to runs in their middle, each as soon as it has come so far; a result is the job's id."""

    over = threading.Event()

    def in_its_middle(name: str, words: str, seed: int = 1) -> dict[str, Any]:
        """Wait until a run has come to its first row; return who holds its folder."""
        command, folder = commands[name], run_of(commands[name], words, seed)
        wait_for(lambda: rows(folder) >= 1 or command.process.poll() is not None or over.is_set())
        assert rows(folder) >= 1, command.log.read_text()
        return holder(folder)

    def requeued_by_slurm() -> str:  # as Slurm preempts: SIGTERM, and the job is queued again
        in_its_middle("preempted", "epochs=20", 1)
        job = f"{commands['preempted'].array()}_0"  # the number of a job may be that of its whole array
        slurm.command("scontrol", "requeue", job)
        return job

    def told_to_save() -> str:  # as before a time limit; submitit requeues
        in_its_middle("preempted", "epochs=20", 2)
        job = f"{commands['preempted'].array()}_1"
        slurm.command("scancel", "--signal=USR2", job)
        return job

    def batch_told_to_save() -> str:
        job = in_its_middle("torchrun", "epochs=8")["slurm_job"]
        slurm.command("scancel", "--batch", "--signal=USR2", job)
        return job

    def killed() -> str:
        held = in_its_middle("killed", "epochs=500")
        os.kill(held["pid"], signal.SIGKILL)  # the first of its processes
        return held["slurm_job"]

    with ThreadPoolExecutor() as pool:
        try:
            yield {
                act.__name__: pool.submit(act) for act in (requeued_by_slurm, told_to_save, batch_told_to_save, killed)
            }
        finally:
            over.set()


def run_of(command: Command, words: str, seed: int = 1) -> Path:
    return command.outputs / f"digits-la_sgd,{words}" / f"seed-{seed}"


def check_same_bits(one: Path, other: Path) -> None:
    assert rows(one) > 0
    assert history(one) == history(other)
    weights = [(folder / "weights.safetensors").read_bytes() for folder in (one, other)]
    assert weights[0] == weights[1]
    finals = [json.loads((folder / "summary.json").read_text())["final"] for folder in (one, other)]
    assert finals[0] == finals[1]


def test_a_job_that_is_preempted_saves_and_goes_on_to_the_same_bits_in_the_same_tracked_run(commands, signals):
    jobs = [signals[name].result() for name in ("requeued_by_slurm", "told_to_save")]
    code, said = commands["preempted"].ended()
    logs = commands["preempted"].logs()
    assert code == 0, said + logs
    assert logs.count("saved; the same command goes on from there") == 2
    assert "SIGTERM: finishing the step and saving" in logs
    assert "SIGUSR2: finishing the step and saving" in logs
    assert [f"Requeued job {job} " in logs for job in jobs] == [False, True]  # by submitit
    assert commands["preempted, no Slurm"].ended()[0] == 0
    for seed in (1, 2):
        folder = run_of(commands["preempted"], "epochs=20", seed)
        check_same_bits(folder, run_of(commands["preempted, no Slurm"], "epochs=20", seed))
        parts = [part.name.split("-", 3)[3] for part in (folder / "wandb").glob("offline-run-*")]
        assert parts == [f"digits-la_sgd_epochs=20-seed-{seed}" + parts[0][-9:]] * 2  # one id
        assert not (folder / "lock").exists()


def test_a_sweep_over_k_and_alpha_is_one_array_and_has_the_bits_of_the_sweep_without_slurm(commands):
    code, said = commands["sweep"].ended()
    assert code == 0, said + commands["sweep"].logs()
    assert commands["sweep, no Slurm"].ended()[0] == 0
    points = ["alpha=0.8,epochs=2", "alpha=0.8,epochs=2,k=10", "epochs=2", "epochs=2,k=10"]
    for point in points:
        check_same_bits(run_of(commands["sweep"], point), run_of(commands["sweep, no Slurm"], point))
    outputs = commands["sweep"].outputs
    folders = sorted(path.name for path in outputs.iterdir() if path.is_dir())
    assert folders == [*(f"digits-la_sgd,{point}" for point in points), "slurm"]
    array = commands["sweep"].array()
    assert {path.name for path in (outputs / "slurm").glob("[0-9]*_*")} == {f"{array}_{number}" for number in range(4)}


def test_the_launcher_of_a_job_that_is_killed_ends_with_an_error(slurm, commands, signals):
    job = signals["killed"].result()
    code, said = commands["killed"].ended()
    assert code == 1
    logs = commands["killed"].outputs / "slurm" / job
    assert said.splitlines()[-1] == f"error: job {job} ended without a result (FAILED); its logs are in {logs}"
    assert slurm.command("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T") == "FAILED"


def test_two_tasks_of_slurm_are_two_ranks_of_one_run_and_torchrun_in_a_batch_file_makes_the_same(
    slurm, commands, signals
):
    code, said = commands["two ranks"].ended()
    assert code == 1  # the second setting diverges, which its first process tells the launcher
    assert said.splitlines()[-1].startswith("error: the training loss is "), said
    folder = run_of(commands["two ranks"], "epochs=8")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["ranks"] == 2
    assert summary["final"]["val/accuracy"] > 90

    job = signals["batch_told_to_save"].result()
    code, said = commands["torchrun"].ended()
    log = (slurm.folder / "torchrun.txt").read_text()
    assert code == 0, said + log
    assert "saved; the same command goes on from there" in log  # and so it did
    assert f"job {job}" in said
    check_same_bits(folder, run_of(commands["torchrun"], "epochs=8"))
