"""What a launcher on a cluster asks of the programs, without a cluster: tests/slurm has the real one."""

from __future__ import annotations

import os
import pickle
import signal

import pytest
from omegaconf import OmegaConf

from experiments.engine import command_line
from experiments.engine.composition import composed
from experiments.engine.errors import Diverged, SaidByFirst, one_line
from experiments.engine.identity import run_name
from experiments.engine.interruption import Interruption
from experiments.engine.run_folder import relative_folder
from tests.helpers.running import QUICK, configuration

KNOBS = ["partition", "account", "qos", "constraint", "nodes", "tasks_per_node", "cpus_per_task", "mem_gb"]


@pytest.fixture
def job(monkeypatch):
    """This process as submitit starts one: train.py's `main` did not run in it. Returns what sets its rank."""
    monkeypatch.setattr(command_line, "_failed", None)
    monkeypatch.setattr(command_line, "check_keys", lambda config: None)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")

    def of_rank(rank: int) -> None:
        values = {"SLURM_PROCID": rank, "SLURM_STEP_NUM_TASKS": 2, "SLURM_LOCALID": rank}
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return of_rank


def ending(folder, run):
    """Return how a job's run ends: the exit code of the process, or None where a result goes to the launcher."""
    try:
        command_line.run_or_explain(run, OmegaConf.create(), folder)
    except SystemExit as ended:
        return ended.code
    return None


def test_a_run_that_was_stopped_leaves_no_result_and_its_first_process_alone_fails(job, tmp_path):
    for rank in (0, 1):
        job(rank)
        assert ending(tmp_path, lambda: None) == 1 - rank
        assert ending(tmp_path, lambda: {"status": "done"}) is None


def test_a_program_goes_on_after_a_run_that_was_stopped(job, tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "_failed", [])
    assert ending(tmp_path, lambda: None) is None
    monkeypatch.setattr(command_line, "_failed", None)  # HYDRA_FULL_ERROR=1
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    assert ending(tmp_path, lambda: None) is None


def test_what_a_job_raises_goes_to_the_launcher_and_into_its_log(job, tmp_path, capsys):
    def fail(error):
        raise error

    (tmp_path / "run" / "seed-1").mkdir(parents=True)
    for rank, error, said in (
        (0, Diverged("the loss is not finite"), "error: the loss is not finite\n"),
        (1, SaidByFirst(), "error: the first process of this run says why it ends\n"),
    ):
        job(rank)
        with pytest.raises(type(error)):
            ending(tmp_path / "run" / "seed-1", lambda error=error: fail(error))
        assert capsys.readouterr().err == said
        assert str(pickle.loads(pickle.dumps(error))) == str(error)  # as it goes to the launcher
    assert not tmp_path.exists()  # nothing was in it
    with pytest.raises(ZeroDivisionError):
        ending(tmp_path, lambda: 1 / 0)
    assert "in <lambda>" in capsys.readouterr().err


def test_of_the_processes_of_a_program_the_first_alone_says_why_they_end(tmp_path, monkeypatch, capsys):
    def quiet():
        raise SaidByFirst

    monkeypatch.setattr(command_line, "_failed", [])
    monkeypatch.setattr(command_line, "check_keys", lambda config: None)
    assert ending(tmp_path, quiet) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("signals_put_back")
def test_all_signals_that_came_are_passed_on_once_in_their_order():
    seen = []
    before = {
        signum: signal.signal(signum, lambda number, _: seen.append(number))
        for signum in (signal.SIGUSR1, signal.SIGUSR2)
    }
    signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with Interruption() as interruption:
            for signum in (signal.SIGTERM, signal.SIGUSR2, signal.SIGTERM, signal.SIGUSR2, signal.SIGUSR1):
                os.kill(os.getpid(), signum)
            assert interruption.signum == signal.SIGTERM
            assert seen == []
        interruption.pass_on()
        assert seen == [signal.SIGTERM, signal.SIGUSR2, signal.SIGUSR1]
        with Interruption() as none:
            pass
        none.pass_on()
        assert len(seen) == 3
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@pytest.mark.parametrize("launcher", ["slurm", "slurm_cpu"])
def test_a_launcher_changes_no_name_and_no_value_of_a_run(launcher):
    plain, launched = (
        configuration(*QUICK, "optim.k=7"),
        configuration(*QUICK, "optim.k=7", f"hydra/launcher={launcher}"),
    )
    assert plain == launched
    assert run_name(plain) == run_name(launched) == "digits-la_sgd,k=7@smoke"
    assert relative_folder(launched) == "digits-la_sgd,k=7@smoke/seed-1"


def test_the_presets_have_the_knobs_of_a_cluster_and_what_makes_runs_go_on():
    found = {
        name: composed("train", ["task=digits", f"hydra/launcher={name}"], with_hydra=True).hydra.launcher
        for name in ("slurm", "slurm_cpu")
    }
    for launcher in found.values():
        assert {*KNOBS, "timeout_min", "array_parallelism", "additional_parameters"} <= launcher.keys()
        assert launcher.max_num_timeout == 100
        assert launcher.setup[0] == "export SLURM_KILL_BAD_EXIT=1"
        assert launcher.submitit_folder == "outputs/slurm/%j"
    cpus = ["export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"]
    assert list(found["slurm"].setup)[1:] == cpus
    assert list(found["slurm_cpu"].setup)[1:] == [*cpus, "export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK"]
    assert (found["slurm_cpu"].gpus_per_node, found["slurm_cpu"].tasks_per_node) == (None, 1)
    assert (found["slurm"].gpus_per_node, found["slurm"].tasks_per_node) == (1, 1)
    many = composed("train", ["task=digits", "hydra/launcher=slurm", "hydra.launcher.gpus_per_node=8"], with_hydra=True)
    assert many.hydra.launcher.tasks_per_node == 8


MISTAKES = {
    ("hydra/launcher=slurm",): "hydra/launcher=slurm submits what a command with -m asks for; add -m",
    ("-m", "hydra/launcher=slrum"): "hydra/launcher=slrum does not exist; did you mean slurm?",
    ("-m", "hydra/launcher=slurm", "hydra.launcher.partion=gpu"): (
        "unknown key hydra.launcher.partion; did you mean partition?"
    ),
    ("-m", "hydra.launcher.partition=gpu"): (
        "hydra.launcher.partition is for a cluster; choose a launcher as well: hydra/launcher=slurm, or slurm_cpu"
    ),
    ("-m", "hydra/launcher=slurm", "hydra.launcher.nodes=two"): "hydra.launcher.nodes=two is not possible: ",
    ("-m", "hydra/launcher=slurm", "optim.kk=5,10"): "unknown key optim.kk",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_with_a_launcher_is_one_line_before_anything_is_submitted(arguments, command, tmp_path):
    code, lines = command(*QUICK, *arguments)
    assert (code, len(lines)) == (1, 1), lines
    assert lines[0].startswith(f"error: {MISTAKES[arguments]}")
    assert not (tmp_path / "outputs" / "slurm").exists()


def test_without_slurm_a_launcher_says_so(command, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    code, lines = command(*QUICK, "-m", "hydra/launcher=slurm_cpu")
    assert (code, len(lines)) == (1, 1)
    assert 'Could not detect "srun"' in lines[0]


def of_submitit(text: str) -> Exception:
    kind = type("UncompletedJobError", (RuntimeError,), {"__module__": "submitit.core.utils"})
    return kind(text)


def test_what_submitit_says_of_a_job_becomes_one_line_with_the_folder_of_its_logs():
    lost = "Job 3_1 (task: 0) with path /o/slurm/3_1/3_1_0_result.pkl\nhas not produced any output (state: CANCELLED)\n"
    log = "Error stream produced:\n----------\nsrun: error\n"
    assert one_line(of_submitit(lost + log)) == (
        "job 3_1 ended without a result (CANCELLED); its logs are in /o/slurm/3_1"
    )
    dashes = "-" * 22
    failed = (
        f"Job (task=0) failed during processing with trace:\n{dashes}\nTraceback (most recent call last):\n  File x\n"
        f"TypeError: no such thing\n\n{dashes}\nYou can check full logs with 'job.stderr(0)' and 'job.stdout(0)'or at "
        "paths:\n  - /o/slurm/3/3_0_log.err\n  - /o/slurm/3/3_0_log.out"
    )
    assert one_line(of_submitit(failed)) == "a job failed: TypeError: no such thing; its logs are in /o/slurm/3"
    assert one_line(of_submitit("something\nelse")) == "something else"
