"""The Transformer's schedule against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from experiments.translation.schedule import inverse_sqrt


def rates(count: int, lr: float = 1.0, **arguments) -> list[float]:
    """Return the rates of the first updates."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = inverse_sqrt(optimizer, **arguments)
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_it_warms_up_linearly_and_falls_with_the_inverse_square_root():
    # 1/4 / 2, 2/4 / 2, 3/4 / 2, 1 / 2, 1 / sqrt(5), ..., 1 / 4
    found = rates(16, warmup=4)
    assert found[:4] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert found[4] == pytest.approx(1 / math.sqrt(5))
    assert found[15] == pytest.approx(0.25)


def test_without_warm_up_it_is_constant_first():
    found = rates(16, lr=0.02, warmup=4, linear_warmup=False, multiplier=2)
    assert found[:4] == pytest.approx([0.02] * 4)
    assert found[15] == pytest.approx(0.01)


def test_with_the_hidden_size_the_greatest_rates_are_the_published_ones():
    vaswani = rates(4000, lr=1.0, warmup=4000, hidden_size=512)
    assert max(vaswani) == vaswani[-1] == pytest.approx(6.99e-4, rel=1e-3)
    tensor2tensor = rates(8000, lr=2.0, warmup=8000, hidden_size=512)
    assert max(tensor2tensor) == pytest.approx(9.88e-4, rel=1e-3)


@pytest.mark.parametrize(("lr", "greatest"), [(0.02, 2e-4), (0.04, 4e-4), (0.06, 6e-4)])
def test_the_rates_that_the_paper_searched_are_trainable_ones(lr, greatest):
    assert max(rates(10_001, lr=lr, warmup=10_000)) == pytest.approx(greatest)


def test_a_shorter_run_goes_through_the_same_rates_faster():
    whole, half = rates(16, warmup=4), rates(8, warmup=4, time=0.5)
    assert half == pytest.approx(whole[1::2])


def test_adafactor_has_torch_s_relative_rate_once_the_warm_up_is_over():
    # torch takes min(lr, 1/sqrt(t)), so that the schedule's 1/sqrt(max(t, warmup)) binds until the warm-up is over.
    for t, rate in enumerate(rates(16, lr=1.0, warmup=4), start=1):
        assert min(rate, 1 / math.sqrt(t)) == pytest.approx(min(1, t / 4) / math.sqrt(max(t, 4)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"warmup": 0}, "schedule.warmup=0 is not possible; give a number above 0"),
        ({"warmup": True}, "schedule.warmup=True is not possible"),
        ({"warmup": 4, "multiplier": -1}, "schedule.multiplier=-1 is not possible; give a number above 0"),
        ({"warmup": 4, "time": 0.0}, "schedule.time=0.0 is not possible"),
        ({"warmup": 4, "linear_warmup": 1}, "schedule.linear_warmup=1 is not possible; give true or false"),
        ({"warmup": 4, "hidden_size": 0}, "schedule.hidden_size=0 is not possible; give a whole number"),
    ],
)
def test_values_out_of_range_are_named(arguments, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        rates(1, **arguments)
