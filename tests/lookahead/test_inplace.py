"""What tells, before every step and synchronization, that tensors are no longer those that were seen."""

import pytest
import torch
from torch import nn

from lookahead import Lookahead
from lookahead.inplace import Pairs, Same, copy_, interpolate_, is_plain, local
from lookahead.outer_update import pull_back_
from tests.helpers.trajectories import parameter, steps


def ones(*sizes):
    return [torch.ones(size) for size in sizes]


def test_a_list_holds_the_same_tensors_as_long_as_each_is_the_very_one():
    tensors = [nn.Parameter(torch.ones(3)), torch.ones(1), torch.ones(()), torch.ones(0)]
    same = Same(tensors)
    assert same.as_in(tensors)
    assert same.as_in(list(tensors))
    assert Same([]).as_in([])


@pytest.mark.parametrize("number", range(4))
def test_an_equal_tensor_is_not_the_same_one(number):
    tensors = ones(3, 1, (), 0)
    other = list(tensors)
    other[number] = tensors[number].clone()
    assert not Same(tensors).as_in(other)


@pytest.mark.parametrize("change", ["order", "one fewer", "one more", "none"])
def test_another_list_is_not_the_same(change):
    tensors = ones(1, 1, 3)
    others = {"order": [tensors[1], tensors[0], tensors[2]], "one fewer": tensors[:2], "one more": tensors * 2}
    assert not Same(tensors).as_in(others.get(change, []))


MOVES = {
    "other memory": lambda p: setattr(p, "data", p.data.clone()),
    "other shape": lambda p: setattr(p, "data", torch.zeros(2, 2)),
    "other dtype": lambda p: setattr(p, "data", p.data.double()),
    "same bytes, other dtype": lambda p: setattr(p, "data", p.data.view(torch.int32)),
    "a part of its memory": lambda p: setattr(p, "data", p.data[:2]),
    "resized in place": lambda p: p.resize_(2),
}


def test_other_memory_of_the_same_kind_is_what_is_written_from_then_on():
    slow, fast = [torch.zeros(4), torch.zeros(4)], [nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))]
    old = fast[1].data
    fast[1].data = torch.full((4,), 3.0)
    pull_back_(Pairs(slow, fast), 0.5)
    assert (slow[1].tolist(), fast[1].tolist(), old.tolist()) == ([1.5] * 4, [1.5] * 4, [1.0] * 4)


@pytest.mark.parametrize("move", MOVES)
def test_pairs_no_longer_fit_where_a_tensor_was_moved(move):
    slow, fast = [torch.ones(4), torch.ones(4)], [torch.zeros(4), torch.zeros(4)]
    pairs = Pairs(slow, fast)
    assert pairs.fits(list(slow), list(fast))
    MOVES[move](fast[0])
    assert not pairs.fits(slow, fast)


def test_pairs_no_longer_fit_another_list():
    slow, fast = ones(4, 1), ones(4, 1)
    pairs = Pairs(slow, fast)
    assert not pairs.fits([slow[0].clone(), slow[1]], fast)
    assert not pairs.fits(slow, [fast[0], fast[1].clone()])


def test_what_a_hook_of_the_inner_optimizer_forgets_is_not_pulled_back():
    p = parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0, momentum=0.5), k=2)
    steps(optimizer, [p], 1)
    optimizer.inner.register_step_post_hook(lambda inner, *_: inner.state.pop(p))
    before = p.item()
    steps(optimizer, [p], 1)  # the second step, with momentum, would end half way
    assert p.item() == before - 1.5


def test_lists_that_do_not_pair_up_are_an_error_and_nothing_is_copied():
    first = ones(2)
    with pytest.raises(ValueError, match="argument"):
        copy_(first, [torch.zeros(2), torch.zeros(2)])
    assert first[0].tolist() == [1.0, 1.0]


class Sharded(torch.Tensor):
    """Stands for a DTensor: a tensor whose local part is its first half."""

    def to_local(self):
        return self.as_subclass(torch.Tensor)[:2]


def test_tensors_of_other_kinds_are_told_from_torchs_own():
    whole = torch.arange(4.0)
    sharded = whole.as_subclass(Sharded)
    assert [is_plain(t) for t in (whole, nn.Parameter(whole), sharded)] == [True, True, False]
    assert local(whole) is whole
    named = whole.as_subclass(type("Named", (torch.Tensor,), {}))
    assert local(named) is named
    assert local(sharded).tolist() == [0.0, 1.0]
    assert local(sharded).data_ptr() == whole.data_ptr()
    pairs = Pairs([torch.zeros(4)], [nn.Parameter(whole)])
    assert pairs.fits([pairs.parts[0].first[0]], [whole]) is False


@pytest.mark.parametrize("side", ["slow", "fast"])
def test_pairs_with_a_sharded_tensor_are_made_anew_each_time(side):
    plain, sharded = torch.zeros(4), torch.zeros(4).as_subclass(Sharded)
    slow, fast = ([sharded], [plain]) if side == "slow" else ([plain], [sharded])
    assert Pairs(slow, fast).fits(slow, fast) is False
    both = [torch.zeros(4), slow[0]], [torch.zeros(4), fast[0]]
    assert Pairs(*both).fits(*both) is False


def test_parts_are_of_one_dtype_and_know_their_largest_tensor():
    slow = [torch.zeros(2), torch.zeros(3, 4), torch.zeros(5)]
    fast = [torch.ones(2), torch.ones(3, 4), torch.ones(5, dtype=torch.float64)]
    parts = Pairs(slow, fast).parts
    assert [part.largest for part in parts] == [12, 5]
    assert [[t.shape for t in part.first] for part in parts] == [[(2,), (3, 4)], [(5,)]]
    assert [[t.dtype for t in part.second] for part in parts] == [[torch.float32] * 2, [torch.float64]]


def test_a_mean_of_another_dtype_moves_in_its_own():
    mean, weights = [torch.tensor([1.0], dtype=torch.float64), torch.tensor([8.0])], ones(1, 1)
    interpolate_(Pairs(mean, [w * 2 for w in weights]), 0.25)
    assert [(m.item(), m.dtype) for m in mean] == [(1.25, torch.float64), (6.5, torch.float32)]
