"""Runs of translation whose workers two processes, or micro-batches, share out."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from tests.helpers.forked_processes import runs_of_two
from tests.helpers.running import history, run_in

RUN = ["task=wmt14", "scale=smoke", "runtime.threads=1", "evaluation.final_splits=[val_bleu,test]", "steps=40"]
RUN += ["evaluation.every_steps=20", "optim=la_adam", "task.beam=1"]
STOPPED = [*RUN, "runtime.read_loss_every=2"]
PLANT = {"rank": 1, "call": 26, "what": "SIGUSR1"}  # in the middle of the first epoch


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    jobs = {"whole": {"overrides": RUN}, "stopped": {"overrides": STOPPED, "plant": PLANT, "catch": "SIGUSR1"}}
    return runs_of_two(folder, jobs), folder


def assert_close(folder, whole):
    """Sums of float32 gradients in another order, which Adam makes 1e-3 of small weights or less."""
    ours, theirs = (safetensors.torch.load_file(each / "weights.safetensors") for each in (folder, whole))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-3, msg=name)
    for row, other in zip(history(folder), history(whole), strict=True):
        for key in ("train/running_loss", "val/loss"):
            assert float(row[key]) == pytest.approx(float(other[key]), rel=1e-4), key
        assert (row["step"], row["samples"]) == (other["step"], other["samples"])


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first of them waits for the processes, which a busy machine makes slow
def test_workers_are_shared_out_by_two_processes_and_by_micro_batches(two, tmp_path):
    found, folder = two
    assert found["whole"][0]["status"] == found["whole"][1]["status"] == "done"
    assert found["whole"][0]["weights"] == found["whole"][1]["weights"]
    run_in(tmp_path / "whole", *RUN)
    run_in(tmp_path / "pieces", *RUN, "runtime.micro_batches=3")
    assert_close(tmp_path / "pieces", tmp_path / "whole")
    assert_close(folder / "whole", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_two_processes_left_in_mid_epoch_one_goes_on_with(two, tmp_path):
    found, folder = two
    assert [one["status"] for one in found["stopped"]] == ["stopped", "stopped"]
    summary = run_in(folder / "stopped", *STOPPED)
    assert summary["steps"] == 40
    run_in(tmp_path, *RUN)
    assert_close(folder / "stopped", tmp_path)
