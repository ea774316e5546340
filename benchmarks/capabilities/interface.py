"""Points 12 to 14: hooks, copies, what is shown and what is refused."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import nn, optim
from torch.optim import lr_scheduler as schedules
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from benchmarks.capabilities.adapters import Adapter, Unsupported
from benchmarks.capabilities.check import check, expect, expect_equal, expect_error, expect_same
from benchmarks.capabilities.scenarios import descend, momentum, network, train, weight, weights


@check(12, "Step hooks of both optimizers fire once a step; the wrapper's post hook after the synchronization")
def step_hooks(impl: Adapter) -> None:
    p = weight(0.0)
    inner = optim.SGD([p], lr=1.0)
    optimizer = impl.lookahead(inner, k=2)
    fired, after = {"inner pre": 0, "inner post": 0, "pre": 0, "post": 0}, []

    def count(name: str) -> Callable[..., None]:
        return lambda *_: fired.update({name: fired[name] + 1})

    for name, target in (("inner ", inner), ("", optimizer)):
        target.register_step_pre_hook(count(f"{name}pre"))
        target.register_step_post_hook(count(f"{name}post"))
    optimizer.register_step_post_hook(lambda *_: after.append(p.item()))
    seen = descend(optimizer, p, 6)
    expect_equal("calls in 6 steps", fired, dict.fromkeys(fired, 6))
    expect_equal("weights in the post hook", after, seen)


@check(12, "Global step hooks fire once a step")
def global_hooks(impl: Adapter) -> None:
    p = weight(0.0)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0), k=2)
    fired: list[str] = []
    handles = (
        register_optimizer_step_pre_hook(lambda *_: fired.append("pre")),
        register_optimizer_step_post_hook(lambda *_: fired.append("post")),
    )
    try:
        descend(optimizer, p, 3)
    finally:
        for handle in handles:
            handle.remove()
    expect_equal("pre and post hook calls in 3 steps", [fired.count(name) for name in ("pre", "post")], [3, 3])


@check(12, "state_dict and load_state_dict hooks fire")
def state_hooks(impl: Adapter) -> None:
    p = weight(0.0)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0))
    descend(optimizer, p, 1)
    fired: list[str] = []
    for name in ("state_dict_pre", "state_dict_post", "load_state_dict_pre", "load_state_dict_post"):
        getattr(optimizer, f"register_{name}_hook")(lambda *_, name=name: fired.append(name))
    optimizer.load_state_dict(optimizer.state_dict())
    expected = ["state_dict_pre", "state_dict_post", "load_state_dict_pre", "load_state_dict_post"]
    expect_equal("hooks that fired", fired, expected)


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),
}


def goes_on_as_a_copy(impl: Adapter, scheduled: bool) -> None:
    """Copy a model with its optimizer in the middle of an inner loop, and train both."""
    for name, duplicate in COPIES.items():
        model = network()
        optimizer = impl.lookahead(momentum(model), k=5)
        if scheduled:
            schedules.ConstantLR(optimizer)
        train(model, optimizer, 7)
        try:
            other_model, other = duplicate((model, optimizer))
            train(other_model, other, 8, first=7)
        except Exception as error:
            raise AssertionError(f"{name}, then training the copy: {type(error).__name__}: {error}") from error
        train(model, optimizer, 8, first=7)
        expect_same(f"{name}: going on", weights(other_model), weights(model))


@check(13, "deepcopy and pickle give an optimizer that goes on as the original")
def copies(impl: Adapter) -> None:
    goes_on_as_a_copy(impl, scheduled=False)


@check(13, "... also when a scheduler has patched step")
def copies_with_schedule(impl: Adapter) -> None:
    goes_on_as_a_copy(impl, scheduled=True)


@check(13, "A copy, or the attempt at one, changes no class, so later instances work as before")
def copies_change_no_class(impl: Adapter) -> None:
    def run() -> tuple[nn.Module, optim.Optimizer, list[float]]:
        model = network()
        optimizer = impl.lookahead(momentum(model), k=2)
        train(model, optimizer, 5)
        return model, optimizer, weights(model)

    model, optimizer, first = run()
    classes = (type(optimizer), optim.SGD)
    before = [dict(vars(cls)) for cls in classes]
    for duplicate in COPIES.values():
        with suppress(Exception):
            duplicate((model, optimizer))
    for cls, attributes in zip(classes, before, strict=True):
        changed = [name for name, value in vars(cls).items() if attributes.get(name) is not value]
        expect(not changed, f"attributes of {cls.__name__} that are others now: {', '.join(changed)}")
    expect_same("a later instance", run()[2], first)


@check(14, "zero_grad takes set_to_none")
def zero_grad(impl: Adapter) -> None:
    p = weight(0.0)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0))
    for arguments, left in (({"set_to_none": False}, 0.0), ({"set_to_none": True}, None)):
        p.grad = torch.ones_like(p)
        optimizer.zero_grad(**arguments)
        expect_equal(f"the gradient after zero_grad({arguments})", None if p.grad is None else p.grad.item(), left)


@check(14, "repr shows k, alpha, inner_state (where there is one) and the inner optimizer")
def representation(impl: Adapter) -> None:
    inner, wanted = optim.Adagrad([weight(0.0)]), ["73", "0.4375", "Adagrad"]
    shown = repr(impl.lookahead(inner, k=73, alpha=0.4375))
    with suppress(Unsupported):
        shown = repr(impl.lookahead(momentum(network()), k=73, alpha=0.4375, inner_state="reset"))
        wanted = ["73", "0.4375", "SGD", "reset"]
    missing = [what for what in wanted if what not in shown]
    expect(not missing, f"not shown: {', '.join(missing)}")


def refuses(impl: Adapter, *bad: Any, name: str) -> None:
    """Expect a ValueError or TypeError for each bad value of a constructor's argument."""
    for value in bad:
        arguments = {"inner": optim.SGD([weight(0.0)], lr=1.0), name: value}
        expect_error(f"{name}={value}", lambda a=arguments: impl.lookahead(**a), ValueError, TypeError)


@check(14, "k must be an integer of at least 1")
def bad_k(impl: Adapter) -> None:
    refuses(impl, 0, -1, 2.5, True, name="k")


@check(14, "alpha must be finite and in [0, 1]")
def bad_alpha(impl: Adapter) -> None:
    refuses(impl, -0.1, 1.5, math.nan, math.inf, name="alpha")


@check(14, "k and alpha of a group are checked")
def bad_group(impl: Adapter) -> None:
    for entries in ({"k": 0}, {"k": True}, {"alpha": 1.5}, {"alpha": math.nan}):
        inner = optim.SGD([{"params": [weight(0.0)], **impl.group(**entries)}], lr=1.0)
        expect_error(f"a group with {entries}", lambda inner=inner: impl.lookahead(inner), ValueError, TypeError)


@check(14, "The inner optimizer must be one; inner_state (where there is one) must be known")
def bad_rest(impl: Adapter) -> None:
    refuses(impl, 3, name="inner")
    with suppress(Unsupported):
        refuses(impl, "halve", name="inner_state")
