"""Points 16 and 17: evaluation on the slow weights."""

from __future__ import annotations

import copy
from contextlib import suppress

import torch
from torch import nn, optim
from torch.optim.swa_utils import update_bn

from benchmarks.capabilities.adapters import Adapter
from benchmarks.capabilities.check import check, expect, expect_equal, expect_error
from benchmarks.capabilities.scenarios import descend, live_bytes, train, weight


def fallen(impl: Adapter) -> tuple[nn.Parameter, optim.Optimizer, float, float]:
    """Return a weight in the middle of an inner loop, its optimizer, and its slow and fast values."""
    p = weight(8.0)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0), k=2)
    for _ in range(4):
        fast = descend(optimizer, p, 1)[-1]
        slow = impl.slow(optimizer, p)
        if slow is not None and slow.item() != fast:
            return p, optimizer, slow.item(), fast
    raise AssertionError("no step at which the slow weights differ from the fast ones")


@check(16, "The model holds the slow weights inside and the fast ones after, also after an exception")
def swap(impl: Adapter) -> None:
    p, optimizer, slow, fast = fallen(impl)
    with impl.slow_weights(optimizer):
        expect_equal("inside", p.item(), slow)
    expect_equal("after", p.item(), fast)
    with suppress(KeyError), impl.slow_weights(optimizer):
        raise KeyError
    expect_equal("after an exception", p.item(), fast)


@check(16, "May be nested")
def nested_evaluation(impl: Adapter) -> None:
    p, optimizer, slow, fast = fallen(impl)
    with impl.slow_weights(optimizer):
        with impl.slow_weights(optimizer):
            expect_equal("in the inner block", p.item(), slow)
        expect_equal("in the outer block", p.item(), slow)
    expect_equal("after both blocks", p.item(), fast)


@check(16, "Works in place and without a third copy of the parameters")
def evaluation_memory(impl: Adapter) -> None:
    params = [weight(8.0, size=1000) for _ in range(10)]
    optimizer = impl.lookahead(optim.SGD(params, lr=1.0), k=2)
    descend(optimizer, params, 3)
    addresses, before = [p.data_ptr() for p in params], live_bytes()
    with impl.slow_weights(optimizer):
        inside = live_bytes() - before
        expect([p.data_ptr() for p in params] == addresses, "the parameters are other tensors inside")
    expect(inside <= 4000, f"{inside} bytes more inside, where the parameters take {4000 * len(params)}")
    expect([p.data_ptr() for p in params] == addresses, "the parameters are other tensors after it")
    expect_equal("bytes that stay after it", live_bytes() - before, 0)


@check(16, "step() and state_dict() inside are errors")
def guarded(impl: Adapter) -> None:
    p, optimizer, _, _ = fallen(impl)
    with impl.slow_weights(optimizer):
        expect_error("step() inside", lambda: descend(optimizer, p, 1))
        expect_error("state_dict() inside", optimizer.state_dict)


@check(16, "Changes nothing before the first step, also where weights were loaded")
def before_the_first_step(impl: Adapter) -> None:
    p = weight(0.0)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0))
    p.data.fill_(8.0)
    with impl.slow_weights(optimizer):
        expect_equal("inside", p.item(), 8.0)
    expect_equal("after", p.item(), 8.0)


def normalized(impl: Adapter) -> tuple[nn.Module, optim.Optimizer, list[torch.Tensor]]:
    """Return a trained network with batch norm, its optimizer, and batches for the statistics."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = impl.lookahead(optim.SGD(model.parameters(), lr=0.5), k=5)
    train(model, optimizer, 8)
    return model, optimizer, [torch.randn(8, 3) for _ in range(3)]


def snapshot(model: nn.Module) -> list[object]:
    """Return all that a change of statistics touches, for comparison to the last bit."""
    tensors = [value.flatten().tolist() for value in model.state_dict().values()]
    return [*tensors, *(module.training for module in model.modules()), model[1].momentum]


@check(17, "Batch-norm statistics are re-estimated for the slow weights, and the old ones come back")
def statistics(impl: Adapter) -> None:
    model, optimizer, batches = normalized(impl)
    before = snapshot(model)
    with impl.slow_weights(optimizer):
        expected = copy.deepcopy(model)
    update_bn(batches, expected)
    with impl.estimated(optimizer, model, batches):
        for name, buffer in model[1].named_buffers():
            error = float((buffer - getattr(expected[1], name)).abs().max())
            expect(error <= 1e-6, f"{name} is off by {error:.1g} from update_bn on the slow weights")
    expect(snapshot(model) == before, "weights, buffers, modes or momenta are others after it")


@check(17, "Weights, buffers, modes and momenta come back where the batches raise")
def failing_batches(impl: Adapter) -> None:
    model, optimizer, batches = normalized(impl)
    before = snapshot(model)

    def broken():
        yield batches[0]
        raise KeyError("no more batches")

    def body() -> None:
        with impl.estimated(optimizer, model, broken()):
            pass

    expect_error("batches that raise", body, KeyError)
    expect(snapshot(model) == before, "weights, buffers, modes or momenta are others after it")
