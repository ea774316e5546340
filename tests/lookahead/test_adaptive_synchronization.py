"""What a synchronization does with AdaptiveAlpha: clipping, groups, the closure, checkpoints, bad arguments."""

import copy
import io
import math

import pytest
import torch
from torch import nn

from lookahead import AdaptiveAlpha, Lookahead
from tests.helpers.trajectories import ADAPTIVE_INNERS, parameter


@pytest.mark.parametrize(("fresh", "raw", "used"), [(-1.0, 0.0, 0.25), (1.0, 2.0, 1.0)])
def test_is_clipped_to_low_and_one(fresh, raw, used):
    # d = -1 (lr 1, gradient 1), A = 1: alpha = 1 + g. A fresh gradient of 1 says go on, one of -1 go back.
    p = parameter(0.0)
    gradients = iter([1.0, fresh])

    def closure():
        p.grad = torch.tensor([next(gradients)])

    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=1, alpha=AdaptiveAlpha(0.25, "fresh", beta=0.0))
    optimizer.step(closure)
    assert optimizer.last_alpha_raw.item() == raw
    assert (optimizer.last_alpha.item(), p.item()) == (used, -used)


def test_one_alpha_for_all_groups_that_have_it_and_a_fixed_one_beside_it():
    a, b, c = parameter(0.0), parameter(0.0), parameter(0.0)
    adaptive = AdaptiveAlpha(0.0, "fresh", beta=0.0)
    groups = [{"params": [a]}, {"params": [b], "lr": 2.0}, {"params": [c], "lookahead_alpha": 0.25}]
    optimizer = Lookahead(torch.optim.SGD(groups, lr=1.0), k=1, alpha=adaptive)
    values = iter([1.0, -0.5, 1.0, -0.5])

    def closure():
        value = next(values)
        for p in (a, b, c):
            p.grad = torch.tensor([value])

    optimizer.step(closure)
    # d = -1 and -2, A = 1, g = -1/2 at theta_k: alpha = 1 - (1/2 + 1) / (1 + 4) = 0.7.
    assert [a.item(), b.item()] == pytest.approx([-0.7, -1.4], rel=1e-6)
    assert c.item() == -0.25
    # Only groups that synchronize now count: without b, d = -1 gives 1 - 1/2 / 1.
    optimizer.param_groups[1]["lookahead_k"] = 3
    optimizer.step(closure)
    assert optimizer.last_alpha_raw.item() == 0.5  # not the fixed one's
    assert [a.item(), b.item()] == pytest.approx([-0.7 - 0.5, -1.4 - 2.0], rel=1e-6)


# The closure


@pytest.mark.parametrize("k", [2, 3])
def test_fresh_without_a_closure_is_an_error_before_anything_moves(k):
    p = parameter(1.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=0.1), k=k, alpha=AdaptiveAlpha(0.2, "fresh"))
    p.grad = torch.ones(1)
    for _ in range(k - 1):
        optimizer.step()  # torch's checkpointing takes such a step to make state
    before = p.item()
    with pytest.raises(RuntimeError, match=r"fresh.*step\(closure\)"):
        optimizer.step()
    assert (p.item(), optimizer.param_groups[0]["lookahead_step"]) == (before, k - 1)


def test_a_closure_that_raises_at_theta_k_loses_no_synchronization():
    p = parameter(0.0)
    calls = []

    def closure():
        calls.append(None)
        if len(calls) == 3:
            raise KeyError
        p.grad = torch.ones(1)

    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, alpha=AdaptiveAlpha(0.0, "fresh", beta=0.0))
    optimizer.step(closure)
    with pytest.raises(KeyError):
        optimizer.step(closure)
    optimizer.step(closure)
    # theta = -3 after the step that was taken twice; fresh gradient 1: alpha = 1 - (-3)/9, so 1.
    assert (optimizer.last_alpha.item(), p.item()) == (1.0, -3.0)
    assert optimizer.param_groups[0]["lookahead_step"] == 2


# Checkpoints


def trained(optimizer, params, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        noise = [torch.randn(p.shape, generator=generator) for p in params]

        def closure(noise=noise):
            for p, n in zip(params, noise, strict=True):
                p.grad = p.detach() + n

        optimizer.step(closure)


@pytest.mark.parametrize("gradient", ["last", "fresh"])
@pytest.mark.parametrize("inner_state", ["maintain", "interpolate", "reset"])
@pytest.mark.parametrize("name", ADAPTIVE_INNERS)
@pytest.mark.parametrize("stop", [2, 3])  # inside an inner loop, and at its end
def test_resume_is_exact_to_the_last_bit(name, inner_state, gradient, stop):
    def make(seed):
        torch.manual_seed(seed)
        params = [nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(2, 3))]
        return params, Lookahead(ADAPTIVE_INNERS[name](params), 3, AdaptiveAlpha(0.1, gradient, power=0.5), inner_state)

    params, optimizer = make(0)
    trained(optimizer, params, stop, seed=1)
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "params": [p.detach() for p in params]}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed, again = make(5)
    with torch.no_grad():
        for p, value in zip(resumed, saved["params"], strict=True):
            p.copy_(value)
    again.load_state_dict(saved["optimizer"])
    twin, copied = copy.deepcopy((params, optimizer))
    for ps, o in ((params, optimizer), (resumed, again), (twin, copied)):
        trained(o, ps, 8, seed=2)
    for p, q, r in zip(params, resumed, twin, strict=True):
        assert torch.equal(p, q)
        assert torch.equal(p, r)
    assert optimizer.last_alpha == again.last_alpha == copied.last_alpha
    assert optimizer.last_alpha_raw != 1.0


def test_a_checkpoint_holds_it_as_text_and_a_different_one_is_told():
    p = parameter(1.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=0.1), alpha=AdaptiveAlpha(0.2))
    text = "AdaptiveAlpha(low=0.2, gradient='last', power=1.0, beta=0.999)"
    assert text in repr(optimizer)
    state = optimizer.state_dict()
    assert state["param_groups"][0]["lookahead_alpha"] == text
    assert isinstance(optimizer.param_groups[0]["lookahead_alpha"], AdaptiveAlpha)
    other = Lookahead(torch.optim.SGD([parameter(1.0)], lr=0.1), alpha=AdaptiveAlpha(0.3))
    with pytest.warns(UserWarning, match=r"lookahead_alpha=AdaptiveAlpha\(low=0.2.*used: AdaptiveAlpha\(low=0.3"):
        other.load_state_dict(state)
    # and one that was adaptive goes on with a fixed alpha, and the other way round
    fixed = Lookahead(torch.optim.SGD([p], lr=0.1), k=1, alpha=0.5)
    with pytest.warns(UserWarning, match=r"used: 0\.5"):
        fixed.load_state_dict(state)
    p.grad = torch.ones(1)
    fixed.step()
    adaptive = Lookahead(torch.optim.SGD([p], lr=0.1), k=1, alpha=AdaptiveAlpha(0.5))
    with pytest.warns(UserWarning, match=r"0\.5 .given here"):
        adaptive.load_state_dict(fixed.state_dict())
    p.grad = None
    adaptive.step()  # no gradient seen yet: nothing is known
    assert adaptive.last_alpha.item() == 1.0


# Bad arguments


@pytest.mark.parametrize("low", [-0.1, 1.1, math.nan, "0.2", None, True])
def test_bad_low(low):
    with pytest.raises(ValueError, match=r"low must be a number in \[0, 1\], not "):
        AdaptiveAlpha(low)


def test_bad_options():
    with pytest.raises(ValueError, match="gradient must be one of last, fresh, not 'first'"):
        AdaptiveAlpha(0.2, "first")
    with pytest.raises(ValueError, match=r"power must be 1 \(Fisher\) or 0.5 .*, not 2"):
        AdaptiveAlpha(0.2, power=2)
    with pytest.raises(ValueError, match=r"beta must be a number in \[0, 1\), not 1"):
        AdaptiveAlpha(0.2, beta=1)
