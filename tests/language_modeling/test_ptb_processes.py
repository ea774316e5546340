"""Runs of task=ptb whose columns two processes, or micro-batches, share out."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from tests.helpers.forked_processes import runs_of_two
from tests.helpers.running import history, run_in, state

RUN = ["task=ptb", "scale=smoke", "runtime.threads=1"]
DROPOUTS = [f"smaller_model.{name}_dropout=0" for name in ("word", "input", "hidden", "output", "weight")]
CASES = {"sgd": ["optim=sgd", "optim.lr=3"], "la_adam": ["optim=la_adam"]}
PLANT = {"rank": 1, "call": 6, "what": "SIGUSR1"}  # in the middle of the first epoch
STOPPED = [*RUN, *DROPOUTS, *CASES["la_adam"], "runtime.read_loss_every=2"]
ONE_COLUMN = [*RUN, *DROPOUTS, "optim=la_sgd", "optim.lr=3", "batch_size=1", "steps=5", "task.val_columns=1"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    jobs = {name: {"overrides": [*RUN, *DROPOUTS, *chosen]} for name, chosen in CASES.items()}
    jobs["stopped"] = {"overrides": STOPPED, "plant": PLANT, "catch": "SIGUSR1"}
    jobs["one column"] = {"overrides": ONE_COLUMN}
    return runs_of_two(folder, jobs), folder


def assert_close(folder, whole):
    """Sums of float32 gradients in another order, which 29 updates make 1e-4 or less."""
    ours, theirs = (safetensors.torch.load_file(each / "weights.safetensors") for each in (folder, whole))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    for row, other in zip(history(folder), history(whole), strict=True):
        for key in ("train/running_loss", "train/loss", "val/loss"):
            assert float(row[key]) == pytest.approx(float(other[key]), rel=1e-4), key
        assert (row["step"], row["samples"]) == (other["step"], other["samples"])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first of them waits for the processes, which a busy machine makes slow
def test_columns_are_shared_out_by_two_processes_and_by_micro_batches(name, two, tmp_path):
    found, folder = two
    assert found[name][0] == found[name][1]
    assert found[name][0]["status"] == "done"
    run_in(tmp_path / "whole", *RUN, *DROPOUTS, *CASES[name])
    run_in(tmp_path / "pieces", *RUN, *DROPOUTS, *CASES[name], "runtime.micro_batches=3")
    assert_close(tmp_path / "pieces", tmp_path / "whole")
    assert_close(folder / name, tmp_path / "whole")
    assert [one["columns"] for one in state(folder / name)["task"]] in ([[[0, 8]]] * 2, [[[0, 4]], [[4, 8]]])


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first of them waits for the processes, which a busy machine makes slow
def test_what_two_processes_left_in_mid_epoch_one_goes_on_with(two, tmp_path):
    found, folder = two
    assert [one["status"] for one in found["stopped"]] == ["stopped", "stopped"]
    carried = state(folder / "stopped")["task"]
    assert [one["columns"] for one in carried] == [[[0, 4]], [[4, 8]]]
    assert 0 < carried[0]["batch"] == carried[1]["batch"] < 16
    run_in(folder / "stopped", *STOPPED)
    run_in(tmp_path, *RUN, *DROPOUTS, *CASES["la_adam"])
    assert_close(folder / "stopped", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first of them waits for the processes, which a busy machine makes slow
def test_a_process_without_a_column_trains_as_the_other_does(two, tmp_path):
    found, folder = two
    assert found["one column"][0]["status"] == found["one column"][1]["status"] == "done"
    assert found["one column"][0]["weights"] == found["one column"][1]["weights"]
    alone = run_in(tmp_path, *ONE_COLUMN)
    assert alone["steps"] == 5
    assert_close(folder / "one column", tmp_path)
