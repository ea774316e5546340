"""The schedule of the SWA code, by hand."""

import pytest
import torch

from experiments.vision.schedule import held_linear_held


def rates(epochs, lr=0.1, **given):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = held_linear_held(optimizer, **given)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_rate_is_held_falls_and_is_held_again():
    # until = 126: whole up to epoch 63, then 0.1 (1 - 0.5 (epoch / 126 - 0.5) / 0.4), half of it from 113.4 on.
    found = rates(130, until=126, last=0.5)
    assert found[:64] == [0.1] * 64
    assert found[64] == pytest.approx(0.1 * (1 - 0.5 * (64 / 126 - 0.5) / 0.4))
    assert found[88] == pytest.approx(0.1 * (1 - 0.5 * (25 / 126) / 0.4))
    assert found[113] == pytest.approx(0.1 * (1 - 0.5 * (50 / 126) / 0.4))
    assert found[113] > 0.05
    assert found[114:] == pytest.approx([0.05] * 16)


def test_an_average_that_starts_at_once_has_a_low_rate_at_once_where_both_follow_one_knob():
    assert rates(3, until=1, last=0.5) == pytest.approx([0.1, 0.05, 0.05])


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"until": 0, "last": 0.5}, "schedule.until=0"),
        ({"until": None, "last": 0.5}, "schedule.until=None"),
        ({"until": 5, "last": "low"}, "schedule.last=low"),
        ({"until": 5, "last": 0.0}, "schedule.last=0.0"),
        ({"until": 5, "last": float("nan")}, "schedule.last=nan"),
        ({"until": 5, "last": float("inf")}, "schedule.last=inf"),
    ],
)
def test_values_out_of_range_are_named(given, named):
    with pytest.raises(ValueError, match=f"{named} is not possible; give a"):
        rates(1, **given)
