"""Evaluations of the task by itself, and the perplexities that it makes of them."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from experiments.engine.processes import ALONE
from experiments.engine.task import Share
from experiments.language_modeling.batching import evaluation_chunks
from experiments.language_modeling.penn_treebank import PennTreebank
from tests.helpers.small_treebank import task_of, text


def in_one_pass(task: PennTreebank, split: str, columns: int) -> tuple[float, int]:
    """Return the sum of cross entropies of a split in one pass over all its rows, and the number of targets."""
    tokens = getattr(text(None), split)
    rows = len(tokens) // columns
    data = tokens[: rows * columns].view(columns, rows).t()
    task.model.eval()
    with torch.no_grad():
        logits = task.model(data[:-1], task.model.start(columns)).logits.double()
    task.model.train()
    losses = F.cross_entropy(logits.flatten(0, 1), data[1:].flatten(), reduction="sum")
    return losses.item(), data[1:].numel()


@pytest.mark.parametrize(("split", "columns"), [("train", 7), ("val", 4), ("test", 1)])
def test_an_evaluation_in_chunks_is_one_pass_over_all_rows_without_dropout(split, columns):
    task = task_of(dropout=True)
    task.model.train()
    ticks = []
    found = task.evaluate(task.model, split, Share(), ALONE, lambda: ticks.append(1))
    assert task.model.training
    total, count = in_one_pass(task, split, columns)
    mean = found[f"{split}/loss"]
    assert mean.count == count
    assert mean.total == pytest.approx(total, rel=1e-6)
    assert found == task.evaluate(task.model, split, Share(), ALONE, lambda: None)
    assert len(ticks) == len(evaluation_chunks(count // columns + 1, 9))
    shared = [task.evaluate(task.model, split, Share(rank, 3), ALONE, lambda: None) for rank in range(3)]
    assert sum(part[f"{split}/loss"].count for part in shared) == count  # of one column two processes have nothing
    assert sum(part[f"{split}/loss"].total for part in shared) == pytest.approx(total, rel=1e-6)


def test_an_evaluation_leaves_what_is_carried_and_its_mode_when_interrupted():
    task = task_of(dropout=True)
    for update in list(task.updates(0))[:2]:
        task.loss(task.model, update.parts[0])
    before = copy.deepcopy(task.state_dict())

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        task.evaluate(task.model, "val", Share(), ALONE, interrupted)
    assert task.model.training
    after = task.state_dict()
    assert before["batch"] == after["batch"]
    assert all(
        torch.equal(a, b)
        for x, y in zip(before["hidden"][0], after["hidden"][0], strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_perplexities_are_exact_and_as_the_original_divides():
    task = task_of()
    total, count = in_one_pass(task, "val", 4)
    rows = 90 // 4
    derived = task.derive({"val/loss": total / count})
    assert derived["val/perplexity"] == pytest.approx(math.exp(total / count))
    # The original: the sum over chunks of len * mean loss, over the number of rows.
    assert derived["val/original_perplexity"] == pytest.approx(math.exp(total / 4 / rows))
    assert derived["val/original_perplexity"] < derived["val/perplexity"]
    assert set(derived) == {"val/perplexity", "val/original_perplexity"}
    assert task.derive({"test/loss": 1e4})["test/perplexity"] == math.inf
    assert task.derive({"val/other": 1.0}) == {}


def test_splits_that_there_are_not_and_a_training_pass_that_is_not_wanted():
    task = task_of(train_pass="none")
    assert task.evaluate(task.model, "train", Share(), ALONE, lambda: None) == {}
    assert "val/loss" in task.evaluate(task.model, "val", Share(), ALONE, lambda: None)
    with pytest.raises(ValueError, match=r"evaluation\.splits: there is no dev; choose from train, val, test"):
        task.evaluate(task.model, "dev", Share(), ALONE, lambda: None)
    with pytest.raises(ValueError, match="no batch norm"):
        next(iter(task.batch_norm_inputs()))
