"""Points 7 and 9 to 11: what drives a torch Optimizer (schedules, GradScaler, closures, late groups)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import optim
from torch.optim import lr_scheduler as schedules

from benchmarks.capabilities.adapters import Adapter
from benchmarks.capabilities.check import check, expect, expect_equal, expect_same
from benchmarks.capabilities.scenarios import descend, momentum, network, synchronizations, train, weight, weights


@check(7, "A torch Optimizer whose groups, state and defaults are the inner one's, also after a load")
def properties(impl: Adapter) -> None:
    model = network()
    inner = momentum(model)
    optimizer = impl.lookahead(inner)
    expect(isinstance(optimizer, optim.Optimizer), "not a torch.optim.Optimizer")
    train(model, optimizer, 2)
    for when in ("", " after load_state_dict"):
        expect(optimizer.param_groups is inner.param_groups, f"param_groups are not the inner ones{when}")
        first = next(model.parameters())
        expect("momentum_buffer" in optimizer.state.get(first, {}), f"no inner state in its state{when}")
        expect(optimizer.defaults.get("lr") == 0.1, f"no inner lr in its defaults{when}")
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


SCHEDULES: dict[str, Callable[[optim.Optimizer], Any]] = {
    "LambdaLR": lambda o: schedules.LambdaLR(o, lambda n: 1 / (n + 1)),
    "MultiplicativeLR": lambda o: schedules.MultiplicativeLR(o, lambda n: 0.9),
    "StepLR": lambda o: schedules.StepLR(o, 2),
    "MultiStepLR": lambda o: schedules.MultiStepLR(o, [2, 4]),
    "ConstantLR": lambda o: schedules.ConstantLR(o, total_iters=3),
    "LinearLR": lambda o: schedules.LinearLR(o, total_iters=3),
    "ExponentialLR": lambda o: schedules.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: schedules.PolynomialLR(o, 5),
    "CosineAnnealingLR": lambda o: schedules.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 3),
    "SequentialLR": lambda o: schedules.SequentialLR(o, [schedules.LinearLR(o), schedules.StepLR(o, 2)], [3]),
    "ChainedScheduler": lambda o: schedules.ChainedScheduler([schedules.LinearLR(o), schedules.StepLR(o, 2)]),
    "ReduceLROnPlateau": lambda o: schedules.ReduceLROnPlateau(o, patience=0),
    "SWALR": lambda o: optim.swa_utils.SWALR(o, 0.01, anneal_epochs=3),
}
CYCLES: dict[str, Callable[[optim.Optimizer], Any]] = {
    "OneCycleLR": lambda o: schedules.OneCycleLR(o, 0.5, total_steps=13),
    "CyclicLR": lambda o: schedules.CyclicLR(o, 0.01, 0.5, step_size_up=2, cycle_momentum=True),
}


def follow_schedules(impl: Adapter, choices: dict[str, Callable], load: bool = False) -> None:
    """Train under each schedule for less than k steps, where the weights must be those of the inner optimizer alone."""
    for name, build in choices.items():
        results = []
        for wrap in (lambda inner: inner, lambda inner: impl.lookahead(inner, k=1000)):
            model = network()
            optimizer = wrap(momentum(model))
            schedule = build(optimizer)
            for step in range(12):
                train(model, optimizer, 1, first=step)
                schedule.step(*[1.0] * isinstance(schedule, schedules.ReduceLROnPlateau))
                if load and step == 5:
                    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            results.append(weights(model))
        expect_same(f"{name}, against the inner optimizer alone", *results)


@check(7, "Every scheduler of torch works")
def schedulers(impl: Adapter) -> None:
    follow_schedules(impl, SCHEDULES)


@check(7, "OneCycleLR and CyclicLR cycle the momentum")
def momentum_cycles(impl: Adapter) -> None:
    follow_schedules(impl, CYCLES)


@check(7, "A schedule goes on after load_state_dict")
def schedule_after_load(impl: Adapter) -> None:
    follow_schedules(impl, SCHEDULES, load=True)


def scaled_run(impl: Adapter, overflows: set[int], **options: Any) -> list[float]:
    """Train under a GradScaler; at each of `overflows` comes one more step, with an infinite loss."""
    model = network()
    optimizer = impl.lookahead(optim.SGD(model.parameters(), lr=0.1, **options), k=2)
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    for number in range(9):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
        for factor in ([math.inf] if number in overflows else []) + [1.0]:
            optimizer.zero_grad()
            scaler.scale(model(x).square().mean() * factor).backward()
            scaler.step(optimizer)
            scaler.update()
    return weights(model)


@check(9, "A step that GradScaler skips does not count")
def skipped_step(impl: Adapter) -> None:
    # The scale halves at an overflow: a power of two, so nothing else changes.
    expect_same("with skipped steps", scaled_run(impl, {1, 4}), scaled_run(impl, set()))


@check(9, "... with a fused inner optimizer too")
def skipped_fused_step(impl: Adapter) -> None:
    runs = (scaled_run(impl, overflows, fused=True) for overflows in ({1, 4}, set()))
    expect_same("with skipped steps", *runs)


@check(10, "A closure is called, and its loss comes back")
def closure_loss(impl: Adapter) -> None:
    p = weight(8.0)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0))
    calls = []

    def closure() -> float:
        calls.append(p.item())
        p.grad = torch.ones_like(p)
        return 0.25

    expect_equal("the returned loss", optimizer.step(closure), 0.25)
    expect_equal("the weight at each call", calls, [8.0])


@check(10, "The first gradient may appear only in the closure: slow weights start before that step too")
def gradient_in_closure(impl: Adapter) -> None:
    p = weight(8.0)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0), k=2, alpha=0.0)
    seen = []

    def closure() -> None:
        p.grad = torch.ones_like(p)

    for _ in range(4):
        optimizer.step(closure)
        seen.append(p.item())
    expect_equal("the highest weight seen with alpha=0 from 8.0", max(seen), 8.0)


def late_group(impl: Adapter, through_wrapper: bool) -> None:
    """Add a group after two steps and look whether it is ever synchronized."""
    p, late = weight(0.0), weight(0.0)
    inner = optim.SGD([p], lr=1.0)
    optimizer = impl.lookahead(inner, k=2)
    descend(optimizer, p, 2)
    (optimizer if through_wrapper else inner).add_param_group({"params": [late]})
    seen = descend(optimizer, [late, p], 6)
    expect(bool(synchronizations(seen, 0.0)), "the late group is never synchronized")


@check(11, "A group added through the wrapper is synchronized")
def group_through_wrapper(impl: Adapter) -> None:
    late_group(impl, through_wrapper=True)


@check(11, "A group added on the inner optimizer is synchronized")
def group_on_inner(impl: Adapter) -> None:
    late_group(impl, through_wrapper=False)


@check(11, "A late group synchronizes in phase with the others")
def phase(impl: Adapter) -> None:
    late_steps = []
    for watched in (0, 1):
        params = weight(0.0), weight(0.0)
        optimizer = impl.lookahead(optim.SGD([params[0]], lr=1.0), k=3)
        descend(optimizer, params[0], 1)
        optimizer.add_param_group({"params": [params[1]]})
        seen = descend(optimizer, [params[watched], params[1 - watched]], 12)[5:]
        late_steps.append([n + 7 for n in synchronizations(seen[1:], seen[0])])
    expect_equal("the late group's synchronizations", late_steps[1], late_steps[0])
