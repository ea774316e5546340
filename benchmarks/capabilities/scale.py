"""Points 18 to 21: speed, memory, precision, several processes, compilation. All on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from benchmarks.capabilities.adapters import Adapter, Unsupported
from benchmarks.capabilities.check import check, expect, expect_equal, expect_error, expect_same
from benchmarks.capabilities.isolation import on_two_ranks
from benchmarks.capabilities.scenarios import (
    BY_HAND,
    Operations,
    descend,
    live_bytes,
    momentum,
    network,
    through_file,
    train,
    weight,
    weights,
)

HOST_SYNCHRONIZATIONS = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero"}


def operations(wrap: Callable[[optim.Optimizer], optim.Optimizer], tensors: int) -> list[list[str]]:
    """Return torch's operations in each of three steps of SGD, the last of an inner loop with k = 3 among them."""
    params = [weight(0.0) for _ in range(tensors)]
    optimizer = wrap(optim.SGD(params, lr=1.0))
    descend(optimizer, params, 6)
    recorded = []
    for _ in range(3):
        with Operations() as seen:
            optimizer.step()
        recorded.append(seen.names)
    return recorded


@check(18, "No step waits for the device (no .item())")
def host_synchronizations(impl: Adapter) -> None:
    for step in operations(lambda inner: impl.lookahead(inner, k=3), tensors=4):
        found = HOST_SYNCHRONIZATIONS.intersection(step)
        expect(not found, f"a step calls {', '.join(found)}")


@check(18, "The number of operations at a synchronization does not grow with the number of parameters")
def fused_update(impl: Adapter) -> None:
    few, many = (sorted(map(len, operations(lambda inner: impl.lookahead(inner, k=3), n))) for n in (4, 40))
    few, many = few[-1] - few[0], many[-1] - many[0]  # more than at a step without synchronization
    expect(0 < many == few, f"{few} more operations than at another step for 4 parameters, {many} for 40")


@check(18, "Keeps exactly one extra copy of the parameters between steps, two with outer momentum")
def memory(impl: Adapter) -> None:
    def taken(wrap: Callable[[optim.Optimizer], optim.Optimizer]) -> int:
        before = live_bytes()
        params = [weight(0.0, size=1000) for _ in range(4)]
        optimizer = wrap(optim.SGD(params, lr=1.0))
        descend(optimizer, params, 5)
        optimizer.zero_grad(set_to_none=True)
        return live_bytes() - before

    extra = taken(lambda inner: impl.lookahead(inner, k=2)) - taken(lambda inner: inner)
    over = extra - 16000 * (2 if impl.outer_momentum else 1)
    expect(0 <= over < 100, f"{extra} bytes more, where the parameters take 16000")  # a scalar is none


@check(18, "Complex parameters and sparse gradients go the same way as real and dense ones")
def complex_and_sparse(impl: Adapter) -> None:
    real, both = weight(8.0), nn.Parameter(torch.full((1,), 8.0 + 8.0j))
    for p, gradient in ((real, 1.0), (both, 1.0 + 1.0j)):
        optimizer = impl.lookahead(optim.SGD([p], lr=1.0), k=2)
        for _ in range(5):
            p.grad = torch.full_like(p, gradient)
            optimizer.step()
    expect_equal("a complex weight", both.item(), complex(real.item(), real.item()))
    results = []
    for sparse in (False, True):
        torch.manual_seed(0)
        embedding = nn.Embedding(6, 2, sparse=sparse)
        optimizer = impl.lookahead(optim.SGD(embedding.parameters(), lr=1.0), k=2)
        for step in range(5):
            optimizer.zero_grad(set_to_none=True)
            embedding(torch.tensor([step, step])).square().sum().backward()
            optimizer.step()
        results.append(weights(embedding))
    expect_same("sparse gradients against dense ones", *results)


@check(19, "bfloat16 weights do not stall: float32 slow weights")
def bfloat16(impl: Adapter) -> None:
    ulp, mu = 1 / 256, impl.outer_momentum
    fast, slow, buffer = weight(1.0, dtype=torch.bfloat16), torch.ones(1), torch.zeros(1)
    for _ in range(50):  # the plain loop with k = 1, slow weights in float32
        s = slow - (fast.data - ulp).float()
        buffer = mu * buffer + s
        slow -= 0.5 * (mu * buffer + s)
        fast.data.copy_(slow)
    p = weight(1.0, dtype=torch.bfloat16)
    inner = optim.SGD([p], lr=1.0)
    try:
        optimizer = impl.lookahead(inner, k=1, slow_dtype=torch.float32)
    except Unsupported:  # perhaps it does so unasked
        optimizer = impl.lookahead(inner, k=1)
    seen = descend(optimizer, p, 50, gradient=ulp)[-1]
    expect_equal("1.0 after 50 outer loops that each step one ulp down, alpha=0.5", seen, fast.item())


@check(19, "Slow weights may be kept on another device (seen here on the CPU only)")
def slow_device(impl: Adapter) -> None:
    p = weight(3.0)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0), k=2, slow_device="cpu")
    expect_equal("the weight after each step", descend(optimizer, p, 5), BY_HAND[impl.outer_momentum])
    expect_equal("the slow weights' device", impl.slow(optimizer, p).device.type, "cpu")


def ddp_run(rank: int, impl: Adapter, late_wrap: bool, zero: bool) -> list[float]:
    """Train under DDP from ranks that start apart (rank 0's start is the one of `network()`)."""
    model = network(seed=rank)
    wrapped = None if late_wrap else DistributedDataParallel(model)
    if zero:
        from torch.distributed.optim import ZeroRedundancyOptimizer  # its import gives 67 warnings

        inner = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=optim.SGD, lr=0.1, momentum=0.9)
    else:
        inner = momentum(model)
    optimizer = impl.lookahead(inner, k=3)
    train(wrapped or DistributedDataParallel(model), optimizer, 10, rank=rank, ranks=2)
    return weights(model)


def fsdp_run(rank: int, impl: Adapter) -> list[float]:
    model = network()
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    train(model, impl.lookahead(momentum(model), k=3), 10, rank=rank, ranks=2)
    return [x for p in model.parameters() for x in p.full_tensor().detach().flatten().tolist()]


def equals_one_process(impl: Adapter, run: Callable[..., list[float]], *arguments: Any) -> None:
    """Compare two ranks with each other and with the same training in one process."""
    first, second = on_two_ranks(run, impl, *arguments)
    expect_same("the ranks after 10 steps", first, second)
    model = network()
    train(model, impl.lookahead(momentum(model), k=3), 10)
    # The mean over a batch is summed in another order: rounding of float32, on weights of order 1.
    expect_same("two ranks against one process", first, weights(model), tolerance=1e-5)


@check(20, "DDP, optimizer built after the wrap")
def ddp_after(impl: Adapter) -> None:
    equals_one_process(impl, ddp_run, False, False)


@check(20, "DDP, optimizer built before the wrap, on ranks that start apart")
def ddp_before(impl: Adapter) -> None:
    equals_one_process(impl, ddp_run, True, False)


@check(20, "FSDP2 (fully_shard)")
def fsdp2(impl: Adapter) -> None:
    equals_one_process(impl, fsdp_run)


@check(20, "ZeroRedundancyOptimizer inside")
def zero_redundancy(impl: Adapter) -> None:
    equals_one_process(impl, ddp_run, False, True)


@check(20, "Lookahead inside Lookahead: both act, and a resume is exact")
def nested(impl: Adapter) -> None:
    def build(*levels: tuple[int, float]) -> tuple[nn.Module, optim.Optimizer]:
        model = network()
        optimizer = momentum(model)
        for k, alpha in levels:
            optimizer = impl.lookahead(optimizer, k=k, alpha=alpha)
        return model, optimizer

    def trained(*levels: tuple[int, float]) -> list[float]:
        model, optimizer = build(*levels)
        train(model, optimizer, 13)
        return weights(model)

    alone, idle = trained((3, 0.5)), (1000, 0.5)
    expect_same("an idle Lookahead outside, against the inner one alone", trained((3, 0.5), idle), alone)
    expect_same("an idle Lookahead inside, against the outer one alone", trained(idle, (3, 0.5)), alone)
    expect(trained((3, 0.5), (6, 0.5)) != alone, "a second Lookahead outside changes nothing")
    (model, optimizer), (resumed, other) = build((3, 0.5), (6, 0.5)), build((3, 0.5), (6, 0.5))
    train(model, optimizer, 8)
    resumed.load_state_dict(model.state_dict())
    other.load_state_dict(through_file(optimizer.state_dict()))
    for m, o in ((model, optimizer), (resumed, other)):
        train(m, o, 12, first=8)
    expect_same("a resumed run", weights(resumed), weights(model))


@check(21, "A compiled inner step gives the same course")
def compiled(impl: Adapter) -> None:
    results = []
    for compile_step in (False, True):
        model = network()
        inner = momentum(model)
        if compile_step:
            inner.step = torch.compile(inner.step, backend="eager")
        train(model, impl.lookahead(inner, k=2), 5)
        results.append(weights(model))
    expect_same("compiled against not", *results)


@check(21, "Capture into a CUDA graph, which would freeze whether a step synchronizes, is an error")
def capture(impl: Adapter) -> None:
    p = weight(0.0)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0), k=2)
    descend(optimizer, p, 3)
    pretended = {name: mock.Mock(return_value=True) for name in ("is_initialized", "is_current_stream_capturing")}
    with mock.patch.multiple("torch.cuda", **pretended):
        expect_error(
            "a step under capture (pretended)", lambda: descend(optimizer, p, 2), RuntimeError, naming="captur"
        )
