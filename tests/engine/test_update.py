"""One update by hand: gradients of pieces and processes, what is reported, and what an optimizer may ask for again."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from experiments.engine.processes import ALONE
from experiments.engine.task import Batch, Loss, Mean, Update
from experiments.engine.update import Updater, scaled_learning_rate

CPU = torch.device("cpu")


class Line(nn.Module):
    """One weight, which multiplies the inputs; and another one that nothing uses."""

    def __init__(self):
        super().__init__()
        self.weight, self.unused = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.weight * x


class Task:
    """Mean of the outputs, so that the gradient is the mean of the inputs; draws, and counts what it carries."""

    def __init__(self, reported=None):
        self.model, self.reported, self.carried, self.drawn, self.found = Line(), reported, [0], [], []

    def loss(self, model, batch):
        self.found.append(list(self.carried))
        self.carried.append(len(self.carried))
        self.drawn.append(torch.rand(()).item())
        objective = model(batch.inputs).mean()
        return objective if self.reported is None else Loss(objective, self.reported(batch))

    def state_dict(self):
        return {"carried": self.carried}

    def load_state_dict(self, states):
        (state,) = states
        self.carried = state["carried"]


def updater(task, processes=ALONE, clip=None, fixed=False, optimizer=None, first_pass_counts=False, **wrapped):
    optimizer = optimizer or torch.optim.SGD(task.model.parameters(), lr=0.5, weight_decay=0.0)
    parts = SimpleNamespace(
        task=task, optimizer=optimizer, trained=task.model, uncompiled=task.model, captured=False, local=False
    )
    vars(parts).update(wrapped)
    return Updater(parts, CPU, processes, "fp32", clip, fixed, first_pass_counts)


def batch(*values):
    return Batch(torch.tensor(values), None, size=len(values), weight=float(len(values)))


WHOLE = Update([batch(2.0, 4.0, 9.0, 1.0)], weight=4.0, size=4)
PIECES = Update([batch(2.0, 4.0, 9.0), batch(1.0)], weight=4.0, size=4)


@pytest.mark.parametrize("update", [WHOLE, PIECES])
def test_pieces_give_the_gradient_and_the_loss_of_the_whole(update):
    task = Task()
    take = updater(task)
    take.gradients(update)
    assert task.model.weight.grad.item() == 4.0  # (2 + 4 + 9 + 1) / 4
    assert task.model.unused.grad is None  # with zeros, a weight decay would move it
    assert (take.loss_sum.item(), take.weight_sum) == (16.0, 4.0)
    take.gradients(update)  # what was there before does not count
    assert task.model.weight.grad.item() == 4.0
    assert (take.loss_sum.item(), take.weight_sum) == (32.0, 8.0)
    assert take.loss_sum.dtype == torch.float64
    take.restart()
    assert (take.loss_sum.item(), take.weight_sum) == (0.0, 0.0)


@pytest.mark.parametrize(("first_pass_counts", "expected"), [(True, 0.1 * 3), (False, 0.9 * (0.1 * 3) + 0.1 * 15)])
def test_running_statistics_are_of_the_first_pass_alone_where_that_counts(first_pass_counts, expected):
    task = Task()
    norm, other = nn.BatchNorm1d(1), nn.BatchNorm1d(1, track_running_stats=False)
    task.model = nn.Sequential(norm, other)
    pieces = [batch(2.0, 4.0), batch(10.0, 20.0)]
    pieces = [Batch(piece.inputs[:, None], None, piece.size, piece.weight) for piece in pieces]
    updater(task, first_pass_counts=first_pass_counts).gradients(Update(pieces, weight=4.0, size=4))
    assert norm.running_mean.item() == pytest.approx(expected)
    assert norm.num_batches_tracked.item() == (1 if first_pass_counts else 2)
    assert (norm.track_running_stats, other.track_running_stats) == (True, False)


def test_gradients_are_dropped_and_not_zeroed_around_an_update():
    task = Task()
    take = updater(task)
    for p in task.model.parameters():
        p.grad = torch.tensor(100.0)
    take.gradients(WHOLE)
    assert (task.model.weight.grad.item(), task.model.unused.grad) == (4.0, None)
    take(WHOLE)
    assert task.model.weight.item() == 1 - 0.5 * 4
    assert [p.grad for p in task.model.parameters()] == [None, None]


def test_a_rate_of_its_own_is_for_one_update():
    task = Task()
    take = updater(task)
    take(Update(WHOLE.parts, weight=4.0, size=4, lr_scale=0.25))
    assert task.model.weight.item() == 1 - 0.5 * 0.25 * 4
    assert take.parts.optimizer.param_groups[0]["lr"] == 0.5
    take(WHOLE)
    assert task.model.weight.item() == 1 - 0.5 * 1.25 * 4


def test_every_group_s_rate_is_scaled_and_put_back_bit_by_bit():
    parameters = [nn.Parameter(torch.zeros(())) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [p], "lr": lr} for p, lr in zip(parameters, (0.1, 0.3), strict=True)])
    with scaled_learning_rate(optimizer, 3.0):
        assert [group["lr"] for group in optimizer.param_groups] == [0.1 * 3.0, 0.3 * 3.0]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.3]
    with scaled_learning_rate(optimizer, 1.0):
        optimizer.param_groups[0]["lr"] = 0.2
    assert optimizer.param_groups[0]["lr"] == 0.2  # a scale of 1 touches nothing


@pytest.mark.parametrize(("clip", "expected"), [(None, 4.0), (5.0, 4.0), (2.0, 2.0)])
def test_the_gradient_of_the_whole_batch_is_clipped(clip, expected):
    task = Task()
    updater(task, clip=clip).gradients(PIECES)  # of the pieces alone 5 / 4 * 3 and 1 / 4
    assert task.model.weight.grad.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["tensor", "number"])
def test_what_a_task_reports_is_summed_in_the_place_of_what_is_differentiated(kind):
    def reported(part):
        total = part.inputs.sum() * 10
        return Mean(total.requires_grad_() if kind == "tensor" else total.item(), part.size * 2)

    task = Task(reported)
    take = updater(task)
    take(PIECES)
    assert (take.loss_sum.item(), take.weight_sum) == (160.0, 8.0)
    assert not take.loss_sum.requires_grad
    task = Task(lambda part: None)
    take = updater(task)
    take(PIECES)
    assert (take.loss_sum.item(), take.weight_sum) == (16.0, 4.0)


class Wrapped:
    """Stands for DDP: notes which passes do not sum gradients."""

    def __init__(self, model):
        self.model, self.summed, self.silent = model, [], False

    def __call__(self, x):
        self.summed.append(not self.silent)
        return self.model(x)

    @contextlib.contextmanager
    def no_sync(self):
        self.silent = True
        yield
        self.silent = False


def test_several_processes_sum_gradients_in_the_last_pass_alone_as_a_mean():
    task = Task()
    wrapped = Wrapped(task.model)
    take = updater(task, SimpleNamespace(alone=False, count=3), trained=wrapped, uncompiled=wrapped)
    take.gradients(Update([batch(3.0), batch(6.0), batch(9.0)], weight=9.0, size=9))
    assert wrapped.summed == [False, False, True]
    # This process's share of the mean, times the three of which the others take the mean.
    assert task.model.weight.grad.item() == pytest.approx((3 + 6 + 9) / 9 * 3)
    alone = Wrapped(task.model)
    updater(task, trained=alone, uncompiled=alone).gradients(PIECES)
    assert alone.summed == [True, True]


def test_where_one_size_is_compiled_a_smaller_batch_goes_through_the_plain_model():
    task, sizes = Task(), {"compiled": [], "plain": []}

    def noting(name):
        return lambda x: sizes[name].append(len(x)) or task.model(x)

    for fixed, compiled, plain in ((True, [2, 2, 3], [1]), (False, [2, 1, 2, 3], [])):
        sizes["compiled"].clear(), sizes["plain"].clear()
        take = updater(task, fixed=fixed, trained=noting("compiled"), uncompiled=noting("plain"))
        for values in ((1.0, 1.0), (1.0,), (1.0, 1.0), (1.0, 1.0, 1.0)):
            take(Update([batch(*values)], weight=float(len(values)), size=len(values)))
        assert sizes == {"compiled": compiled, "plain": plain}
    one = updater(task, fixed=True, trained=noting("compiled"), uncompiled=noting("plain"))
    sizes["compiled"].clear()
    one(Update([batch(1.0)], weight=1.0, size=1))
    assert sizes["compiled"] == [1]  # the first size that comes is the one that is compiled


class AskingTwice(torch.optim.SGD):
    """Calls its closure at two weights, as an adaptive alpha of fresh gradients does."""

    needs_closure = True

    def step(self, closure):
        weight = self.param_groups[0]["params"][0]
        self.seen = []
        for value in (1.0, 2.0):
            weight.data.fill_(value)
            self.seen.append((closure().item(), weight.grad.item()))


@pytest.mark.parametrize("update", [WHOLE, PIECES])
def test_a_closure_may_be_called_again_and_counts_draws_and_carries_once(update):
    task = Task()
    optimizer = AskingTwice(task.model.parameters(), lr=0.5)
    take = updater(task, optimizer=optimizer)
    torch.manual_seed(0)
    take(update)
    after = torch.rand(()).item()
    passes = len(update.parts)
    # The loss is the weight times 4, the mean of the inputs; its gradient is that mean.
    assert optimizer.seen == [(4.0, 4.0), (8.0, 4.0)]
    assert (take.loss_sum.item(), take.weight_sum) == (16.0, 4.0)
    assert task.carried == list(range(passes + 1))
    assert task.found[passes:] == task.found[:passes]  # each call begins with the same state
    torch.manual_seed(0)
    expected = [torch.rand(()).item() for _ in range(passes + 1)]
    assert task.drawn == expected[:-1] * 2
    assert after == expected[-1]
    assert task.model.weight.grad is None


def test_the_loss_that_a_closure_returns_is_not_attached_to_the_graph():
    task = Task()
    take = updater(task, optimizer=AskingTwice(task.model.parameters(), lr=0.5))
    loss = take.gradients(PIECES)
    assert (loss.item(), loss.requires_grad) == (4.0, False)
    assert updater(Task()).gradients(PIECES) == 0.0  # nobody wants it


def test_bf16_is_asked_for_the_forward_pass_alone():
    task, seen = Task(), []
    take = updater(task)
    take.precision = "bf16"
    hook = task.model.weight.register_hook(lambda gradient: seen.append(torch.is_autocast_enabled("cpu")))
    inner = task.loss
    task.loss = lambda model, part: seen.append(torch.is_autocast_enabled("cpu")) or inner(model, part)
    take.gradients(WHOLE)
    hook.remove()
    assert seen == [True, False]
