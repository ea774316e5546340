"""Penn Treebank's part of the report on a GPU, on a CPU at a tiny size, and where it finds a fault that is planted."""

from __future__ import annotations

import warnings

import pytest
import torch

from benchmarks import gpu_checks, gpu_penn_treebank, trainers
from benchmarks.own_work import OwnWork
from experiments.language_modeling.dropout import WeightDropLSTM

CPU = torch.device("cpu")
FAST = ["hardware=cpu", "optim=la_sgd"]


def small(made):
    """Return what composes a tiny model on a short text, in the place of the benchmark's own."""

    def configure(*given):
        made.append(given)
        sizes = ("awd_lstm_small", 20, 4, 400)
        settings = ["optim=la_adam", "optim.lr=1e-3", "task.bptt=12", "runtime.threads=1", "runtime.keep_memory=false"]
        return trainers.penn_treebank_configuration(*sizes, *given, *settings)

    return configure


def test_the_configuration_is_penn_treebank_s_with_lookahead_around_adam():
    config = gpu_penn_treebank.configured("awd_lstm", 80)("hardware=cuda", "runtime.device=cpu", "optim=la_sgd")
    assert (config.optim.name, config.optim.lr, config.batch_size, config.task.bptt) == ("la_adam", 1e-3, 80, 70)
    assert (config.precision, config.task.vocabulary, config.task.corpus.train_tokens) == ("bf16", 10_000, 160_000)
    assert (config.model.hidden, config.model.weight_dropout, config.optim.clip) == (1150, 0.5, 0.25)
    given = gpu_penn_treebank.configured("awd_lstm", 80)("hardware=cuda", *gpu_penn_treebank.WITHOUT_DROPOUT)
    assert not any(value for name, value in given.model.items() if name.endswith("_dropout"))


def test_fast_updates_are_compared_with_eager_float32_ones_without_dropout(tmp_path):
    made = []
    gradients, check = gpu_penn_treebank.updates(CPU, [*FAST, "precision=bf16"], tmp_path, small(made))
    assert [set(gpu_checks.EAGER) <= set(given) for given in made] == [True, False]
    assert all(set(gpu_penn_treebank.WITHOUT_DROPOUT) <= set(given) for given in made)
    assert gradients.passed
    assert not gradients.found.startswith("at most 0.0e+00")  # they are not of one precision
    assert check.passed
    assert check.name == "AWD-LSTM, loss at update 20, eager float32 and fast"


def test_fast_gradients_that_are_wrong_in_one_layer_are_seen(tmp_path, monkeypatch):
    forward, calls = WeightDropLSTM.forward, []

    def half_a_gradient_in_the_second_run(self, inputs, hidden):
        calls.append(1)
        number = len(calls) - 2 * (1 + 20)  # of two layers in an update for its gradients, and in 20
        return forward(self, (inputs + inputs.detach()) / 2 if number == 2 else inputs, hidden)

    monkeypatch.setattr(WeightDropLSTM, "forward", half_a_gradient_in_the_second_run)
    gradients, losses = gpu_penn_treebank.updates(CPU, FAST, tmp_path, small([]))
    assert not gradients.passed
    assert "layers.0.weight_ih_l0" in gradients.found
    assert losses.passed


def test_gradients_that_are_no_numbers_do_not_pass():
    own = {"weight": torch.ones(3)}
    assert gpu_penn_treebank.same_gradients(own, {"weight": torch.tensor([1.0, 1.0, 1.15])}).passed
    for wrong in ([1.0, 1.0, 1.2], [1.0, 1.0, float("nan")]):
        check = gpu_penn_treebank.same_gradients(own, {"weight": torch.tensor(wrong)})
        assert not check.passed
        assert check.found.endswith("too far: weight")


def test_waits_and_moved_weights_are_looked_for_and_both_precisions_are_timed(tmp_path, monkeypatch):
    made, timed = [], []
    monkeypatch.setattr(
        gpu_penn_treebank,
        "speed",
        lambda trainer, goal=True: timed.append((trainer.config.precision, goal)) or gpu_checks.Check("speed", ""),
    )
    found = gpu_penn_treebank.speeds(CPU, [*FAST, "precision=bf16"], tmp_path, small(made))
    assert [check.passed for check in found] == [True, None, None, None]
    assert found[0].name == "AWD-LSTM, waits for the device in updates"
    assert found[1].found == "none"
    assert timed == [("bf16", True), ("fp32", False)]
    assert all("runtime.device=cpu" in given for given in made)


def test_weights_that_are_moved_are_counted(tmp_path, monkeypatch):
    trainer = trainers.started(small([])("runtime.device=cpu"), tmp_path)
    forward = WeightDropLSTM.forward

    def warning(self, inputs, hidden):
        warnings.warn("RNN module weights are not part of single contiguous chunk of memory.", stacklevel=1)
        return forward(self, inputs, hidden)

    monkeypatch.setattr(WeightDropLSTM, "forward", warning)
    assert gpu_penn_treebank.moved_weights(trainer).found == "of 2 layers"


@pytest.mark.parametrize("goal", [True, False])
def test_the_rate_is_that_of_the_tokens_and_an_epoch_is_penn_treebank_s(goal, tmp_path, monkeypatch):
    tokens = []

    def clock(device, work):
        before = trainer.position.samples
        work()
        tokens.append(trainer.position.samples - before)
        return 0.0, tokens[0] / 1000

    monkeypatch.setattr(gpu_penn_treebank, "timed", clock)
    monkeypatch.setattr(gpu_penn_treebank, "own_work", lambda *_: OwnWork(0.1, 0.001, 0.006, 5))
    monkeypatch.setattr(gpu_penn_treebank, "peak_memory", lambda device: 3 * 2**30)
    trainer = trainers.started(small([])("runtime.device=cpu"), tmp_path)
    check = gpu_penn_treebank.speed(trainer, goal, count=3)
    assert trainer.position.step == 12 + 3
    assert check.name == "AWD-LSTM, batch 4, fp32"
    assert check.found.startswith(f"1,000 tokens/s ({tokens[0] / 3:.1f} ms per update), 929.4 s for an epoch of Penn")
    assert "3.0 GiB at most, Lookahead 2.00 % of an update" in check.found
    assert check.found.endswith("; the goal on one H100 is 4 s for an epoch") is goal
    assert check.passed is None
