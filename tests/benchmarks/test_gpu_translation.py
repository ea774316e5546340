"""Translation's part of the report on a GPU, on a CPU at a tiny size, and where it finds a fault that is planted."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu_checks, gpu_translation, trainers
from benchmarks.own_work import OwnWork
from experiments.translation.attention import CrossAttention

CPU = torch.device("cpu")
FAST = ["hardware=cpu", "optim=la_sgd"]


def small(made):
    """Return what composes a tiny model on short sentences, in the place of the benchmark's own."""

    def configure(*given):
        made.append(given)
        sizes = ["task.worker_tokens=64", "task.row_tokens=32", "+task.corpus.median=8", "+task.corpus.test_pairs=6"]
        settings = ["+task.corpus.train_pairs=400", "runtime.threads=1", "runtime.keep_memory=false", "optim=la_adam"]
        settings += ["optim.k=3", *gpu_translation.RATE]
        return trainers.translation_configuration("wmt14", "transformer_toy", 40, 128, *sizes, *given, *settings)

    return configure


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    return trainers.started(small([])("runtime.device=cpu"), tmp_path_factory.mktemp("run"))


def test_the_configuration_is_wmt14_s_at_the_paper_s_size_with_lookahead_around_adam():
    config = gpu_translation.configured("transformer_base", 16_384)("hardware=cuda", *FAST, "hardware=cuda")
    assert (config.optim.name, config.optim.k, config.batch_size) == ("la_adam", 10, 16_384)
    assert (config.task.worker_tokens, config.task.row_tokens, config.task.vocabulary) == (2048, 256, 32_000)
    assert (config.model.width, config.model.layers, config.model.dropout, config.precision) == (512, 6, 0.1, "bf16")
    assert (config.runtime.cuda_graph, config.task.corpus.median, config.task.corpus.spread) == (True, 24, 0.55)
    without = gpu_translation.configured("transformer_base", 16_384)(*gpu_translation.WITHOUT_DROPOUT)
    assert not any(value for name, value in without.model.items() if name.endswith("dropout"))


def test_fast_updates_are_compared_with_eager_float32_ones_without_dropout(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_translation, "COMPARED", 4)
    made = []
    gradients, check = gpu_translation.updates(CPU, [*FAST, "precision=bf16"], tmp_path, small(made))
    assert [set(gpu_checks.EAGER) <= set(given) for given in made] == [True, False]
    assert all(set(gpu_translation.WITHOUT_DROPOUT) <= set(given) for given in made)
    assert gradients.passed
    assert gradients.name == "Transformer, gradients, eager float32 and fast"
    assert not gradients.found.startswith("at most 0.0e+00")  # they are not of one precision
    assert check.passed
    assert check.name == "Transformer, loss at update 4, eager float32 and fast"


def test_fast_gradients_that_are_wrong_in_one_layer_are_seen(tmp_path, monkeypatch):
    forward, calls = CrossAttention.forward, []

    def half_a_gradient_in_the_second_run(self, inputs, *rest):
        calls.append(1)
        number = len(calls) - 2 * (1 + 2)  # of two layers in an update for its gradients, and in 2
        return forward(self, (inputs + inputs.detach()) / 2 if number == 2 else inputs, *rest)

    monkeypatch.setattr(gpu_translation, "COMPARED", 2)
    monkeypatch.setattr(CrossAttention, "forward", half_a_gradient_in_the_second_run)
    gradients, _ = gpu_translation.updates(CPU, FAST, tmp_path, small([]))
    assert not gradients.passed
    assert "decoder.1.cross_attention_norm" in gradients.found


def test_waits_graphs_and_the_first_update_are_looked_at_before_the_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_translation, "speed", lambda trainer: gpu_checks.Check("speed", trainer.precision))
    made = []
    found, trainer = gpu_translation.speeds(CPU, [*FAST, "precision=bf16"], tmp_path, small(made))
    assert [check.name.removeprefix("Transformer, ") for check in found] == [
        "CUDA graphs that were skipped",
        "waits for the device in updates",
        "the first update, compiling",
        "speed",
    ]
    assert [check.passed for check in found] == [True, True, None, None]
    assert found[-1].found == "bf16"
    assert trainer.position.step == 1 + 1 + 2 * 3
    assert all("runtime.device=cpu" in given for given in made)
    assert trainer.parts.task.capturable is True


def test_the_rate_is_that_of_target_tokens(trainer, monkeypatch):
    tokens, before = [], trainer.position.step

    def clock(device, work):
        begun = trainer.position.samples
        work()
        tokens.append(trainer.position.samples - begun)
        return 0.0, tokens[0] / 1000

    monkeypatch.setattr(gpu_translation, "timed", clock)
    monkeypatch.setattr(gpu_translation, "own_work", lambda *_: OwnWork(0.1, 0.001, 0.006, 5))
    monkeypatch.setattr(gpu_translation, "peak_memory", lambda device: 3 * 2**30)
    check = gpu_translation.speed(trainer, count=3)
    assert trainer.position.step == before + 5 + 3
    assert check.name == "Transformer, 128 positions, fp32, not compiled"
    assert check.found == (
        f"1,000 target tokens/s ({tokens[0] / 3:.1f} ms per update), 3.0 GiB at most, Lookahead 2.00 % of an update; "
        "the goal on one H100 is 250,000"
    )
    assert tokens[0] < 3 * 128
    assert check.passed is None


def test_translations_are_compared_with_the_cpu_s_and_both_searches_timed(trainer, monkeypatch):
    monkeypatch.setattr(gpu_translation, "LEARNED", trainer.position.step + 2)
    monkeypatch.setattr(gpu_translation, "COMPARED_SENTENCES", 4)
    seconds = iter((0.5, 3.0))
    monkeypatch.setattr(gpu_translation, "_seconds", lambda decoding: decoding.translations() and next(seconds))
    same, rate = gpu_translation.searches(trainer)
    assert trainer.position.step == gpu_translation.LEARNED
    assert same.passed
    assert same.found.startswith("4 of 4 sentences alike, ")
    assert rate.found == "12 sentences/s, 6.0 times one without a cache; the goal is 5 times"
    search, calls = gpu_translation.our_search, []

    def wrong_beside_the_cpu(model, *settings):
        calls.append(model)
        return (lambda sources: [[5]] * len(sources)) if len(calls) == 2 else search(model, *settings)

    monkeypatch.setattr(gpu_translation, "our_search", wrong_beside_the_cpu)
    seconds = iter((0.5, 3.0))
    assert not gpu_translation.searches(trainer)[0].passed
    assert calls[0] is not calls[1]
