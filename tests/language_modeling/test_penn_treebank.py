"""Updates of the task by itself: their loss, the states that they carry, and how processes share them out."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from experiments.engine.task import Share
from experiments.language_modeling.batching import training_chunks
from experiments.language_modeling.penn_treebank import PennTreebank
from tests.helpers.small_treebank import task_of, text


def weighted(task: PennTreebank, update) -> torch.Tensor:
    """Return the objective of a global batch, as the engine puts it together of its parts."""
    return sum(task.loss(task.model, part).objective * part.weight / update.weight for part in update.parts)


def gradients(task: PennTreebank, update) -> list[torch.Tensor]:
    return list(torch.autograd.grad(weighted(task, update), list(task.model.parameters())))


def test_an_update_is_the_original_s_batch_of_its_number_with_its_rate():
    task = task_of()
    data = text(None).train[:399].view(7, 57).t()
    cut = 0
    for epoch in range(6):
        chunks = training_chunks(1, epoch, 57, 9)
        updates = list(task.updates(epoch))
        assert len(updates) == task.steps(epoch) == len(chunks)
        for update, chunk in zip(updates, chunks, strict=True):
            (part,) = update.parts
            assert torch.equal(part.inputs, data[chunk.first : chunk.first + chunk.length])
            assert torch.equal(part.targets[0], data[chunk.first + 1 : chunk.first + chunk.length + 1])
            assert update.lr_scale == chunk.sampled / 9  # of what was drawn, where the text's end cuts it too
            assert update.weight == update.size == part.weight == part.size == chunk.length * 7
        cut += chunks[-1].length < chunks[-1].sampled
        later = list(task.updates(epoch, start=2))
        assert [u.size for u in later] == [u.size for u in updates[2:]]
        assert all(torch.equal(a.parts[0].inputs, b.parts[0].inputs) for a, b in zip(later, updates[2:], strict=True))
    assert cut
    assert len({task.steps(epoch) for epoch in range(50)}) > 1


def test_the_loss_is_cross_entropy_with_ar_and_tar_and_cross_entropy_is_reported():
    task = task_of()
    hidden = task.model.start(7)
    for update in task.updates(0):
        (part,) = update.parts
        found = task.loss(task.model, part)
        output = task.model(part.inputs, hidden)
        hidden = output.hidden
        plain = F.cross_entropy(output.logits.reshape(-1, 12), part.targets[0].reshape(-1))
        regularized = plain + 2 * output.dropped.pow(2).mean() + (output.raw[1:] - output.raw[:-1]).pow(2).mean()
        torch.testing.assert_close(found.objective, regularized, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.reported.total / found.reported.count, plain, rtol=1e-6, atol=1e-6)
        assert found.reported.count == part.weight
        assert not found.reported.total.requires_grad
    bare = task_of(activation=0, temporal=0)
    (part,) = next(bare.updates(0)).parts
    loss = bare.loss(bare.model, part)
    torch.testing.assert_close(loss.objective.detach(), loss.reported.total / loss.reported.count)


def test_ar_is_of_dropped_outputs_and_tar_of_raw_ones():
    task = task_of(dropout=True)
    (part,) = next(task.updates(0)).parts
    torch.manual_seed(3)
    found = task.loss(task.model, part)
    torch.manual_seed(3)
    output = task.model(part.inputs, task.model.start(7))
    assert not torch.equal(output.dropped, output.raw)
    expected = found.reported.total / found.reported.count
    expected = expected + 2 * output.dropped.pow(2).mean() + (output.raw[1:] - output.raw[:-1]).pow(2).mean()
    torch.testing.assert_close(found.objective, expected, rtol=1e-6, atol=1e-6)


def test_a_loss_asked_for_twice_starts_twice_from_the_same_state_and_goes_no_further_back():
    task = task_of()
    first, second, third = (u.parts[0] for u in list(task.updates(0))[:3])
    losses = [task.loss(task.model, part).objective.item() for part in (first, first, second, second, third)]
    assert losses[0] == losses[1]
    assert losses[2] == losses[3]
    twice, once = task.state_dict(), task_of()
    for update in list(once.updates(0))[:3]:
        once.loss(once.model, update.parts[0])
    assert twice["batch"] == once.state_dict()["batch"] == 3
    pairs = zip(twice["hidden"][0], once.state_dict()["hidden"][0], strict=True)
    assert all(torch.equal(h, h_once) and torch.equal(c, c_once) for (h, c), (h_once, c_once) in pairs)
    with pytest.raises(
        RuntimeError, match=r"columns 0 to 6 of batch 0 start from are not here; there are those of 2, 3"
    ):
        task.loss(task.model, first)


def test_states_are_carried_without_a_graph_and_each_epoch_begins_with_zeros():
    task = task_of()
    assert task.state_dict() == {}
    for update in task.updates(0):
        task.loss(task.model, update.parts[0]).objective.backward()  # through its own batch alone
    carried = task.state_dict()
    assert carried["batch"] == task.steps(0)
    assert all(not state.requires_grad and state.any() for layer in carried["hidden"][0] for state in layer)
    next(task.updates(1))
    assert task.state_dict()["batch"] == 0
    assert not any(state.any() for layer in task.state_dict()["hidden"][0] for state in layer)


def test_pieces_of_a_batch_on_processes_and_in_micro_batches_have_the_gradient_of_the_whole_one():
    whole = task_of()
    shares = [Share(rank, 3, micro=2) for rank in range(3)]  # of seven columns: 3, 2 and 2
    ranks = [task_of() for _ in shares]
    streams = [task.updates(0, 0, share) for task, share in zip(ranks, shares, strict=True)]
    for update in whole.updates(0):
        own = [next(stream) for stream in streams]
        assert {(u.weight, u.size, u.lr_scale) for u in own} == {(update.weight, update.size, update.lr_scale)}
        assert [part.inputs.shape[1] for u in own for part in u.parts] == [2, 1, 1, 1, 1, 1]
        assert torch.equal(torch.cat([p.inputs for u in own for p in u.parts], dim=1), update.parts[0].inputs)
        assert torch.equal(torch.cat([p.targets[0] for u in own for p in u.parts], dim=1), update.parts[0].targets[0])
        expected = gradients(whole, update)
        found = [gradients(task, u) for task, u in zip(ranks, own, strict=True)]
        for gradient, pieces in zip(expected, zip(*found, strict=True), strict=True):
            torch.testing.assert_close(sum(pieces), gradient, rtol=1e-5, atol=1e-7)


def test_a_process_without_columns_takes_part_with_weight_zero_and_carries_nothing():
    tasks = [task_of(batch_size=1), task_of(batch_size=1)]
    for own, other in zip(tasks[0].updates(0, 0, Share(0, 2)), tasks[1].updates(0, 0, Share(1, 2)), strict=True):
        (part,) = other.parts
        assert (part.size, part.weight, other.size) == (0, 0.0, own.size)
        assert torch.equal(part.inputs, own.parts[0].inputs)
        assert torch.equal(part.targets[0], own.parts[0].targets[0])
        loss = tasks[1].loss(tasks[1].model, part)
        assert loss.objective.isfinite()
        assert (float(loss.reported.total), loss.reported.count) == (0.0, 0.0)
        tasks[0].loss(tasks[0].model, own.parts[0])
        states = [task.state_dict() for task in tasks]
        assert [state["columns"] for state in states] == [[[0, 1]], []]
        assert states[0]["batch"] == states[1]["batch"]  # and neither is empty: all processes gather them together
        tasks[1].load_state_dict(copy.deepcopy(states))


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (3, 2), (2, 4)])
def test_another_number_of_processes_goes_on_with_the_same_states(before, after):
    whole = task_of()
    old = [task_of() for _ in range(before)]
    streams = [task.updates(0, 0, Share(rank, before)) for rank, task in enumerate(old)]
    updates = list(whole.updates(0))
    for update in updates[:3]:
        gradients(whole, update)
        for task, stream in zip(old, streams, strict=True):
            gradients(task, next(stream))
    states = copy.deepcopy([task.state_dict() for task in old])
    new = [task_of() for _ in range(after)]
    for task in new:
        task.load_state_dict(states)
    streams = [task.updates(0, 3, Share(rank, after, micro=2)) for rank, task in enumerate(new)]
    for update in updates[3:5]:
        expected = weighted(whole, update)
        found = sum(weighted(task, next(stream)) for task, stream in zip(new, streams, strict=True))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_states_that_do_not_fit_together_are_refused():
    task, other = task_of(), task_of()
    one, two = list(task.updates(0, 0, Share(0, 2)))[:2]
    other_one = next(other.updates(0, 0, Share(1, 2)))
    task.loss(task.model, one.parts[0])
    other.loss(other.model, other_one.parts[0])
    half, rest = copy.deepcopy(task.state_dict()), copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match="there are hidden states of 4 columns, for 7"):
        task.load_state_dict([half])
    task.load_state_dict([half, rest])
    task.loss(task.model, two.parts[0])
    with pytest.raises(ValueError, match=r"hidden states of several batches are mixed: \[1, 2\]"):
        task.load_state_dict([task.state_dict(), rest])
    task.load_state_dict([{}, {}])
    assert task.state_dict() == {}
    with pytest.raises(RuntimeError, match="there are those of no batch"):
        task.loss(task.model, one.parts[0])
