"""The adaptive alpha in the engine: what is logged of it, and the closure of a fresh gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from experiments.engine.alpha_log import AlphaLog
from lookahead import AdaptiveAlpha, Lookahead
from tests.helpers.running import history, run_in

SMOKE = ["task=digits", "scale=smoke", "tracker=none"]
COLUMNS = ["lookahead/alpha", "lookahead/alpha_raw", "lookahead/at_low", "lookahead/at_one"]


def watched():
    p = nn.Parameter(torch.tensor([0.0]))
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=1, alpha=AdaptiveAlpha(0.25, "fresh", beta=0.0))

    def step(fresh):
        # d = -1 and A = 1: alpha before clipping is 1 + the fresh gradient.
        gradients = iter([1.0, fresh])

        def closure():
            p.grad = torch.tensor([next(gradients)])

        optimizer.step(closure)

    return optimizer, step


def test_the_last_alpha_and_the_shares_at_the_bounds_since_the_last_row():
    optimizer, step = watched()
    log = AlphaLog(optimizer, torch.device("cpu"))
    assert all(math.isnan(value) for value in log.metrics().values())
    for fresh in (-2.0, -0.5, 1.0, 1.0):  # alpha -1, 0.5, 2, 2
        step(fresh)
        log.after("update", None)
    assert list(log.metrics().items()) == list(zip(COLUMNS, [1.0, 2.0, 0.25, 0.5], strict=True))
    step(-0.5)
    log.after("update", None)
    other = AlphaLog(optimizer, torch.device("cpu"))  # a resumed run's
    other.load_state_dict(log.state_dict())
    for one in (log, other):
        assert list(one.metrics().values()) == [0.5, 0.5, 0.0, 0.0]


def test_steps_between_synchronizations_do_not_count():
    optimizer, step = watched()
    log = AlphaLog(optimizer, torch.device("cpu"))
    step(1.0)
    log.after("update", None)
    optimizer.param_groups[0]["lookahead_k"] = 5
    for _ in range(3):
        step(-2.0)
        log.after("update", None)
    assert log.metrics()["lookahead/at_one"] == 1.0


def test_a_fixed_alpha_is_not_logged(tmp_path):
    run_in(tmp_path, *SMOKE, "optim=la_adamw")
    assert not [name for name in history(tmp_path)[0] if name.startswith("lookahead/")]


@pytest.mark.parametrize("gradient", ["last", "fresh"])
def test_with_low_1_it_trains_as_the_inner_optimizer_alone_and_reports_its_losses(gradient, tmp_path):
    # A fresh gradient's pass is on the same batch; the loss that is recorded is the step's own.
    run_in(tmp_path / "alone", *SMOKE, "optim=adamw")
    run_in(
        tmp_path / "adaptive", *SMOKE, "optim=la_adam_adaptive", "optim.alpha.low=1", f"optim.alpha.gradient={gradient}"
    )
    rows = [history(tmp_path / name) for name in ("alone", "adaptive")]
    assert [row["train/running_loss"] for row in rows[0]] == [row["train/running_loss"] for row in rows[1]]
    for row in rows[1]:
        assert row["lookahead/alpha"] == "1.0"
        assert float(row["lookahead/at_low"]) + float(row["lookahead/at_one"]) == 1.0


def test_a_bad_bound_ends_in_one_line(tmp_path):
    from experiments.engine.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match=r"low must be a number in \[0, 1\], not 2"):
        run_in(tmp_path, *SMOKE, "optim=la_adam_adaptive", "optim.alpha.low=2")
