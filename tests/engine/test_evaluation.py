"""Evaluations by hand: which weights they hold, what they put back, how processes add up, and which are the best."""

from __future__ import annotations

import contextlib
import copy
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from experiments.engine.errors import ConfigurationError
from experiments.engine.evaluation import Best, autocast, evaluated_weights, measure, undisturbed
from experiments.engine.processes import ALONE
from experiments.engine.task import Mean, Share
from lookahead import Lookahead

CPU = torch.device("cpu")


class Carrying:
    """A task with batch norm and dropout, which counts its passes and carries a list."""

    def __init__(self):
        self.model = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2), nn.Dropout())
        self.carried, self.evaluated, self.put_back = [0], [], []

    def batch_norm_inputs(self):
        yield from (torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]]))

    def evaluate(self, model, split, share, processes, tick):
        if split == "none":
            raise ValueError("there is no split none")
        self.evaluated.append((model, split, share, processes, tick))
        return {f"{split}/loss": Mean(torch.tensor(6.0), 4), f"{split}/best": torch.tensor(2.0)}

    def derive(self, metrics):
        return {"derived": sum(metrics.values())}

    def state_dict(self):
        return {"carried": self.carried} if self.carried else {}

    def load_state_dict(self, states):
        self.put_back.append(copy.deepcopy(states))
        self.carried = states[0]["carried"]


class Everyone:
    """Several processes of which the others say what the first one says, and `others` more."""

    def __init__(self, *others):
        self.alone, self.others = False, list(others)

    def gather(self, value):
        return [value, *(self.others or [value])]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_bf16_alone_computes_in_another_type(precision):
    with autocast(precision, CPU):
        assert torch.mm(torch.ones(1, 1), torch.ones(1, 1)).dtype == (
            torch.bfloat16 if precision == "bf16" else torch.float32
        )
        assert torch.is_autocast_enabled("cpu") == (precision == "bf16")


class Averaged:
    """Stands for a weight average: notes with which batches it was asked."""

    def __init__(self, has_mean, wants_reestimated):
        self.mean, self.has_mean, self.wants_reestimated, self.asked = self, has_mean, wants_reestimated, []

    @contextlib.contextmanager
    def averaged_weights(self, batches):
        self.asked.append(None if batches is None else [batch.flatten().tolist() for batch in batches])
        yield


INPUTS = [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("wants", "batch_norm", "expected"),
    [
        (True, None, INPUTS),
        (False, None, None),
        (True, "kept", None),
        (False, "reestimated", INPUTS),
    ],
)
def test_an_average_is_evaluated_once_there_is_one_with_the_statistics_that_are_asked_for(wants, batch_norm, expected):
    average, ticks = Averaged(True, wants), []
    parts = SimpleNamespace(task=Carrying(), average=average, optimizer=None)
    with evaluated_weights(parts, batch_norm, lambda: ticks.append(1)) as which:
        assert which == "averaged"
    assert average.asked == [expected]
    assert len(ticks) == len(expected or [])  # one before each batch
    parts.average = Averaged(False, wants)
    with evaluated_weights(parts, batch_norm) as which:
        assert which == "weights"
    assert parts.average.asked == []


@pytest.mark.parametrize(("batch_norm", "passes"), [(None, 0), ("kept", 0), ("reestimated", 2)])
def test_slow_weights_keep_their_statistics_unless_asked(batch_norm, passes):
    torch.manual_seed(0)
    task, ticks = Carrying(), []
    weight, norm = task.model[0].weight, task.model[1]
    optimizer = Lookahead(torch.optim.SGD(task.model.parameters(), lr=1.0), k=5)
    slow = weight.detach().clone()
    for p in task.model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    fast, mean = weight.detach().clone(), norm.running_mean.clone()
    parts = SimpleNamespace(task=task, average=Averaged(False, True), optimizer=optimizer)
    with evaluated_weights(parts, batch_norm, lambda: ticks.append(1)) as which:
        assert which == "slow"
        assert torch.equal(weight, slow)
        assert torch.equal(norm.running_mean, mean) == (passes == 0)
    assert torch.equal(weight, fast)
    assert len(ticks) == passes


def test_an_interruption_comes_before_a_batch_of_the_statistics():
    parts = SimpleNamespace(task=Carrying(), average=Averaged(True, True), optimizer=None)

    def tick():
        raise InterruptedError

    with pytest.raises(InterruptedError), evaluated_weights(parts, None, tick):
        raise AssertionError


def test_metrics_are_plain_numbers_of_each_split_and_what_follows_from_them():
    task = Carrying()
    parts = SimpleNamespace(task=task, forward="the model")
    found = measure(parts, ["train", "val"])
    expected = {"train/loss": 1.5, "train/best": 2.0, "val/loss": 1.5, "val/best": 2.0}
    assert found == {**expected, "derived": 7.0}
    assert {type(value) for value in found.values()} == {float}
    assert [asked[:4] for asked in task.evaluated] == [
        ("the model", split, Share(), ALONE) for split in ("train", "val")
    ]
    assert task.evaluated[0][4]() is None
    share, tick = Share(1, 2), lambda: None
    others = Everyone({"val/loss": (2.0, 12.0), "val/best": 9.0})
    found = measure(parts, ["val"], share, others, tick)
    assert found == {"val/loss": 0.5, "val/best": 2.0, "derived": 2.5}  # (6 + 2) / (4 + 12), and the first one's
    assert task.evaluated[-1] == ("the model", "val", share, others, tick)
    with pytest.raises(ConfigurationError, match=r"^there is no split none$"):
        measure(parts, ["val", "none"])


def test_a_mean_of_nothing_is_not_a_number():
    task = Carrying()
    task.evaluate = lambda *_: {"val/loss": Mean(0.0, 0)}
    task.derive = lambda metrics: {}
    assert math.isnan(measure(SimpleNamespace(task=task, forward=None), ["val"])["val/loss"])


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()


def disturb(task):
    task.model.eval()
    task.model[1].train()
    task.model[1](torch.randn(4, 2))
    task.carried.append(1)
    draws()


def test_nothing_that_a_pass_moves_stays_moved(monkeypatch):
    task, cleared = Carrying(), []
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: cleared.append(1))
    task.model[2].eval()
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    modes = [module.training for module in task.model.modules()]
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = draws()
    for error in (None, KeyError):
        random.seed(3), np.random.seed(3), torch.manual_seed(3)
        cleared.clear()
        with contextlib.suppress(KeyError), undisturbed(task):
            assert cleared == [1]
            disturb(task)
            if error:
                raise error
        assert cleared == [1, 1]
        assert draws() == expected
        assert [module.training for module in task.model.modules()] == modes == [True, True, True, False]
        assert all(torch.equal(before[name], tensor) for name, tensor in task.model.state_dict().items())
        assert task.carried == [0]
    assert task.put_back == [[{"carried": [0]}]] * 2


def test_of_several_processes_what_is_carried_is_put_back_where_all_come_to_the_end():
    task = Carrying()
    everyone = Everyone()
    with undisturbed(task, everyone):
        disturb(task)
    assert task.put_back == [[{"carried": [0]}] * 2]
    with contextlib.suppress(KeyError), undisturbed(task, everyone):
        disturb(task)
        raise KeyError
    assert len(task.put_back) == 1  # else this process would wait for the others
    task.carried = []
    with undisturbed(task):
        pass
    assert len(task.put_back) == 1  # a task that carries nothing gets nothing


@pytest.mark.parametrize(("mode", "best"), [("min", [3.0, 2.0, 1.0]), ("max", [3.0, 5.0])])
def test_the_best_is_strictly_better_than_all_before(mode, best):
    model, found = nn.Linear(1, 1), Best("val/loss", mode)
    kept = []
    for epoch, loss in enumerate([math.nan, 3.0, 3.0, 2.0, math.nan, 2.0, 5.0, 1.0]):
        metrics = {"val/loss": loss, "val/accuracy": 1.0}
        if found.better(metrics):
            found.keep(metrics, model, epoch=epoch, step=7 * epoch)
            kept.append(loss)
    assert kept == best
    assert found.row == {"epoch": 7, "step": 49, "val/loss": 1.0, "val/accuracy": 1.0} or mode == "max"
    resumed = Best("val/loss", mode)
    resumed.load_state_dict(found.state_dict())
    assert (resumed.value, resumed.row) == (found.value, found.row)
    assert resumed.weights is found.weights
    assert not resumed.better({"val/loss": best[-1]})


def test_without_a_metric_nothing_is_the_best_and_one_that_is_not_measured_is_named():
    assert not Best().better({"val/loss": 1.0})
    assert Best().weights is None
    assert Best("val/loss").better({"val/loss": 1e300})  # the least by default
    with pytest.raises(ConfigurationError, match=r"keep\.metric=val/los is not measured; did you mean val/loss"):
        Best("val/los").better({"val/loss": 1.0, "val/accuracy": 1.0})


def test_the_best_weights_are_a_copy_and_are_held_inside_the_context_alone():
    model, best = nn.BatchNorm1d(1), Best("loss")
    model.weight.data.fill_(2.0)
    best.keep({"loss": 1.0}, model)
    model.weight.data.fill_(3.0)
    model.running_mean.fill_(4.0)
    for error in (None, KeyError):
        with contextlib.suppress(KeyError), best.held(model) as which:
            assert (which, model.weight.item(), model.running_mean.item()) == ("best", 2.0, 0.0)
            if error:
                raise error
        assert (model.weight.item(), model.running_mean.item()) == (3.0, 4.0)
    assert not best.weights["weight"].requires_grad
