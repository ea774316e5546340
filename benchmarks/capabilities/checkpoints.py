"""Points 8 and 15: state dicts, plain and distributed."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn, optim
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from benchmarks.capabilities.adapters import Adapter
from benchmarks.capabilities.check import check, expect, expect_equal, expect_same
from benchmarks.capabilities.scenarios import (
    descend,
    momentum,
    network,
    outer_steps,
    synchronizations,
    through_file,
    train,
    weight,
    weights,
)


def warned(function: Callable[[], Any]) -> list[str]:
    """Call `function` and return the warnings that it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [str(warning.message) for warning in caught]


def resumes_exactly(wrap: Callable[[nn.Module], optim.Optimizer], transfer: Callable | None = None) -> None:
    """Save in the middle of an inner loop, go on in new objects, and compare with the run that was not broken off."""
    model, resumed = network(), network(seed=1)
    optimizer, other = wrap(model), wrap(resumed)
    train(model, optimizer, 7)
    resumed.load_state_dict(model.state_dict())
    if transfer is None:
        other.load_state_dict(through_file(optimizer.state_dict()))
    else:
        transfer(model, optimizer, resumed, other)
    for m, o in ((model, optimizer), (resumed, other)):
        train(m, o, 13, first=7)
    expect_same("resumed at step 7 with k=5, at step 20", weights(resumed), weights(model))


@check(8, "state_dict has torch's form, with slow weights, and outer momenta, under one key each that names Lookahead")
def standard_form(impl: Adapter) -> None:
    p = weight(0.0)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0), k=2)
    descend(optimizer, p, 3)
    state = optimizer.state_dict()
    expect_equal("its keys", sorted(state), ["param_groups", "state"])
    keys = [key for entry in state["state"].values() for key, value in entry.items() if torch.is_tensor(value)]
    expect_equal("tensors saved for a parameter that plain SGD steps", len(keys), 2 if impl.outer_momentum else 1)
    for key in keys:
        expect("lookahead" in key, f"the key {key} does not name Lookahead")


@check(8, "Resumes in the middle of an inner loop to the last bit, from a file read with weights_only=True")
def resume(impl: Adapter) -> None:
    resumes_exactly(lambda model: impl.lookahead(momentum(model), k=5))


@check(8, '... with the slow copies of moments that "interpolate" keeps')
def resume_interpolated(impl: Adapter) -> None:
    def wrap(model: nn.Module) -> optim.Optimizer:
        return impl.lookahead(momentum(model), k=5, inner_state="interpolate")

    resumes_exactly(wrap)


@check(8, "Loads a plain inner optimizer's checkpoint, with a warning that it brings no slow weights")
def loads_plain(impl: Adapter) -> None:
    model, alone = network(), network()
    inner = momentum(alone)
    train(alone, inner, 4)
    optimizer = impl.lookahead(momentum(model), k=1000)  # the inner optimizer alone
    train(model, optimizer, 2)  # has slow weights and a count of its own
    model.load_state_dict(alone.state_dict())
    messages = warned(lambda: optimizer.load_state_dict(copy.deepcopy(inner.state_dict())))
    for m, o in ((model, optimizer), (alone, inner)):
        train(m, o, 7, first=4)
    expect_same("going on from the inner optimizer's state", weights(model), weights(alone))
    # alpha = 0 and a zero gradient: the weights stay only if the slow ones are the current ones.
    p = weight(0.0)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0), k=2)
    descend(optimizer, p, 3)
    p.data.fill_(8.0)
    optimizer.load_state_dict(optim.SGD([p], lr=1.0).state_dict())
    expect_equal("a weight loaded as 8.0, under zero gradient", descend(optimizer, p, 4, 0.0)[-1], 8.0)
    expect(bool(messages), "no warning")


@check(8, "A plain inner optimizer loads its checkpoint")
def plain_loads(impl: Adapter) -> None:
    model, alone = network(), network()
    optimizer, inner = impl.lookahead(momentum(model), k=1000), momentum(alone)
    train(model, optimizer, 4)
    alone.load_state_dict(model.state_dict())
    inner.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for m, o in ((model, optimizer), (alone, inner)):
        train(m, o, 7, first=4)
    expect_same("the inner optimizer going on from its state", weights(alone), weights(model))


@check(8, "The constructor's k and alpha win over the checkpoint's, with a warning where they differ")
def constructor_wins(impl: Adapter) -> None:
    p, q = weight(0.0), weight(0.0)
    saved = impl.lookahead(optim.SGD([p], lr=1.0), k=2, alpha=0.75)
    descend(saved, p, 6)
    optimizer = impl.lookahead(optim.SGD([q], lr=1.0), k=3, alpha=0.5)
    messages = warned(lambda: optimizer.load_state_dict(copy.deepcopy(saved.state_dict())))
    q.data.copy_(p.data)
    seen = descend(optimizer, q, 15)[5:]
    steps = synchronizations(seen[1:], seen[0])
    expect_equal("steps between synchronizations", {b - a for a, b in itertools.pairwise(steps)}, {3})
    # An inner loop steps 3 down, and a synchronization takes (1 - alpha) * 3 of it back; with momentum, which goes on
    # from the three inner loops before, less.
    back = seen[steps[-1]] - (seen[steps[-1] - 1] - 1)
    expected = 3 - outer_steps([2.0] * 3 + [3.0] * 5, 0.5, impl.outer_momentum)[-1]
    expect_equal("taken back at a synchronization with alpha=0.5", back, expected)
    expect(bool(messages), "the constructor's win, without a warning")


@check(8, "Loaded slow weights are a copy")
def loaded_copy(impl: Adapter) -> None:
    p, q = weight(0.0), weight(64.0)  # so far away that a synchronization moves what it pulls
    saved = impl.lookahead(optim.SGD([p], lr=1.0), k=2)
    descend(saved, p, 5)
    state = copy.deepcopy(saved.state_dict())
    before = copy.deepcopy(state)
    optimizer = impl.lookahead(optim.SGD([q], lr=1.0), k=2)
    optimizer.load_state_dict(state)
    descend(optimizer, q, 6)
    expect(str(state) == str(before), "training on changes the tensors of the loaded state dict")


@check(8, "float32 slow weights of bfloat16 parameters stay float32 through a checkpoint")
def loaded_precision(impl: Adapter) -> None:
    p, q = weight(1.0, dtype=torch.bfloat16), weight(1.0, dtype=torch.bfloat16)
    saved, optimizer = (impl.lookahead(optim.SGD([x], lr=1.0), k=2, slow_dtype=torch.float32) for x in (p, q))
    descend(saved, p, 5, gradient=1 / 256)
    expect_equal("their dtype before it", impl.slow(saved, p).dtype, torch.float32)
    optimizer.load_state_dict(through_file(saved.state_dict()))
    expect_equal("their dtype", impl.slow(optimizer, q).dtype, torch.float32)
    expect_equal("their value", impl.slow(optimizer, q).item(), impl.slow(saved, p).item())


class Lazy(optim.Optimizer):
    """An inner optimizer that fills its state at its first step, by the test that Adam uses."""

    def __init__(self, params: Sequence[nn.Parameter]) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:
        for p in self.param_groups[0]["params"]:
            if len(self.state[p]) == 0:
                self.state[p]["mean"] = torch.zeros_like(p)
            p.sub_(self.state[p]["mean"].add_(p.grad))


@check(15, "Nothing is in the inner state before the inner optimizer's first step")
def lazy_state(impl: Adapter) -> None:
    p = weight(0.0)
    descend(impl.lookahead(Lazy([p]), k=1), p, 3)


@check(15, "get_optimizer_state_dict (distributed checkpoint) works and leaves the run alone")
def distributed_get(impl: Adapter) -> None:
    results = []
    for look in (False, True):
        model = network()
        optimizer = impl.lookahead(momentum(model), k=5)
        train(model, optimizer, 7)
        optimizer.zero_grad(set_to_none=True)
        if look:
            get_optimizer_state_dict(model, optimizer)
        train(model, optimizer, 8, first=7)
        results.append(weights(model))
    expect_same("the live run after it", results[1], results[0])


@check(15, "A resume through get_optimizer_state_dict and set_optimizer_state_dict is exact")
def distributed_resume(impl: Adapter) -> None:
    def transfer(model: nn.Module, optimizer: optim.Optimizer, resumed: nn.Module, other: optim.Optimizer) -> None:
        state = through_file(get_optimizer_state_dict(model, optimizer))
        set_optimizer_state_dict(resumed, other, state)

    resumes_exactly(lambda model: impl.lookahead(momentum(model), k=5), transfer)
