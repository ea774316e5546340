"""Runs in two and three processes, on gloo, against one process that sees the same batches whole."""

from __future__ import annotations

import signal

import pytest
import safetensors.torch
import torch

from benchmarks.ports import free_port
from experiments.engine.processes import ALONE, first_host, meeting_point
from experiments.engine.records import read_summary
from experiments.engine.task import Share
from tests.helpers.engine_processes import facts, start
from tests.helpers.running import history, run_in, state

PLAIN = "task.preset.model._target_=tests.helpers.plain_model.PlainModel"
# 33 images in a batch and 2 in the last one, 101 to validate: two processes share none of them equally.
RUN = ["task=digits", "scale=smoke", "epochs=2", "batch_size=33", "task.dataset.val_subset=101", "runtime.threads=1"]
OPTIMIZERS = {
    "sgd": ["optim=sgd"],
    "la_sgd": ["optim=la_sgd", "optim.clip=0.5"],
    "la_adamw": ["optim=la_adamw"],
    "polyak": ["optim=polyak"],
    "adaptive, last": ["optim=la_adam_adaptive", "optim.alpha.gradient=last"],
    "adaptive, fresh": ["optim=la_adam_adaptive", "optim.alpha.gradient=fresh"],
}
BATCH_NORM = ["task=digits", "scale=smoke", "optim=la_sgd", "epochs=2", "task.dataset.train_subset=192"]
ONE_LEFT = [*RUN, "optim=la_sgd", PLAIN, "batch_size=199"]  # the last batch is one image
LONG = [*RUN, "optim=la_sgd", PLAIN, "epochs=6", "runtime.read_loss_every=2", "runtime.checkpoint_every_s=null"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found, by name of the job, and the folder of its runs."""
    folder = tmp_path_factory.mktemp("two")
    jobs = {name: {"overrides": [*RUN, PLAIN, *chosen]} for name, chosen in OPTIMIZERS.items()}
    jobs["batch norm"] = {"overrides": BATCH_NORM}
    jobs["one left"] = {"overrides": ONE_LEFT}
    plant = {"rank": 1, "call": 8, "what": "SIGUSR1"}
    for name in ("stopped, then one", "stopped, then three"):
        jobs[name] = {"overrides": LONG, "plant": plant, "catch": "SIGUSR1"}
    jobs["disagree"] = {"overrides": [*RUN, "optim=la_sgd"], "own": {"1": ["optim.k=7"]}}
    jobs["diverge"] = {"overrides": [*RUN, PLAIN, "optim=sgd", "optim.lr=1e30", "runtime.read_loss_every=2"]}
    jobs["error"] = {"overrides": [*RUN, PLAIN, "optim=sgd"], "plant": {"rank": 1, "call": 4, "what": "error"}}
    for name, job in jobs.items():
        job |= {"folder": str(folder / name), "port": free_port()}
    found = facts(folder, start(folder, 2, list(jobs.values())))
    return {name: [found[rank][number] for rank in (0, 1)] for number, name in enumerate(jobs)}, folder


def weights(folder):
    return safetensors.torch.load_file(folder / "weights.safetensors")


def assert_close(folder, whole):
    """Sums of float32 gradients in another order: 1e-7 each, which 14 updates, Adam's among them, make 1e-5 or less."""
    ours, theirs = weights(folder), weights(whole)
    for name, tensor in theirs.items():
        torch.testing.assert_close(
            ours[name], tensor, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name} {text}"
        )
    for row, other in zip(history(folder), history(whole), strict=True):
        assert row.keys() == other.keys()
        for key, value in row.items():
            exact = key in ("epoch", "step", "samples") or key.endswith("accuracy")
            # As logits move by 1e-5, no image of these changes its class, and losses by as much.
            assert float(value) == pytest.approx(float(other[key]), rel=1e-9 if exact else 2e-4, nan_ok=True), key


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.slow
def test_two_processes_train_as_one_and_agree_on_every_weight(name, two, tmp_path):
    found, folder = two
    assert [fact["status"] for fact in found[name]] == ["done", "done"]
    assert found[name][0] == found[name][1]  # fast and slow weights, to the last bit
    run_in(tmp_path, *RUN, PLAIN, *OPTIMIZERS[name])
    assert_close(folder / name, tmp_path)
    assert (read_summary(folder / name)["ranks"], read_summary(tmp_path)["ranks"]) == (2, 1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_three_micro_batches_train_as_a_whole_batch(name, tmp_path):
    run_in(tmp_path / "whole", *RUN, PLAIN, *OPTIMIZERS[name])
    run_in(tmp_path / "pieces", *RUN, PLAIN, *OPTIMIZERS[name], "runtime.micro_batches=3")
    assert_close(tmp_path / "pieces", tmp_path / "whole")
    assert read_summary(tmp_path / "pieces")["micro_batches"] == 3


@pytest.mark.slow
def test_batch_norm_sees_a_process_s_part_as_one_process_does_with_passes_of_that_size(two, tmp_path):
    found, folder = two
    assert found["batch norm"][0] == found["batch norm"][1]
    run_in(tmp_path / "passes", *BATCH_NORM, "batch_norm_images=16")
    run_in(tmp_path / "whole", *BATCH_NORM)
    ours, passes, whole = (state(one) for one in (folder / "batch norm", tmp_path / "passes", tmp_path / "whole"))
    for name in ours["model"]:  # running statistics, too: of the first pass of each update
        # A bias before batch norm has no gradient but rounding, so this tolerance is absolute.
        torch.testing.assert_close(ours["model"][name], passes["model"][name], rtol=1e-3, atol=1e-4)
    far = max((tensor - whole["model"][name]).abs().max().item() for name, tensor in ours["model"].items())
    assert far > 1e-3  # a whole batch of 32 is another setting


@pytest.mark.slow
def test_a_last_batch_smaller_than_the_processes_does_no_harm(two, tmp_path):
    found, folder = two
    assert [fact["step"] for fact in found["one left"]] == [4, 4]
    run_in(tmp_path, *ONE_LEFT)
    assert_close(folder / "one left", tmp_path)
    assert [row["samples"] for row in history(folder / "one left")] == ["200", "400"]


@pytest.mark.slow
def test_the_first_process_alone_writes(two):
    _, folder = two
    names = {path.name for path in (folder / "sgd").iterdir()}
    assert names == {"config.yaml", "history.csv", "summary.json", "weights.safetensors", "checkpoints"}
    assert len(history(folder / "sgd")) == 2


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(two):
    found, folder = two
    for name in ("stopped, then one", "stopped, then three"):
        assert [fact["status"] for fact in found[name]] == ["stopped", "stopped"]
        # Sent in the eighth update, the first of an epoch; losses are read, and stops agreed on, after the second.
        assert [fact["step"] for fact in found[name]] == [9, 9]
        assert state(folder / name)["position"]["step"] == 9
        assert len(state(folder / name)["random"]) == 2
        assert not (folder / name / "lock").exists()


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_goes_on_with_one_and_with_three(two, tmp_path):
    _, folder = two
    run_in(tmp_path / "whole", *LONG)
    assert run_in(folder / "stopped, then one", *LONG)["status"] == "done"
    assert_close(folder / "stopped, then one", tmp_path / "whole")
    job = {"overrides": LONG, "folder": str(folder / "stopped, then three"), "port": free_port()}
    found = facts(tmp_path, start(tmp_path, 3, [job]))
    assert [fact[0]["status"] for fact in found] == ["done"] * 3
    assert found[0] == found[1] == found[2]
    assert_close(folder / "stopped, then three", tmp_path / "whole")


@pytest.mark.slow
def test_processes_that_disagree_about_the_configuration_are_refused_by_name(two):
    found, folder = two
    for fact in found["disagree"]:
        assert fact["status"] == "ConfigurationError"
        assert "optim.k 7 there, 5 here" in fact["message"]
    assert not list((folder / "disagree").iterdir())


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_all_and_is_said_once(two):
    found, folder = two
    assert [fact["status"] for fact in found["diverge"]] == ["Diverged", "quiet"]
    assert read_summary(folder / "diverge")["status"] == "diverged"


@pytest.mark.slow
def test_an_error_of_one_process_ends_the_others_which_say_it(two):
    found, _ = two
    assert found["error"][1] == {"status": "ValueError", "message": "a sample is broken"} | {
        key: found["error"][1][key] for key in ("step", "weights")
    }
    assert found["error"][0]["status"] == "ProcessLost"
    assert "process 1: a sample is broken" in found["error"][0]["message"]


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_within_a_minute(tmp_path):
    job = {"overrides": LONG, "folder": str(tmp_path / "run"), "port": free_port()}
    processes = start(tmp_path, 2, [job | {"plant": {"rank": 1, "call": 9, "what": "SIGKILL"}}])
    assert processes[1].wait(120) == -signal.SIGKILL
    assert processes[0].wait(60) == 0
    assert '"ProcessLost"' in (tmp_path / "facts-0.json").read_text()
    assert not (tmp_path / "run" / "lock").exists()


def test_names_that_slurm_half_sets_are_passed_over():
    assert meeting_point({"SLURM_JOB_ID": "abc", "SLURM_STEP_ID": "batch", "SLURM_STEP_NODELIST": ""}) == {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "20000",
    }
    assert meeting_point({"MASTER_ADDR": "", "MASTER_PORT": ""})["MASTER_PORT"] == "20000"


def test_processes_of_slurm_meet_at_the_first_host_on_a_port_of_their_job():
    assert [first_host(hosts) for hosts in ("node7", "node[003-006,009],other", "a1,b[2-3]", "n[1,3]-ib")] == [
        "node7",
        "node003",
        "a1",
        "n1-ib",
    ]
    slurm = {"SLURM_JOB_NODELIST": "gpu[12-13]", "SLURM_JOB_ID": "4711"}
    assert meeting_point(slurm) == {"MASTER_ADDR": "gpu12", "MASTER_PORT": "24711"}
    given = {"MASTER_ADDR": "other", "MASTER_PORT": "1234"}
    assert meeting_point(slurm | given) == given


@pytest.mark.parametrize("count", [0, 1, 2, 7, 12, 13])
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("pieces", [{"micro": 1}, {"micro": 3}, {"pass_size": 4}])
def test_passes_are_every_sample_once_in_order(count, ranks, pieces):
    passes = [Share(rank, ranks, **pieces).passes(count) for rank in range(ranks)]
    assert [i for its in passes for piece in its for i in range(piece.start, piece.stop)] == list(range(count))
    assert all(piece.stop > piece.start for its in passes for piece in its)
    assert count == 0 or passes[0]  # the first process has something of every batch
    if "pass_size" in pieces:
        assert all(piece.start % 4 == 0 and piece.stop - piece.start <= 4 for its in passes for piece in its)
    parts = [Share(rank, ranks).of(count) for rank in range(ranks)]
    assert max(p.stop - p.start for p in parts) - min(p.stop - p.start for p in parts) <= 1


def test_alone_everything_is_trivial():
    assert ALONE.sum([1.0, 2.0]) == [1.0, 2.0]
    assert ALONE.gather("x") == ["x"]
    assert ALONE.broadcast("x") == "x"
    assert ALONE.first(lambda: 3) == 3
    assert (ALONE.any(True), ALONE.any(False)) == (True, False)
