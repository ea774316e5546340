"""Lookahead under learning rate schedules, whose rates reach the inner optimizer, and under GradScaler."""

import copy
import math

import pytest
import torch
from torch.optim import lr_scheduler

from tests.helpers.two_layers import make, same, train

SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 7]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, total_iters=9),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 10, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda n: 1 / (1 + n)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda n: 0.9),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.5, total_steps=20),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.5, step_size_up=4),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.01),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, total_iters=4), lr_scheduler.ExponentialLR(o, 0.9)], [4]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o, total_iters=4), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in")  # older versions of SequentialLR use it themselves
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"inner": torch.optim.Adam}], ids=["sgd", "adam"])
def test_schedules_reach_the_inner_optimizer_also_after_a_load(name, options):
    # With alpha = 1 the weights are those of the inner optimizer alone, under the same schedule.
    model, optimizer = make(k=2, alpha=1.0, **options)
    alone = copy.deepcopy(model)
    plain = type(optimizer.inner)(alone.parameters(), lr=0.1, **{n: v for n, v in options.items() if n != "inner"})
    schedule, schedule_alone = SCHEDULERS[name](optimizer), SCHEDULERS[name](plain)
    rates = []
    for number in range(12):
        if number == 6:
            for o, s in ((optimizer, schedule), (plain, schedule_alone)):
                o.load_state_dict(copy.deepcopy(o.state_dict()))
                s.load_state_dict(copy.deepcopy(s.state_dict()))
        for m, o, s in ((model, optimizer, schedule), (alone, plain, schedule_alone)):
            train(m, o, 1, first=number)
            s.step(*([1.0] if name == "ReduceLROnPlateau" else []))
        assert same(model, alone)
        rates.append(optimizer.param_groups[0]["lr"])
    assert len(set(rates[6:])) > 1 or name in ("ConstantLR", "SWALR", "MultiStepLR")


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_grad_scaler_skips_does_not_count(fused):
    model, optimizer = make(k=2, alpha=0.5, inner=torch.optim.Adam, fused=fused)
    other, unscaled = make(k=2, alpha=0.5, inner=torch.optim.Adam, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for number in range(5):
        bad = number in (0, 2)
        optimizer.zero_grad()
        loss = (model(torch.full((1, 3), float(number))) ** 2).mean()
        scaler.scale(loss * math.inf if bad else loss).backward()
        before = copy.deepcopy(model)
        scaler.step(optimizer)
        scaler.update()
        if bad:
            assert same(model, before)
        else:
            unscaled.zero_grad()
            (other(torch.full((1, 3), float(number))) ** 2).mean().backward()
            unscaled.step()
        assert same(model, other)  # scales are powers of two: exact
    assert optimizer.param_groups[0]["lookahead_step"] == 3
