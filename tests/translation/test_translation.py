"""The task: its batches, its loss against a plain one, evaluations, and what it shares out."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from experiments.engine.processes import ALONE, Processes
from experiments.engine.task import Mean, Share
from experiments.translation.corpora import made
from experiments.translation.store import TokenPairs
from experiments.translation.subwords import PAD
from experiments.translation.transformer import Transformer
from experiments.translation.translation import Translation

CPU = torch.device("cpu")
CORPUS = made(None)
SIZE = CORPUS.subwords.size


def small_model(seed: int = 0, **given) -> Transformer:
    torch.manual_seed(seed)
    sizes = {"width": 16, "layers": 1, "heads": 2, "hidden": 32, "dropout": 0.0, "attention_dropout": 0.0}
    return Transformer(SIZE, **{**sizes, "relu_dropout": 0.0, **given})


def small_task(model: Transformer | None = None, corpus=None, **given) -> Translation:
    values = {"batch_size": 256, "worker_tokens": 64, "row_tokens": 32, "seed": 1, "vocabulary": SIZE, **given}
    model = model or small_model()
    return Translation(model, lambda _: corpus or CORPUS, device=CPU, data_dir="data", **values)


def no_tick() -> None:
    pass


def test_an_epoch_shows_every_pair_once_but_for_what_fills_no_batch():
    task = small_task()
    packing = task._packing(0)
    assert sorted(packing.pairs.tolist()) == list(range(len(CORPUS.train)))
    updates = list(task.updates(0))
    assert len(updates) == task.steps(0) == len(packing) // 8
    shown = sum(update.size for update in updates)
    assert shown == sum(int((part.targets != PAD).sum()) for update in updates for part in update.parts)
    assert shown > 0.95 * len(CORPUS.train.target) - 256


def test_batches_follow_from_seed_and_epoch_and_a_resumed_run_sees_the_same():
    task = small_task()
    first = [part.inputs for update in task.updates(0) for part in update.parts]
    assert all(
        torch.equal(a, b) for a, b in zip(first, (u.parts[0].inputs for u in small_task().updates(0)), strict=True)
    )
    later = next(task.updates(0, start=3)).parts[0]
    assert torch.equal(later.inputs, first[3])
    assert not torch.equal(next(task.updates(1)).parts[0].inputs, first[0])
    assert not torch.equal(next(small_task(seed=2).updates(0)).parts[0].inputs, first[0])
    assert {tuple(part.shape) for part in first} == {(8, 6, 32)}


@pytest.mark.parametrize(("ranks", "micro"), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 1), (4, 1), (6, 1)])
def test_passes_and_processes_share_out_the_workers(ranks, micro):
    task = small_task()
    whole = next(task.updates(0))
    parts = [next(task.updates(0, 0, Share(rank, ranks, micro))) for rank in range(ranks)]
    assert {(update.weight, update.size) for update in parts} == {(whole.weight, whole.size)} == {(4.0, whole.size)}
    passed = [part for update in parts for part in update.parts if part.weight]
    assert torch.equal(torch.cat([part.inputs for part in passed]), whole.parts[0].inputs)
    assert sum(part.weight for part in passed) == 4
    assert all(update.parts for update in parts)  # a process without a worker passes something too


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_gradients_are_those_of_the_mean_over_workers_in_any_number_of_passes(micro):
    model = small_model().double()
    task = small_task(model)
    update = next(task.updates(0, 0, Share(micro=micro)))
    for part in update.parts:
        (task.loss(model, part) * part.weight / update.weight).backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    whole = next(task.updates(0)).parts[0]
    logits = model(whole.inputs).view(4, -1, SIZE)
    means = []
    for of_worker, targets in zip(logits, whole.targets.view(4, -1), strict=True):
        shown = targets != PAD
        log_chances = of_worker[shown].log_softmax(-1)
        labels = torch.full_like(log_chances, 0.1 / (SIZE - 1)).scatter(1, targets[shown, None], 0.9)
        least = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1 / (SIZE - 1)))
        means.append(-(labels * log_chances).sum(1).mean() - least)
    torch.stack(means).mean().backward()
    for own, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(own, parameter.grad, rtol=1e-4, atol=1e-8)  # logits are float32


def of_pairs(data: TokenPairs, first: int, last: int) -> TokenPairs:
    """Return pairs `first` to `last` of a split."""
    sources = [data.source[data.source_starts[i] : data.source_starts[i + 1]].tolist() for i in range(first, last)]
    targets = [data.target[data.target_starts[i] : data.target_starts[i + 1]].tolist() for i in range(first, last)]
    return TokenPairs.of(sources, targets)


def evaluated(model: Transformer, pairs: TokenPairs) -> Mean:
    task = small_task(model, dataclasses.replace(CORPUS, val=pairs))
    return task.evaluate(model, "val", Share(), ALONE, no_tick)["val/loss"]


def test_an_evaluation_is_the_mean_over_all_tokens_without_smoothing_or_dropout():
    model = small_model(dropout=0.5).double().train()
    together = evaluated(model, of_pairs(CORPUS.val, 0, 20))
    assert model.training
    alone = [evaluated(model, of_pairs(CORPUS.val, number, number + 1)) for number in range(20)]  # each in a row
    assert together.total == pytest.approx(sum(mean.total for mean in alone), rel=1e-9)
    assert together.count == sum(mean.count for mean in alone) == CORPUS.val.target_starts[20]
    batch = next(small_task(model).updates(0)).parts[0]
    logits = model.eval()(batch.inputs)
    plain = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=PAD)
    weights = (batch.targets != PAD).double()
    found = model(batch.inputs, batch.targets, weights / weights.sum(), 0.0)
    torch.testing.assert_close(found, plain, rtol=1e-9, atol=0, check_dtype=False)


def test_losses_are_shared_out_over_processes():
    model = small_model().double()
    task = small_task(model)
    whole = task.evaluate(model, "val", Share(), ALONE, no_tick)["val/loss"]
    shared = [task.evaluate(model, "val", Share(rank, 3), ALONE, no_tick)["val/loss"] for rank in range(3)]
    assert sum(mean.total for mean in shared) == pytest.approx(whole.total, rel=1e-9)
    assert sum(mean.count for mean in shared) == whole.count


def test_pairs_longer_than_a_row_are_left_out_of_the_loss_and_counted():
    long = type(CORPUS.val).of([[5] * 40 + [2], [6, 2]], [[7, 2], [8, 2]])
    task = small_task(corpus=dataclasses.replace(CORPUS, val=long))
    assert task.evaluate(task.model, "val", Share(), ALONE, no_tick)["val/loss"].count == 2
    assert task.data_summary()["val pairs left out of its loss"] == 1


def test_bleu_is_of_all_sentences_in_their_order(monkeypatch):
    """Translations by a stand-in that knows them, on one process and on three."""
    known = dict(zip(CORPUS.sources["val"], CORPUS.references["val"], strict=True))
    monkeypatch.setattr(
        "experiments.translation.translation.translate",
        lambda model, subwords, lines, device, beam, penalty, tick: [known[line] for line in lines],
    )
    task = small_task()
    assert task.evaluate(task.model, "val_bleu", Share(), ALONE, no_tick) == {
        "val/bleu": pytest.approx(100.0),
        "val/bleu_intl": pytest.approx(100.0),
    }

    class Three(Processes):
        def gather(self, value):
            return [[known[line] for line in CORPUS.sources["val"][rank::3]] for rank in range(3)]

    found = task.evaluate(task.model, "val_bleu", Share(1, 3), Three(1, 3), no_tick)
    assert found["val/bleu"] == pytest.approx(100.0)


def test_an_unknown_split_is_named():
    task = small_task()
    with pytest.raises(ValueError, match=r"^evaluation.splits: there is no dev; choose from train, val, test"):
        task.evaluate(task.model, "dev", Share(), ALONE, no_tick)


def test_perplexity_follows_from_the_loss():
    assert small_task().derive({"val/loss": math.log(7), "val/bleu": 3.0}) == {"val/perplexity": pytest.approx(7.0)}


def test_weights_of_other_subwords_are_refused():
    task = small_task()
    state = task.state_dict()
    task.load_state_dict([state, state])
    with pytest.raises(ValueError, match=r"^the run was trained with the subwords 12345678, and the corpus has "):
        task.load_state_dict([state, {"subwords": "12345678"}])


def test_a_summary_names_the_data_the_subwords_and_bleu_s_signatures():
    summary = small_task().data_summary()
    assert summary["digest of the subwords"] == CORPUS.subwords.digest
    assert summary["train pairs"] == len(CORPUS.train)
    assert "tok:13a" in summary["signature of bleu"]
    assert "tok:intl" in summary["signature of bleu_intl"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"batch_size": 0}, "batch_size=0 is not possible; give a whole number of at least 1"),
        ({"batch_size": 100}, "batch_size=100 is not possible; give a multiple of task.worker_tokens, which is 64"),
        (
            {"worker_tokens": 48, "batch_size": 96},
            "task.worker_tokens=48 is not possible; give a multiple of task",
        ),
        ({"row_tokens": 1}, "task.row_tokens=1 is not possible; give a whole number of at least 2"),
        ({"smoothing": 1.0}, "task.smoothing=1.0 is not possible; give a number of at least 0, below 1"),
        ({"length_penalty": -1}, "task.length_penalty=-1 is not possible; give a number of at least 0$"),
        ({"beam": 0}, "task.beam=0 is not possible"),
        ({"beam": True}, "task.beam=True is not possible"),
        ({"model_vocabulary": 7}, f"model.vocabulary=7, but the task has {SIZE} subwords"),
        ({"vocabulary": 97}, f"task.vocabulary=97, but the corpus has {SIZE} subwords; give that number"),
        ({"batch_size": 2**20}, "batch_size=1048576 is too large for the .* pairs of train, which fill .* rows of 32"),
    ],
)
def test_values_out_of_range_are_named(given, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        small_task(**given)


def test_the_smallest_values_are_possible():
    model = small_model()
    usual, smallest = small_task(model), small_task(model, seed=0, beam=1, smoothing=0, length_penalty=0)
    losses = [task.evaluate(model, "val", Share(), ALONE, no_tick)["val/loss"] for task in (usual, smallest)]
    assert losses[0].total == losses[1].total > 0  # of which none of them says anything


def test_values_are_checked_before_a_corpus_is_asked_for():
    def never(_):
        raise AssertionError

    with pytest.raises(ValueError, match=r"^task.beam=0"):
        Translation(
            small_model(),
            never,
            vocabulary=SIZE,
            batch_size=256,
            worker_tokens=64,
            row_tokens=32,
            seed=1,
            device=CPU,
            data_dir="data",
            beam=0,
        )
    with pytest.raises(ValueError, match=r"^task.corpus=None is not possible"):
        Translation(
            small_model(),
            None,
            vocabulary=SIZE,
            batch_size=256,
            worker_tokens=64,
            row_tokens=32,
            seed=1,
            device=CPU,
            data_dir="data",
        )
