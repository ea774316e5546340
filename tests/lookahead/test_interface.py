"""Lookahead as a torch Optimizer: groups and state shared with the inner one, hooks, repr, and bad arguments."""

import copy
import math
from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from lookahead import Lookahead
from tests.helpers.two_layers import make, train


def test_groups_state_and_defaults_are_the_inner_optimizers():
    model, optimizer = make(momentum=0.9)
    train(model, optimizer, 2)
    for _ in range(2):
        assert isinstance(optimizer, torch.optim.Optimizer)
        assert optimizer.param_groups is optimizer.inner.param_groups
        assert optimizer.state is optimizer.inner.state
        assert optimizer.defaults is optimizer.inner.defaults
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # replaces them in the inner one


def test_k_and_alpha_are_changed_in_the_groups_alone():
    _, optimizer = make(k=3, alpha=0.5)
    for name in ("k", "alpha"):
        with pytest.raises(AttributeError):
            setattr(optimizer, name, 1)
    assert (optimizer.k, optimizer.alpha) == (3, 0.5)


def test_what_is_not_given_is_as_documented():
    optimizer = Lookahead(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1))
    assert (optimizer.k, optimizer.alpha, optimizer.inner_state) == (5, 0.5, "maintain")
    assert (optimizer.slow_dtype, optimizer.slow_device, optimizer.fused) == (None, None, False)


class Whole(int):
    """Stands for an integer of another kind, such as NumPy's."""


@pytest.mark.parametrize("alpha", [0, 1, 0.0, 1.0, Fraction(1, 4)])
def test_alpha_may_be_any_real_number_and_is_kept_as_a_float(alpha):
    _, optimizer = make(k=Whole(3), alpha=alpha)
    for found in (optimizer.alpha, optimizer.param_groups[0]["lookahead_alpha"]):
        assert (found, type(found)) == (alpha, float)
    for found in (optimizer.k, optimizer.param_groups[0]["lookahead_k"]):
        assert (found, type(found)) == (3, int)


def test_zero_grad():
    model, optimizer = make()
    train(model, optimizer, 1)
    optimizer.zero_grad(set_to_none=False)
    assert all((p.grad == 0).all() for p in model.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_repr_shows_the_arguments_and_the_inner_optimizer():
    text = repr(make(k=7, alpha=0.25, inner_state="reset", momentum=0.9)[1])
    assert text.startswith("Lookahead (k=7, alpha=0.25, inner_state='reset', inner=SGD (")
    assert "momentum: 0.9" in text
    inner = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    optimizer = Lookahead(inner, slow_dtype=torch.float64, slow_device="cpu")
    optimizer.fused = True  # as given, where torch is new enough
    assert ", slow_dtype=torch.float64, slow_device=cpu, fused=True, inner" in repr(optimizer)


# Hooks


def test_every_step_hook_fires_once_and_ours_after_the_synchronization():
    p = nn.Parameter(torch.tensor([3.0]))
    inner = torch.optim.SGD([p], lr=1.0)
    optimizer = Lookahead(inner, k=1, alpha=0.5)
    seen = []

    def note(name):
        return lambda opt, args, kwargs: seen.append((name, type(opt).__name__, p.item()))

    optimizer.register_step_pre_hook(note("our pre"))
    optimizer.register_step_post_hook(note("our post"))
    inner.register_step_pre_hook(note("inner pre"))
    inner.register_step_post_hook(note("inner post"))
    handles = [
        register_optimizer_step_pre_hook(note("global pre")),
        register_optimizer_step_post_hook(note("global post")),
    ]
    try:
        p.grad = torch.ones(1)
        copy.deepcopy(optimizer)  # makes nothing fire twice
        optimizer.step()
    finally:
        for handle in handles:
            handle.remove()
    assert seen == [
        ("our pre", "Lookahead", 3.0),
        ("global pre", "SGD", 3.0),
        ("inner pre", "SGD", 3.0),
        ("inner post", "SGD", 2.0),
        ("global post", "SGD", 2.0),
        ("our post", "Lookahead", 2.5),
    ]


def test_a_step_pre_hook_may_replace_the_closure():
    p = nn.Parameter(torch.tensor([3.0]))
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0))
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: ((opt,), {"closure": lambda: "replaced"}))
    assert optimizer.step(lambda: "given") == "replaced"


@pytest.mark.parametrize("returned", ["nonsense", [(), {}], ((), {}, 3), ()])
def test_a_step_pre_hook_that_returns_something_else_is_named(returned):
    optimizer = make()[1]
    optimizer.register_step_pre_hook(lambda *_: returned)
    with pytest.raises(RuntimeError, match=r"a step pre-hook must return None or \(args, kwargs\), not") as raised:
        optimizer.step()
    assert str(raised.value).endswith(repr(returned))


def test_state_dict_hooks_fire():
    _, optimizer = make()
    seen = []
    for name, opt in (("ours", optimizer), ("inner", optimizer.inner)):
        opt.register_state_dict_pre_hook(lambda o, name=name: seen.append((name, "pre")))
        opt.register_state_dict_post_hook(lambda o, s, name=name: {**s, name: True})
        opt.register_load_state_dict_pre_hook(lambda o, s, name=name: seen.append((name, "load pre")))
        opt.register_load_state_dict_post_hook(lambda o, name=name: seen.append((name, "load post")))
    state = optimizer.state_dict()
    assert state["ours"]
    assert state["inner"]
    optimizer.load_state_dict(state)
    assert seen == [
        ("ours", "pre"),
        ("inner", "pre"),
        ("ours", "load pre"),
        ("inner", "load pre"),
        ("inner", "load post"),
        ("ours", "load post"),
    ]


# Bad arguments


@pytest.mark.parametrize("k", [0, -1, 2.5, 5.0, True, "5", None, math.nan])
def test_bad_k(k):
    with pytest.raises(ValueError, match=r"k must be an integer of at least 1, not "):
        make(k=k)
    _, optimizer = make()
    with pytest.raises(ValueError, match=r"k must be"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lookahead_k": k})
    assert len(optimizer.param_groups) == 1
    optimizer.inner.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lookahead_k": k})
    with pytest.raises(ValueError, match=r"k must be"):
        optimizer.step()


@pytest.mark.parametrize("alpha", [-0.1, 1.5, math.nan, math.inf, True, "0.5", None])
def test_bad_alpha(alpha):
    with pytest.raises(ValueError, match=r"alpha must be a number in \[0, 1\] or an AdaptiveAlpha, not "):
        make(alpha=alpha)
    group = {"params": [nn.Parameter(torch.ones(1))], "lookahead_alpha": alpha}
    with pytest.raises(ValueError, match="alpha must be"):
        Lookahead(torch.optim.SGD([group], lr=0.1))


@pytest.mark.parametrize(("name", "value"), [("k", 0), ("k", 2.0), ("alpha", -0.25), ("alpha", 1.5), ("alpha", 2)])
def test_what_is_edited_in_a_group_is_checked_before_the_next_step(name, value):
    model, optimizer = make()
    train(model, optimizer, 1)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.param_groups[0][f"lookahead_{name}"] = value
    with pytest.raises(ValueError, match=f"{name} must be .*, not {value}"):
        optimizer.step()
    assert all(torch.equal(p, kept) for p, kept in zip(model.parameters(), before, strict=True))


def test_bad_inner_state_and_bad_optimizer():
    with pytest.raises(ValueError, match="one of maintain, interpolate, reset, not 'pullback'"):
        make(inner_state="pullback")
    with pytest.raises(TypeError, match="not Linear"):
        Lookahead(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="not known for Lookahead"):
        Lookahead(make()[1], inner_state="reset")
