"""Leaves of a configuration, and which plain values are the same, by hand."""

from __future__ import annotations

import math

import pytest
from omegaconf import OmegaConf

from experiments.engine.leaves import Leaf, differences, is_below, leaves, plain, same, value_at


def found(text: str) -> dict[str, Leaf]:
    return leaves(OmegaConf.create(text))


def test_a_path_is_below_a_root_by_whole_keys():
    assert is_below("a.b", ("x", "a"))
    assert is_below("a", ("a",))
    assert not is_below("ab.c", ("a", "b", "c"))
    assert not is_below("a", ("a.b",))


def test_each_value_has_its_path_and_what_it_refers_to():
    assert found(
        """
        epochs: 5
        optim: {lr: 0.1, optimizer: {lr: "${optim.lr}", betas: [0.9, 0.99]}}
        sibling: {lr: 1, same: "${.lr}", above: "${..epochs}"}
        """
    ) == {
        "epochs": Leaf(5),
        "optim.lr": Leaf(0.1),
        "optim.optimizer.lr": Leaf(0.1, "optim.lr"),
        "optim.optimizer.betas": Leaf([0.9, 0.99]),
        "sibling.lr": Leaf(1),
        "sibling.same": Leaf(1, "sibling.lr"),
        "sibling.above": Leaf(5, "epochs"),
    }


def test_a_value_made_of_a_reference_and_more_is_one_of_its_own():
    assert found("{a: 2, b: 'x${a}', c: '${oc.select:a,3}', d: '${oc.select:z,3}', e: '${oc.select:a}'}") == {
        "a": Leaf(2),
        "b": Leaf("x2"),
        "c": Leaf(2, "a"),
        "d": Leaf(3, "z"),
        "e": Leaf(2),
    }


def test_below_a_node_that_is_a_reference_each_leaf_refers_to_its_own():
    assert found("{one: {a: 1, b: {c: [2]}}, two: '${one}'}") == {
        "one.a": Leaf(1),
        "one.b.c": Leaf([2]),
        "two.a": Leaf(1, "one.a"),
        "two.b.c": Leaf([2], "one.b.c"),
    }


def test_an_empty_node_is_a_leaf_and_so_is_a_value_that_is_missing():
    assert found("{a: {}, b: '???', c: null}") == {"a": Leaf({}), "b": Leaf("???"), "c": Leaf(None)}


def test_what_does_not_change_a_result_and_what_refers_to_it_is_no_leaf():
    assert found(
        """
            seed: 3
            runtime: {device: cpu, threads: 2}
            tracker: {mode: online}
            hydra: {job: {name: "${nowhere}"}}
            task: {name: x, seed: "${seed}", device: "${runtime.device}", preset: {epochs: 1}, recipes: {sgd: {lr: 1}}}
            scale_factor: 2
            """
    ) == {"task.name": Leaf("x")}
    assert found("{a: {runtime: 1, seed: 2}}") == {"a.runtime": Leaf(1), "a.seed": Leaf(2)}  # only those of the root


def test_what_refers_to_a_preset_is_a_value_of_its_own():
    assert found(
        """
        task: {preset: {epochs: 9, model: {width: 3}}}
        epochs: "${task.preset.epochs}"
        model: "${task.preset.model}"
        """
    ) == {"epochs": Leaf(9), "model.width": Leaf(3)}


def test_a_value_that_cannot_be_resolved_is_left_out():
    assert found("{lr: '${task.recipes.sgd.lr}', task: {name: x}}") == {"task.name": Leaf("x")}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (math.nan, math.nan),
        (math.inf, math.inf),
        (True, True),
        ("a", "a"),
        (None, None),
        ([1, [2.0]], (1.0, [2])),
        ({"a": 1, "b": {"c": 2}}, {"b": {"c": 2.0}, "a": 1}),
        ([], []),
        ({}, {}),
    ],
)
def test_values_that_mean_the_same(one, other):
    assert same(one, other)
    assert same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, True),
        (0, False),
        (True, False),
        (1.0, math.nan),
        (math.inf, -math.inf),
        ("1", 1),
        (None, 0),
        (None, ""),
        ([1], [1, 2]),
        ([1, 2], [2, 1]),
        ([1, 2], [1, 3]),
        ([], {}),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": None}),
        ("a", ["a"]),
    ],
)
def test_values_that_differ(one, other):
    assert not same(one, other)
    assert not same(other, one)


def test_differences_name_each_leaf_in_the_order_in_which_it_stood():
    before = {"b": 1, "a": {"x": 1, "y": [1]}, "gone": 3}
    now = {"a": {"x": 1.0, "y": [2], "new": True}, "b": 2}
    assert differences(now, before) == [
        "b 1 there, 2 here",
        "a.y [1] there, [2] here",
        "a.new None there, True here",
        "gone 3 there, None here",
    ]
    assert differences(now, now) == []
    assert differences({"a": {"x": 1}}, {"a": 1}) == ["a 1 there, {'x': 1} here"]


def test_plain_values_are_resolved_and_leave_out_hydra_and_what_is_asked():
    config = OmegaConf.create("{hydra: {x: '${nowhere}'}, a: {b: 1, c: {d: '${a.b}'}}, e: 2}")
    assert plain(config) == {"a": {"b": 1, "c": {"d": 1}}, "e": 2}
    assert plain(config, ("e", "a.c.d", "a.none.x", "none")) == {"a": {"b": 1, "c": {}}}


def test_the_value_at_a_path_or_the_default():
    values = {"a": {"b": {"c": 1}, "none": None}, "x": 2}
    assert value_at(values, "a.b.c") == 1
    assert value_at(values, "a.none", 5) is None
    assert value_at(values, "a.b") == {"c": 1}
    for path in ("a.z", "x.y", "z", "a.b.c.d"):
        assert value_at(values, path, 5) == 5
        assert value_at(values, path) is None


def test_a_key_with_dots_of_its_own_has_its_value():
    tree = "changed: {a.b: [3], a.c: {d: 1}, 7: x}"
    assert found(tree) == {"changed.a.b": Leaf([3]), "changed.a.c.d": Leaf(1), "changed.7": Leaf("x")}
    plain_tree = {"changed": {"a.b": [3], "a.c": {"d": 1}, "a": {"b": 5, "e": 6}}, "x.y": 2}
    assert value_at(plain_tree, "changed.a.b") == [3]  # the longest key first
    assert value_at(plain_tree, "changed.a.e") == 6
    assert value_at(plain_tree, "changed.a.c.d") == 1
    assert value_at(plain_tree, "x.y") == 2
    assert value_at(plain_tree, "changed.a.f", "none") == "none"
