"""Who has slow weights, and what tells that this is no longer so: asked directly, one edit at a time."""

import pytest
import torch

from lookahead.members import Members
from tests.helpers.trajectories import parameter

KEY = "slow"


def look(groups, state):
    return Members(groups, state, KEY)


def two_groups():
    """Return two groups of one parameter each, and a state in which both have slow weights."""
    p, q = parameter(1.0, 2.0), parameter(3.0, 4.0)
    return [{"params": [p]}, {"params": [q]}], {p: {KEY: torch.zeros(2)}, q: {KEY: torch.ones(2)}}


def test_those_without_an_entry_are_pending_and_those_with_one_come_by_group():
    groups, state = two_groups()
    (p,), (q,) = (group["params"] for group in groups)
    new, foreign = parameter(5.0), parameter(6.0)
    groups[0]["params"] += [new, foreign]
    state |= {foreign: 7, "count": 3}
    members = look(groups, state)
    assert list(map(id, members.pending)) == [id(new), id(foreign)]
    for numbers, params in (((0,), [p]), ((1,), [q]), ((0, 1), [p, q]), ((1, 0), [q, p])):
        found = members.of(numbers)
        assert list(map(id, found.params)) == list(map(id, params))
        assert all(own is state[one] for own, one in zip(found.states, params, strict=True))
        assert members.of(numbers) is found
        assert found.pairs(KEY) is found.pairs(KEY)


def another_parameter(groups, state):
    groups[0]["params"][0] = parameter(1.0, 2.0)


def another_group(groups, state):
    groups.append({"params": []})


def one_more_entry(groups, state):
    state["count"] = 1


def a_first_value_without(groups, state):
    state[next(iter(state))] = {"momentum_buffer": None}


def a_tensor_as_first_value(groups, state):
    state[next(iter(state))] = torch.zeros(3)


def another_last_key(groups, state):
    state[parameter(9.0)] = state.pop(next(reversed(state)))


def slow_weights_are_gone(groups, state):
    for own in state.values():
        own.clear()


CHANGES = [
    another_parameter,
    another_group,
    one_more_entry,
    a_first_value_without,
    a_tensor_as_first_value,
    another_last_key,
    slow_weights_are_gone,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_look_is_current_until_something_changes(change):
    groups, state = two_groups()
    members = look(groups, state)
    assert members.is_current(groups, state) is True
    change(groups, state)
    assert members.is_current(groups, state) is False
    assert look(groups, state).is_current(groups, state) is True


def test_slow_weights_that_appear_end_a_look_and_another_state_is_another_one():
    groups, state = two_groups()
    own = state[groups[0]["params"][0]]
    slow = own.pop(KEY)
    members = look(groups, state)
    assert members.is_current(groups, state) is True
    own[KEY] = slow
    assert members.is_current(groups, state) is False
    assert look(groups, state).is_current(groups, dict(state)) is False


def test_without_any_state_a_look_is_current_too():
    groups = [{"params": [parameter(1.0)]}]
    assert look(groups, {}).is_current(groups, {}) is False  # another dict
    state = {}
    assert look(groups, state).is_current(groups, state) is True


def test_equal_copies_are_told_from_the_very_values():
    groups, state = two_groups()
    members = look(groups, state)
    assert members.holds(state) is True
    p = groups[0]["params"][0]
    state[p] = dict(state[p])
    assert members.is_current(groups, state) is True
    assert members.holds(state) is False
    assert look(groups, state).holds({}) is False
