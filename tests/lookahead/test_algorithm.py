"""What Lookahead computes: Algorithm 1 and Equations 1 and 2, by hand and against the reference loop."""

import itertools

import pytest
import torch
from torch import nn

from lookahead import Lookahead
from lookahead.reference import lookahead as reference
from tests.helpers.trajectories import INNERS, Noisy, constant_gradient_steps, make_params, parameter, slow_of


def test_trajectory_worked_by_hand():
    # lr 1 and gradient 1: each inner step subtracts 1. With k = 2 and alpha = 1/2, from phi = 3 the fast
    # weights go 2, 1, and the outer update gives 3 + (1 - 3)/2 = 2; then 1, 0 and 2 + (0 - 2)/2 = 1.
    p = parameter(3.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, alpha=0.5)
    assert constant_gradient_steps(optimizer, [p], 5) == [2.0, 2.0, 1.0, 1.0, 0.0]


def test_equation_2():
    # phi_t as the average of the final fast weights of each inner loop. Equation 2's indices are off by
    # one; Equation 1 unrolled is phi_T = alpha * sum_t (1 - alpha)^(T - t) theta_{t,k} + (1 - alpha)^T phi_0.
    alpha, k, outer = 0.3, 4, 12
    params = make_params()
    start = [p.detach().clone() for p in params]
    optimizer = Lookahead(torch.optim.SGD(params, lr=0.1, momentum=0.9), k=k, alpha=alpha)
    ends = []
    optimizer.inner.register_step_post_hook(lambda *_: ends.append([p.detach().clone() for p in params]))
    step = Noisy(params, optimizer)
    for _ in range(k * outer):
        step()
    ends = ends[k - 1 :: k]
    for n, slow in enumerate(slow_of(optimizer, params)):
        average = alpha * sum((1 - alpha) ** (outer - t) * ends[t - 1][n] for t in range(1, outer + 1))
        # Both sum 13 numbers of order 1 in float64 (spacing 2e-16).
        torch.testing.assert_close(slow, average + (1 - alpha) ** outer * start[n], rtol=0, atol=1e-13)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("k", [1, 2, 5, 10])
@pytest.mark.parametrize("name", INNERS)
def test_matches_the_reference_loop(name, k, alpha):
    ours, theirs = make_params(), make_params()
    optimizer, inner = Lookahead(INNERS[name](ours), k=k, alpha=alpha), INNERS[name](theirs)
    step = Noisy(ours, optimizer)
    errors = []
    for phi in itertools.islice(reference(theirs, inner, Noisy(theirs, inner), k, alpha), 100 // k):
        for _ in range(k):
            step()
        for slow, p, expected in zip(slow_of(optimizer, ours), ours, phi, strict=True):
            errors += [(slow - expected).abs().max(), (p.detach() - expected).abs().max()]
    # Only the rounding of the interpolation differs, 2e-16 each time on weights of order 1, and the quadratic
    # damps it (at most 1e-15 is seen); LBFGS divides by differences of noisy gradients (2e-14 is seen).
    assert torch.stack(errors).max() <= (1e-12 if name == "lbfgs" else 1e-14)


@pytest.mark.parametrize("inner_state", ["interpolate", "reset"])
@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
@pytest.mark.parametrize(
    ("name", "moments"), [("sgd_momentum", ["momentum_buffer"]), ("adamw", ["exp_avg", "exp_avg_sq"])]
)
def test_matches_the_reference_loop_with_inner_state(name, moments, alpha, inner_state):
    ours, theirs = make_params(), make_params()
    optimizer, inner = Lookahead(INNERS[name](ours), 5, alpha, inner_state), INNERS[name](theirs)
    step = Noisy(ours, optimizer)
    loop = reference(theirs, inner, Noisy(theirs, inner), 5, alpha, inner_state, moments)
    for phi in itertools.islice(loop, 20):
        for _ in range(5):
            step()
        torch.testing.assert_close([p.detach() for p in ours], phi, rtol=0, atol=1e-14)  # as above
        for p, q in zip(ours, theirs, strict=True):
            for key in (*moments, *(["step"] if name == "adamw" else [])):
                torch.testing.assert_close(optimizer.state[p][key], inner.state[q][key], rtol=0, atol=1e-14)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", INNERS)
def test_alpha_1_is_the_inner_optimizer_to_the_last_bit(name, k):
    ours, alone = make_params(torch.float32), make_params(torch.float32)
    step, step_alone = Noisy(ours, Lookahead(INNERS[name](ours), k, 1.0)), Noisy(alone, INNERS[name](alone))
    for _ in range(100):
        assert step() == step_alone()
        assert all(torch.equal(p, q) for p, q in zip(ours, alone, strict=True))


def test_alpha_0_returns_to_the_start_to_the_last_bit():
    params = make_params(torch.float32)
    start = [p.detach().clone() for p in params]
    step = Noisy(params, Lookahead(torch.optim.SGD(params, lr=0.1), k=3, alpha=0.0))
    for n in range(1, 10):
        step()
        assert torch.equal(params[0], start[0]) == (n % 3 == 0)


def test_k_and_alpha_per_group():
    a, b, c = parameter(0.0), parameter(0.0), parameter(0.0)
    groups = [{"params": [a]}, {"params": [b], "lookahead_k": 3}, {"params": [c], "lookahead_alpha": 0.25}]
    optimizer = Lookahead(torch.optim.SGD(groups, lr=1.0), k=2, alpha=0.5)
    constant_gradient_steps(optimizer, [a, b, c], 4)
    # a: -1, -2 -> -1, -2, -3 -> -2. b: -1, -2, -3 -> -1.5, -2.5. c: -1, -2 -> -0.5, -1.5, -2.5 -> -1.
    assert [a.item(), b.item(), c.item()] == [-2.0, -2.5, -1.0]


def test_every_weight_synchronizes_whether_or_not_it_has_a_gradient_on_that_step():
    a, b = parameter(0.0), parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([a, b], lr=1.0), k=2, alpha=0.5)
    constant_gradient_steps(optimizer, [a, b], 1)
    b.grad = None
    a.grad = torch.ones(1)
    optimizer.step()
    assert (a.item(), b.item()) == (-1.0, -0.5)


def test_updates_in_place():
    # Captured graphs and compiled code keep addresses.
    params = make_params()
    optimizer = Lookahead(torch.optim.SGD(params, lr=0.1), k=2)
    addresses = [p.data_ptr() for p in params]
    step = Noisy(params, optimizer)
    step()
    addresses += [s.data_ptr() for s in slow_of(optimizer, params)]
    for _ in range(3):
        step()
    with optimizer.slow_weights():
        assert [t.data_ptr() for t in (*params, *slow_of(optimizer, params))] == addresses
    assert [t.data_ptr() for t in (*params, *slow_of(optimizer, params))] == addresses


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_other_dtypes(dtype):
    # The hand-worked trajectory's numbers are exact in every dtype. A second dtype makes the lists mixed.
    p, q = nn.Parameter(torch.tensor([3.0], dtype=dtype)), parameter(3.0)
    optimizer = Lookahead(torch.optim.SGD([p, q], lr=1.0), k=2)
    constant_gradient_steps(optimizer, [p, q], 3)
    assert (p.item(), q.item(), p.dtype) == (1.0, 1.0, dtype)
