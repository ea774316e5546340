"""Workers that train by themselves and meet at the outer update: two and three processes; what is refused."""

from __future__ import annotations

import os

import pytest
import safetensors.torch
import torch

from benchmarks.ports import free_port
from experiments.engine import local_workers
from experiments.engine.errors import ConfigurationError
from experiments.engine.local_workers import check_local
from experiments.engine.loop import Trainer
from experiments.engine.records import read_summary
from tests.helpers.engine_processes import do
from tests.helpers.forked_processes import forked, found_by, runs_of_two
from tests.helpers.running import configuration, history, run_in, state

PLAIN = "task.preset.model._target_=tests.helpers.plain_model.PlainModel"
# 32 images in each of 6 updates of an epoch, two epochs.
DIGITS = ["task=digits", "scale=smoke", "epochs=2", "task.dataset.train_subset=192", "runtime.threads=1"]
RUN = [*DIGITS, "batch_size=32"]
LOCAL = [*RUN, "optim.local=true"]
EVERY_STEP = ["optim.k=1", "optim.alpha=1.0", "optim.momentum=0.9"]
# A batch for two workers and for three; 8 updates an epoch.
STOPPED = [*DIGITS, "batch_size=24", "optim.local=true", PLAIN, "optim=snoo_adamw", "optim.k=4"]
STOPPED += ["runtime.read_loss_every=1", "runtime.checkpoint_every_s=null"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found, by name of the job, and the folder of its runs."""
    folder = tmp_path_factory.mktemp("two")
    plant = {"rank": 1, "call": 6, "what": "SIGUSR1"}  # the sixth update: two after a synchronization
    jobs = {
        "local": {"overrides": [*LOCAL, PLAIN, "optim=la_sgd", *EVERY_STEP]},
        "summed": {"overrides": [*RUN, PLAIN, "optim=la_sgd", *EVERY_STEP]},
        "apart": {"overrides": [*LOCAL, PLAIN, "optim=snoo_adamw", "optim.k=5"]},
        "pieces": {"overrides": [*LOCAL, PLAIN, "optim=snoo_adamw", "optim.k=5", "runtime.micro_batches=4"]},
        "norm": {"overrides": [*LOCAL, "optim=snoo_sgd", "optim.k=5"]},
        "whole": {"overrides": STOPPED},
        "stopped": {"overrides": STOPPED, "plant": plant, "catch": "SIGUSR1"},
        "stopped, then three": {"overrides": STOPPED, "plant": plant, "catch": "SIGUSR1"},
        "error": {"overrides": [*LOCAL, PLAIN, "optim=la_sgd"], "plant": {"rank": 1, "call": 4, "what": "error"}},
    }
    return runs_of_two(folder, jobs), folder


def test_meeting_at_every_step_is_summing_gradients(two):
    # Of SGD with momentum, the mean of the steps is the step of the mean gradient.
    found, folder = two
    local, summed = (state(folder / name)["model"] for name in ("local", "summed"))
    for name, tensor in summed.items():
        torch.testing.assert_close(local[name], tensor, rtol=1e-4, atol=2e-5)
    for row, other in zip(history(folder / "local"), history(folder / "summed"), strict=True):
        for key, value in row.items():
            assert float(value) == pytest.approx(float(other[key]), rel=1e-3, abs=1e-6), key
    assert found["local"][0]["slow"] == found["local"][1]["slow"]


def test_workers_are_apart_between_their_meetings_and_share_their_slow_weights(two):
    found, folder = two
    first, second = found["apart"]
    assert [first["status"], second["status"]] == ["done", "done"]
    assert first["step"] == second["step"] == 12  # two after the last synchronization
    assert first["slow"] == second["slow"]  # to the last bit
    assert first["weights"] != second["weights"]
    assert read_summary(folder / "apart")["ranks"] == 2
    assert read_summary(folder / "apart")["evaluated"] == "slow"
    assert len(history(folder / "apart")) == 2


def test_pieces_of_a_worker_s_part_train_as_the_whole_part(two):
    found, _ = two
    for whole, pieces in zip(found["apart"], found["pieces"], strict=True):
        assert pieces["slow"] == pytest.approx(whole["slow"], rel=1e-4, abs=1e-4)


def test_batch_norm_is_evaluated_with_the_mean_of_the_workers_statistics_and_kept_by_each(two):
    _, folder = two
    saved = state(folder / "norm")
    name = next(name for name in saved["model"] if name.endswith("running_mean"))
    own = [worker["model"][name] for worker in saved["workers"]]
    assert not torch.equal(*own)
    written = safetensors.torch.load_file(folder / "norm" / "weights.safetensors")
    torch.testing.assert_close(written[name], (own[0] + own[1]) / 2)
    assert torch.equal(saved["model"][name], own[0])


def test_a_stopped_run_goes_on_in_the_middle_of_an_inner_loop_each_worker_from_its_own_state(two):
    found, folder = two
    assert [fact["status"] for fact in found["stopped"]] == ["stopped", "stopped"]
    assert state(folder / "stopped")["position"]["step"] == 6
    again = runs_of_two(folder, {"stopped": {"overrides": STOPPED}})["stopped"]
    for resumed, whole in zip(again, found["whole"], strict=True):
        assert (resumed["weights"], resumed["slow"]) == (whole["weights"], whole["slow"])
    assert history(folder / "stopped") == history(folder / "whole")


def test_another_number_of_workers_goes_on_from_the_slow_weights_and_says_so(two, tmp_path, monkeypatch):
    _, folder = two
    run = folder / "stopped, then three"
    saved = state(run)
    slow = [own["lookahead_slow"].double().sum().item() for own in saved["optimizer"]["state"].values()]
    job = {"overrides": STOPPED, "folder": str(run)}
    port = str(free_port())

    def child(rank):
        os.environ.update(RANK=str(rank), WORLD_SIZE="3", LOCAL_RANK=str(rank), MASTER_PORT=port)
        started, said = [], []
        monkeypatch.setattr(local_workers.log, "warning", lambda text, *values: said.append(text % values))
        original = Trainer.start_clock

        def start_clock(self):
            started.append([p.detach().double().sum().item() for p in self.parts.task.model.parameters()])
            original(self)

        Trainer.start_clock = start_clock
        return do(job, rank), started, said

    found = found_by(tmp_path, forked(tmp_path, child, 3))
    assert [fact["status"] for fact, *_ in found] == ["done"] * 3, found
    for fact, started, _ in found:
        assert started == [slow]
        assert fact["slow"] == found[0][0]["slow"]
    words = "is of 2 local workers, and there are 3: they go on from the slow weights of step 6"
    assert [sum(words in line for line in said) for _, _, said in found] == [1, 0, 0]
    assert read_summary(run)["ranks"] == 3


# What is refused


@pytest.mark.parametrize(
    ("overrides", "count", "words"),
    [
        (["optim=sgd", "+optim.local=true"], 2, "needs slow weights to share, and optim=sgd has none"),
        (["optim=la_sgd", "optim.local=true"], 1, "needs several processes, and this is one alone"),
        (["optim=la_sgd", "optim.local=true", "batch_size=33"], 2, "batch_size=33 does not .* give 32 or 34"),
        (
            ["optim=la_sgd", "optim.local=true", "runtime.micro_batches=3"],
            2,
            "for 2 local .*micro_batches=3; give 30 or 36",
        ),
        (["optim=la_sgd", "optim.local=true", "batch_size=1"], 2, "runtime.micro_batches=1; give 2$"),
        (["optim=la_sgd", "optim.local=true", "batch_norm_images=16"], 2, "batch_norm_images=16, whose pieces"),
        (["optim=la_sgd", "optim.local=true", "probe=every_update"], 2, "does not go with a probe"),
        (["optim=la_sgd", "optim.local=maybe"], 2, "optim.local=maybe is not possible; give true or false"),
        (["optim=la_sgd", "average=polyak", "optim.local=true"], 2, "does not go with an average"),
    ],
)
def test_workers_that_could_not_be_are_refused(overrides, count, words):
    with pytest.raises(ConfigurationError, match=words):
        check_local(configuration(*DIGITS, *overrides), count)


def test_one_process_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigurationError, match="needs several processes"):
        run_in(tmp_path / "run", *LOCAL, "optim=la_sgd")
    assert not list((tmp_path / "run").iterdir())
    check_local(configuration(*RUN, "optim=la_sgd"), 1)


def test_an_error_of_one_worker_ends_the_others_in_its_words(two):
    found, _ = two
    assert found["error"][1]["status"] == "ValueError"
    assert "a sample is broken" in found["error"][0]["message"]
