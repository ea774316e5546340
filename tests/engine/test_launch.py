"""Which process of how many this is, and which of them says what all of them find."""

from __future__ import annotations

import os

import pytest

from experiments.engine import command_line
from experiments.engine.errors import ConfigurationError, OfThisHost, RunFolderError
from experiments.engine.launch import Launch, launch, refuse_sweep
from tests.helpers.running import QUICK


def test_what_starts_the_processes_says_which_one_this_is():
    assert launch({}) == Launch(0, 1, 0)
    assert launch({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "SLURM_PROCID": "9"}) == Launch(3, 4, 1)
    slurm = {"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}
    assert launch({**slurm, "SLURM_PROCID": "0"}) == Launch(0, 1, 0)  # a batch script, outside srun
    assert launch({**slurm, "SLURM_STEP_NUM_TASKS": "3"}) == Launch(2, 3, 0)  # of this step, not of the job
    assert launch({"SLURM_NTASKS": "4"}) == Launch(0, 1, 0)
    for rank, count in (("4", "4"), ("0", ""), ("0", "many"), ("0", "²"), ("-1", "2")):
        with pytest.raises(
            ConfigurationError, match=f"RANK={rank}, WORLD_SIZE={count}, .* is not possible; unset WORLD_SIZE"
        ):
            launch({"RANK": rank, "WORLD_SIZE": count})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WORLD_SIZE": "1"}, Launch(0, 1, 0)),
        ({"WORLD_SIZE": "2", "RANK": "1"}, Launch(1, 2, 0)),
        ({"SLURM_PROCID": "0"}, Launch(0, 1, 0)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Launch(0, 1, 0)),  # a batch script, outside srun
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "1"}, Launch(1, 2, 1)),
    ],
)
def test_what_is_not_said_is_the_first_process_or_the_only_one(environment, expected):
    assert launch(environment) == expected
    assert Launch() == Launch(rank=0, count=1, local_rank=0)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2, WORLD_SIZE=2, LOCAL_RANK=0"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "RANK=0, WORLD_SIZE=0, LOCAL_RANK=0"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK=-1, WORLD_SIZE=2, LOCAL_RANK=0"),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "x"}, "RANK=1, WORLD_SIZE=2, LOCAL_RANK=x"),
        (
            {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "1"},
            "SLURM_PROCID=1, SLURM_STEP_NUM_TASKS=1, SLURM_LOCALID=0",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(environment, message):
    with pytest.raises(ConfigurationError) as raised:
        launch(environment)
    assert str(raised.value).startswith(f"{message} in the environment is not possible; unset ")


def test_several_processes_take_one_run():
    refuse_sweep(Launch())
    for rank in (0, 1):
        with pytest.raises(ConfigurationError, match="several processes were started for a sweep"):
            refuse_sweep(Launch(rank, 2, rank))


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that were taken, in the place of taking them."""
    taken = []
    monkeypatch.setattr(command_line.time, "sleep", taken.append)
    return taken


def started(monkeypatch, rank, local_rank=None, count=4):
    values = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank if local_rank is None else local_rank}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))


MISTAKES = {
    "of hydra": ["optim.kk=3"],
    "of a group": ["optim=sgdd"],
    "of the grammar": ["optim.lr=[1"],
    "of the command line": ["=5"],
    "an option": ["--foo"],
    "of a key": ["+foo=1"],
    "of a value": ["epochs=0"],
    "of a resolver": ["scale_factor=-1"],
    "of a device": ["runtime.device=gpu"],
    "of a sweep": ["-m", "seed=1,2"],
    "of an output folder": ["runtime.output_dir=/proc/x"],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_first_of_several_processes_alone_says_what_is_wrong(mistake, command, monkeypatch, pauses):
    for rank in range(2):
        started(monkeypatch, rank)
        code, lines = command(*QUICK, *MISTAKES[mistake])
        assert (code, len(lines), len(pauses)) == (1, 1 - rank, rank), lines


def test_what_may_be_wrong_with_one_process_alone_it_says_after_a_pause(command, monkeypatch, pauses):
    started(monkeypatch, 1)
    code, lines = command(*QUICK, "runtime.threads=0")
    assert (code, len(lines), len(pauses)) == (1, 1, 1)
    assert "runtime.threads=0 is not possible" in lines[0]


def test_a_process_that_torchrun_let_wait_says_its_own_mistake(command, monkeypatch, pauses):
    # torchrun ends all with the first that fails: the others had another command line.
    started(monkeypatch, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    code, lines = command(*QUICK, "optim.lr=-1")
    assert (code, pauses) == (1, [command_line.PAUSE_S])
    assert lines == ["error: optim.lr=-1 is not possible; give a number above 0"]


@pytest.mark.parametrize(("count", "level"), [("1", None), ("2", "ERROR")])
def test_torch_shows_no_stacks_where_several_processes_were_started(count, level, command, monkeypatch, pauses):
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "to be put back")
    monkeypatch.delenv("TORCH_CPP_LOG_LEVEL")
    started(monkeypatch, 0)
    monkeypatch.setenv("WORLD_SIZE", count)
    command(*QUICK, "optim.lr=-1")
    assert os.environ.get("TORCH_CPP_LOG_LEVEL") == level
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "INFO")
    command(*QUICK, "optim.lr=-1")
    assert os.environ["TORCH_CPP_LOG_LEVEL"] == "INFO"  # the user's stays


def test_what_concerns_a_host_the_first_process_of_each_host_says(monkeypatch, pauses, capsys):
    for rank, local_rank, speaks in ((0, 0, True), (1, 1, False), (2, 0, True), (3, 1, False)):
        started(monkeypatch, rank, local_rank)
        for error in (OSError("no such folder"), OfThisHost("no such device")):
            command_line.explain(error, "said")
            assert capsys.readouterr().err == ("error: said\n" if speaks else "")
        command_line.explain(RunFolderError("held"), "said")  # found in its work, by this process alone
        assert capsys.readouterr().err == "error: said\n"
    assert pauses == [command_line.PAUSE_S] * 4


@pytest.mark.parametrize("size", ["²", "0", "-1", "many", "", "1.5"])
@pytest.mark.parametrize("mode", [[], ["-m", "seed=1,2"]])
def test_an_environment_that_contradicts_itself_is_said_once_before_anything_is_made(
    size, mode, command, monkeypatch, tmp_path
):
    monkeypatch.setenv("WORLD_SIZE", size)
    code, lines = command(*QUICK, *mode)
    assert (code, len(lines)) == (1, 1)
    assert lines[0].startswith(f"error: RANK=0, WORLD_SIZE={size}, LOCAL_RANK=0 in the environment is not possible")
    assert list(tmp_path.iterdir()) == []
