"""Passes that are captured as one CUDA graph: here a graph is stood for by doing its work again in the same memory."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from experiments.engine import captured
from experiments.engine.captured import CapturedPass, may_capture, mode_within
from experiments.engine.errors import ConfigurationError
from experiments.engine.processes import ALONE
from experiments.engine.task import Batch, Loss, Mean, Update
from experiments.engine.update import Updater

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Recorder:
    """Stands for `record`: a replay does the work again, and writes what it finds over what the first one found."""

    def __init__(self, parameters):
        self.parameters, self.recorded, self.replayed = parameters, 0, 0

    def __call__(self, work, reset):
        for _ in range(2):
            reset()
            found = work()
        self.recorded += 1
        gradients = [p.grad for p in self.parameters]

        def replay():
            self.replayed += 1
            kept = [p.grad for p in self.parameters]
            reset()
            again = work()
            with torch.no_grad():
                for own, p in zip(gradients, self.parameters, strict=True):
                    if own is not None:
                        own.copy_(p.grad)
                found.objective.copy_(again.objective)
                if found.reported is not None:
                    found.reported.total.copy_(again.reported.total)
            for p, gradient in zip(self.parameters, kept, strict=True):
                p.grad = gradient

        return replay, found


class Task:
    """Cross entropy of a small network with batch norm, dropout and a weight that nothing uses."""

    capturable = True

    def __init__(self, device=CPU, reports=False, dropout=0.5):
        torch.manual_seed(0)
        layers = (nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 4))
        self.model, self.reports = nn.Sequential(*layers).to(device), reports
        self.model.unused = nn.Parameter(torch.ones(2, device=device))

    def loss(self, model, batch):
        loss = nn.functional.cross_entropy(model(batch.inputs), batch.targets)
        return Loss(2 * loss, Mean(loss.detach() * batch.weight, batch.weight)) if self.reports else loss

    def state_dict(self):
        return {}


def batches(sizes, device=CPU):
    generator = torch.Generator().manual_seed(1)
    for size in sizes:
        inputs = torch.randn(size, 3, generator=generator).to(device)
        targets = torch.randint(0, 4, (size,), generator=generator).to(device)
        yield Batch(inputs, targets, size, float(size))


def updates(sizes, device=CPU):
    return [Update([batch], batch.weight, batch.size) for batch in batches(sizes, device)]


def trained(task, given, captures, device=CPU, **more):
    """Take updates; return the updater, and what depends on them: weights, buffers, the sum of losses, a draw."""
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1, momentum=0.9)
    options = {"trained": task.model, "uncompiled": task.model, "captured": captures, "local": False} | more
    take = Updater(SimpleNamespace(task=task, optimizer=optimizer, **options), device, ALONE, "fp32", 0.5, True)
    torch.manual_seed(5)
    for update in given:
        take(update)
    draw = torch.rand((), device=device)
    return take, [*task.model.state_dict().values(), take.loss_sum, torch.tensor(take.weight_sum), draw]


@pytest.fixture
def recorder(monkeypatch):
    """Have a task's parts of a pass recorded on the CPU."""

    def of(task):
        made = Recorder(list(task.model.parameters()))
        monkeypatch.setattr(captured, "record", made)
        return made

    return of


@pytest.mark.parametrize("reports", [False, True])
def test_captured_updates_are_those_of_plain_passes_to_the_bit(recorder, reports):
    given = updates([6, 6, 6, 2, 6])
    _, expected = trained(Task(reports=reports), given, False)
    task = Task(reports=reports)
    made = recorder(task)
    _, found = trained(task, given, True)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert (made.recorded, made.replayed) == (1, 4)  # the smaller batch is not captured
    assert task.model.unused.grad is None


def test_another_shape_is_captured_anew_and_a_smaller_one_and_pieces_are_not(recorder):
    task = Task()
    made = recorder(task)
    pieces = list(batches([3, 3]))
    given = [*updates([2, 4, 3, 4]), Update(pieces, 6.0, 6), *updates([4])]
    seen = []
    trained(task, given, True, uncompiled=lambda x: seen.append(len(x)) or task.model(x))
    assert (made.recorded, made.replayed) == (2, 4)  # of 2, and of 4 three times
    assert seen == [3, 3, 3]


def test_capturing_moves_nothing_and_keeps_no_batch_of_the_caller(recorder):
    task = Task()
    recorder(task)
    (first, second), take = batches([4, 4]), lambda batch: backward(task, batch)
    before = [value.clone() for value in task.model.state_dict().values()]
    draws = torch.get_rng_state()
    made = CapturedPass(take, task, list(task.model.parameters()), first)
    assert all(torch.equal(a, b) for a, b in zip(task.model.state_dict().values(), before, strict=True))
    assert torch.equal(torch.get_rng_state(), draws)
    own = made.batch.inputs
    kept = first.inputs.clone()
    made(second)
    assert torch.equal(own, second.inputs)
    assert torch.equal(made.batch.targets, second.targets)
    assert torch.equal(first.inputs, kept)


def backward(task, batch):
    loss = task.loss(task.model, batch)
    loss.backward()
    return Loss(loss.detach())


def test_gradients_lie_in_the_same_memory_at_each_call(recorder):
    task = Task(dropout=0.0)
    recorder(task)
    parameters = list(task.model.parameters())
    first, second = batches([4, 4])
    made = CapturedPass(lambda batch: backward(task, batch), task, parameters, first)
    made(first)
    kept = [p.grad for p in parameters]
    values = task.model[0].weight.grad.clone()
    task.model.zero_grad(set_to_none=True)
    made(second)
    assert all(p.grad is own for p, own in zip(parameters, kept, strict=True))
    assert not torch.equal(task.model[0].weight.grad, values)


def test_a_batch_fits_that_has_the_shapes_kinds_and_weight_of_the_captured_one(recorder):
    task = Task()
    recorder(task)
    (batch,) = batches([4])
    made = CapturedPass(lambda given: backward(task, given), task, list(task.model.parameters()), batch)
    assert made.fits(next(batches([4])))
    for change in (
        {"weight": 3.0},
        {"size": 3},
        {"inputs": batch.inputs[:, :2]},
        {"inputs": batch.inputs.double()},
        {"targets": batch.targets[:3]},
        {"targets": batch.targets.int()},
    ):
        assert not made.fits(dataclasses.replace(batch, **change))


def settings(cuda_graph=True, micro_batches=1, batch_norm_images=None):
    runtime = SimpleNamespace(cuda_graph=cuda_graph, micro_batches=micro_batches)
    return SimpleNamespace(runtime=runtime, batch_norm_images=batch_norm_images)


def test_a_pass_is_captured_on_one_cuda_device_where_task_and_optimizer_allow_it():
    plain, closure = SimpleNamespace(), SimpleNamespace(needs_closure=True)
    assert may_capture(settings(), Task(), plain, CUDA, True) is True
    assert may_capture(settings(False), Task(), plain, CUDA, True) is False
    assert may_capture(OmegaConf.create({"runtime": {}}), Task(), plain, CUDA, True) is False  # of an older run
    assert may_capture(settings(), SimpleNamespace(), plain, CUDA, True) is False  # a task that does not say so
    assert may_capture(settings(), SimpleNamespace(capturable=False), plain, CUDA, True) is False
    assert may_capture(settings(), Task(), closure, CUDA, True) is False
    assert may_capture(settings(), Task(), plain, CPU, True) is False
    assert may_capture(settings(), Task(), plain, CUDA, False) is False
    assert may_capture(settings(micro_batches=2), Task(), plain, CUDA, True) is False
    assert may_capture(settings(batch_norm_images=64), Task(), plain, CUDA, True) is False


def test_what_is_captured_is_compiled_without_graphs_of_its_own():
    assert mode_within("reduce-overhead") == "default"
    assert mode_within("max-autotune") == "max-autotune-no-cudagraphs"
    assert [mode_within(mode) for mode in ("default", None)] == ["default", None]


@GPU
def test_captured_updates_on_a_gpu_are_those_of_plain_passes():
    given = updates([6, 6, 6, 2, 6, 6], CUDA)
    _, expected = trained(Task(CUDA, True, dropout=0.0), given, False, CUDA)
    take, found = trained(Task(CUDA, True, dropout=0.0), given, True, CUDA)
    assert take.captured is not None
    for one, other in zip(found[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(one, other)


@GPU
def test_each_replay_draws_masks_of_its_own_on_a_gpu():
    task = Task(CUDA)
    (batch,) = batches([32], CUDA)
    made = CapturedPass(lambda given: backward(task, given), task, list(task.model.parameters()), batch)
    assert len({made(batch).objective.item() for _ in range(4)}) == 4


@GPU
def test_a_pass_that_reads_a_value_cannot_be_captured_which_one_line_says():
    task = Task(CUDA)
    (batch,) = batches([4], CUDA)

    def reading(given):
        loss = backward(task, given)
        loss.objective.item()
        return loss

    with pytest.raises(
        ConfigurationError, match=r"^runtime\.cuda_graph=true is not possible with this model: .*false$"
    ):
        CapturedPass(reading, task, list(task.model.parameters()), batch)
