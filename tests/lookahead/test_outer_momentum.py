"""Momentum on the outer update: by hand, against the reference loop, its memory, checkpoints, and bad arguments."""

import itertools

import pytest
import torch
from torch import nn

from lookahead import AdaptiveAlpha, Lookahead
from lookahead.reference import lookahead as reference
from tests.helpers.trajectories import (
    INNERS,
    Noisy,
    constant_gradient_steps,
    equal,
    make_params,
    parameter,
    slow_of,
    steps,
)
from tests.helpers.two_layers import make, train

BUFFER = "lookahead_momentum_buffer"


# lr 1 and gradient 1: each inner step subtracts 1, so s = phi - theta_k = 2 in each round of k = 2. mu = alpha = 1/2.
# b: 2, 1/2 2 + 2 = 3, 1/2 3 + 2 = 7/2. Nesterov steps alpha (mu b + s): 3/2, 7/4, 15/8, from 3 to 3/2, -1/4, -17/8;
# the heavy ball alpha b: 1, 3/2, 7/4, from 3 to 2, 1/2, -5/4.
BY_HAND = {True: [2.0, 1.5, 0.5, -0.25, -1.25, -2.125], False: [2.0, 2.0, 1.0, 0.5, -0.5, -1.25]}


@pytest.mark.parametrize("nesterov", [None, True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_trajectory_worked_by_hand(nesterov, dtype):
    p = nn.Parameter(torch.tensor([3.0], dtype=dtype))
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, alpha=0.5, outer_momentum=0.5, nesterov=nesterov)
    seen = []
    for _ in range(6):
        steps(optimizer, [p], 1)
        seen.append(p.item())
    assert seen == BY_HAND[nesterov is not False]
    assert optimizer.state[p][BUFFER].item() == 3.5
    assert optimizer.state[p][BUFFER].dtype == dtype
    assert optimizer.state[p]["lookahead_slow"].item() == seen[-1]


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize(("momentum", "alpha"), [(0.5, 0.7), (0.9, 0.2), (0.3, 1.0), (0.9, 0.0)])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", INNERS)
def test_matches_the_reference_loop(name, k, momentum, alpha, nesterov):
    ours, theirs = make_params(), make_params()
    optimizer = Lookahead(INNERS[name](ours), k, alpha, outer_momentum=momentum, nesterov=nesterov)
    inner, step = INNERS[name](theirs), Noisy(ours, optimizer)
    loop = reference(theirs, inner, Noisy(theirs, inner), k, alpha, outer_momentum=momentum, nesterov=nesterov)
    errors = []
    for phi in itertools.islice(loop, 100 // k):
        for _ in range(k):
            step()
        for slow, p, expected in zip(slow_of(optimizer, ours), ours, phi, strict=True):
            errors += [((found - expected).abs() / expected.abs().clamp(min=1)).max() for found in (slow, p.detach())]
    # Roundings of 2e-16, which both momenta add up on weights that may grow to 1e3; LBFGS divides by small differences.
    assert torch.stack(errors).max() <= (1e-11 if name == "lbfgs" else 1e-12)


@pytest.mark.parametrize("inner_state", ["interpolate", "reset"])
def test_inner_state_is_treated_as_without_it(inner_state):
    ours, theirs = make_params(), make_params()
    optimizer = Lookahead(INNERS["adamw"](ours), 5, 0.7, inner_state, outer_momentum=0.5)
    inner, step, moments = INNERS["adamw"](theirs), Noisy(ours, optimizer), ["exp_avg", "exp_avg_sq"]
    loop = reference(theirs, inner, Noisy(theirs, inner), 5, 0.7, inner_state, moments, outer_momentum=0.5)
    for phi in itertools.islice(loop, 20):
        for _ in range(5):
            step()
        torch.testing.assert_close([p.detach() for p in ours], phi, rtol=0, atol=1e-13)
        for p, q in zip(ours, theirs, strict=True):
            for key in moments:
                torch.testing.assert_close(optimizer.state[p][key], inner.state[q][key], rtol=0, atol=1e-13)


def test_at_zero_it_is_lookahead_to_the_last_bit_and_to_the_last_byte():
    found = []
    for options in ({}, {"outer_momentum": 0.0}, {"outer_momentum": 0}):
        model, _ = make()
        optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), k=3, alpha=0.3, **options)
        train(model, optimizer, 8)
        state = list(optimizer.state.values())
        assert all(own.keys() == {"momentum_buffer", "lookahead_slow"} for own in state)
        found.append([*(p.detach() for p in model.parameters()), *(own["lookahead_slow"] for own in state)])
    assert equal(found[0], found[1])
    assert equal(found[0], found[2])


def test_it_takes_exactly_one_more_copy():
    def state_bytes(optimizer):
        return sum(t.untyped_storage().nbytes() for own in optimizer.state.values() for t in own.values())

    for slow_dtype, size in ((None, 2), (torch.float32, 4)):
        taken = []
        for momentum in (0.0, 0.5):
            params = [nn.Parameter(torch.randn(shape).bfloat16()) for shape in ((300, 20), (7,), ())]
            optimizer = Lookahead(torch.optim.SGD(params, lr=0.1), k=2, slow_dtype=slow_dtype, outer_momentum=momentum)
            steps(optimizer, params, 1)
            first = state_bytes(optimizer)
            steps(optimizer, params, 4)
            assert state_bytes(optimizer) == first  # from the first step on, as a distributed checkpoint needs
            taken.append(first)
        assert taken[1] - taken[0] == size * sum(p.numel() for p in params)


# Per group, and where a schedule changes it


def test_per_group():
    a, b, c = parameter(3.0), parameter(3.0), parameter(3.0)
    groups = [
        {"params": [a]},
        {"params": [b], "lookahead_nesterov": False},
        {"params": [c], "lookahead_outer_momentum": 0.0},
    ]
    optimizer = Lookahead(torch.optim.SGD(groups, lr=1.0), k=2, alpha=0.5, outer_momentum=0.5)
    steps(optimizer, [a, b, c], 6)
    assert [a.item(), b.item(), c.item()] == [BY_HAND[True][-1], BY_HAND[False][-1], 0.0]
    assert [BUFFER in optimizer.state[p] for p in (a, b, c)] == [True, True, False]
    late = parameter(3.0)
    optimizer.add_param_group({"params": [late], "lookahead_nesterov": False})
    steps(optimizer, [late], 6)
    assert late.item() == BY_HAND[False][-1]
    assert optimizer.param_groups[3]["lookahead_outer_momentum"] == 0.5


def test_of_one_group_alone():
    a, b = parameter(3.0), parameter(3.0)
    groups = [{"params": [a]}, {"params": [b], "lookahead_outer_momentum": 0.5}]
    optimizer = Lookahead(torch.optim.SGD(groups, lr=1.0), k=2, alpha=0.5, nesterov=False)
    steps(optimizer, [a, b], 6)
    assert [a.item(), b.item()] == [0.0, BY_HAND[False][-1]]


def test_turned_on_and_off_and_on_again():
    # s = 2 in each round. Off: 3 -> 2. On: b = 2, step (1 + 2) / 2, 2 -> 1/2. Off: 1/2 -> -1/2, and b stays 2.
    # On: b = 3, step (3/2 + 2) / 2, -1/2 -> -9/4.
    p = parameter(3.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, alpha=0.5)
    seen = []
    for momentum in (0.0, 0.5, 0.0, 0.5):
        optimizer.param_groups[0]["lookahead_outer_momentum"] = momentum
        seen.append(constant_gradient_steps(optimizer, [p], 2)[-1])
    assert seen == [2.0, 0.5, -0.5, -2.25]


def test_a_late_parameter_starts_with_no_momentum():
    p, late = parameter(3.0), parameter(3.0)
    late.requires_grad_(False)
    optimizer = Lookahead(torch.optim.SGD([p, late], lr=1.0), k=2, alpha=0.5, outer_momentum=0.5)
    steps(optimizer, [p], 4)
    assert late not in optimizer.state
    assert constant_gradient_steps(optimizer, [late], 6) == BY_HAND[True]


def test_a_weight_without_gradient_on_the_step_takes_part():
    a, b = parameter(0.0), parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([a, b], lr=1.0), k=2, alpha=0.5, outer_momentum=0.5)
    steps(optimizer, [a, b], 1)
    b.grad = None
    a.grad = torch.ones(1)
    optimizer.step()
    assert (a.item(), b.item()) == (-1.5, -0.75)  # alpha (mu + 1) s


def test_lookaheads_inside_one_another_keep_momenta_of_their_own():
    p, q = make_params()[:1], make_params()[:1]
    nested = Lookahead(
        Lookahead(torch.optim.SGD(p, lr=0.1), k=2, outer_momentum=0.5), k=2, alpha=1.0, outer_momentum=0.0
    )
    alone = Lookahead(torch.optim.SGD(q, lr=0.1), k=2, outer_momentum=0.5)
    step, step_alone = Noisy(p, nested), Noisy(q, alone)
    for _ in range(8):
        step()
        step_alone()
    assert equal(p, q)
    nested.param_groups[0]["lookahead2_outer_momentum"] = 0.9
    for _ in range(4):
        step()
    own = nested.state[p[0]]
    assert not torch.equal(own[BUFFER], own["lookahead2_momentum_buffer"])


# Bad arguments


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 1.5, float("nan"), float("inf"), "0.5", True, None])
def test_momentum_out_of_range_is_refused(momentum):
    for options in ({"outer_momentum": momentum}, {}):
        group = {"params": [parameter(0.0)], **({} if options else {"lookahead_outer_momentum": momentum})}
        with pytest.raises(ValueError, match=rf"outer_momentum must be a number in \[0, 1\), not {momentum!r}"):
            Lookahead(torch.optim.SGD([group], lr=1.0), **options)


@pytest.mark.parametrize("nesterov", [True, False])
def test_a_kind_of_momentum_without_momentum_is_refused(nesterov):
    with pytest.raises(ValueError, match=f"nesterov={nesterov} needs an outer_momentum above 0"):
        Lookahead(torch.optim.SGD([parameter(0.0)], lr=1.0), nesterov=nesterov)


def test_a_kind_of_momentum_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"nesterov must be True .* or False .*, not 1"):
        Lookahead(torch.optim.SGD([parameter(0.0)], lr=1.0), outer_momentum=0.5, nesterov=1)


def test_a_bad_edit_between_steps_is_refused_before_the_inner_step():
    p = parameter(3.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=1, outer_momentum=0.5)
    steps(optimizer, [p], 1)
    before = p.item()
    optimizer.param_groups[0]["lookahead_outer_momentum"] = 1.0
    with pytest.raises(ValueError, match="outer_momentum must be"):
        steps(optimizer, [p], 1)
    assert p.item() == before


def test_with_an_adaptive_alpha_it_is_refused():
    inner = torch.optim.Adam([parameter(0.0)])
    for options in ({"outer_momentum": 0.5}, {"outer_momentum": 0.25}):
        with pytest.raises(ValueError, match=f"{options['outer_momentum']} does not go with an AdaptiveAlpha"):
            Lookahead(inner, alpha=AdaptiveAlpha(0.2), **options)
    optimizer = Lookahead(inner, outer_momentum=0.5)
    with pytest.raises(ValueError, match="does not go with an AdaptiveAlpha"):
        optimizer.add_param_group({"params": [parameter(0.0)], "lookahead_alpha": AdaptiveAlpha(0.2)})


def test_repr_shows_it():
    text = repr(Lookahead(torch.optim.SGD([parameter(0.0)], lr=1.0), outer_momentum=0.5, nesterov=False))
    assert "inner_state='maintain', outer_momentum=0.5, nesterov=False, inner=SGD" in text
    assert "outer_momentum" not in repr(Lookahead(torch.optim.SGD([parameter(0.0)], lr=1.0))).split("inner=")[0]
