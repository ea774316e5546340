"""The names of the entries: which level each belongs to, and what a Lookahead of a level leaves alone."""

import pytest

from lookahead.entries import Keys, drop_leftovers
from tests.helpers.trajectories import parameter

ENTRIES = {
    "lr": 0.1,
    "lookahead": 0,  # no underscore, so the inner optimizer's
    "my_lookahead_k": 0,
    7: "no text",
    "lookahead_k": 1,
    "lookahead2_k": 2,
    "lookahead3_k": 3,
    "lookahead12_k": 12,
}
OWN = ["lr", "lookahead", "my_lookahead_k", 7]


@pytest.mark.parametrize(
    ("level", "own", "inner", "left"),
    [
        (1, ["lookahead_k"], OWN, ["lookahead_k", "lookahead2_k", "lookahead3_k", "lookahead12_k"]),
        (2, ["lookahead2_k"], [*OWN, "lookahead_k"], ["lookahead2_k", "lookahead3_k", "lookahead12_k"]),
        (3, ["lookahead3_k"], [*OWN, "lookahead_k", "lookahead2_k"], ["lookahead3_k", "lookahead12_k"]),
    ],
)
def test_entries_are_told_apart_by_level(level, own, inner, left):
    keys = Keys(level)
    assert keys.own_part(ENTRIES) == {name: ENTRIES[name] for name in own}
    assert keys.inner_part(ENTRIES) == {name: ENTRIES[name] for name in inner}
    assert keys.leftovers(ENTRIES) == left
    assert keys.k in own


def test_what_is_no_dict_is_the_inner_optimizers():
    assert (Keys(1).own_part(5), Keys(1).inner_part(5), Keys(1).leftovers(5)) == ({}, 5, [])


def test_names_of_a_level():
    names = ("k", "alpha", "step", "slow", "second_moment", "second_moment_step")
    assert [getattr(Keys(1), name) for name in names] == [f"lookahead_{name}" for name in names]
    assert [getattr(Keys(2), name) for name in names] == [f"lookahead2_{name}" for name in names]
    assert Keys(2).slow_moment("exp_avg") == "lookahead2_slow_exp_avg"


def test_leftovers_go_and_what_a_user_gave_stays():
    used = {"lr": 0.1, "lookahead_k": 3, "lookahead_alpha": 0.5, "lookahead_step": 4, "lookahead2_k": 2}
    given = {"lookahead_k": 7}
    groups = [used, given]
    p, q, r = parameter(0.0), parameter(0.0), parameter(0.0)
    state = {p: {"momentum_buffer": 1, "lookahead_slow": 2}, q: {"lookahead2_slow": 3}, r: {}, "count": 4}
    drop_leftovers(groups, state, Keys(1))
    assert groups == [{"lr": 0.1, "lookahead2_k": 2}, {"lookahead_k": 7}]
    assert used["lookahead_k"] == 3  # the user's own dict is as it was
    assert groups[1] is given
    assert state == {p: {"momentum_buffer": 1}, "count": 4}
