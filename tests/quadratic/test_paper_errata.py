"""docs/paper_errata.md: what the paper prints against what holds, each settled by samples, exact numbers or algebra."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from experiments.quadratic import comparisons, noisy
from experiments.quadratic.deterministic import best_alpha, contraction, round_matrix
from experiments.quadratic.noisy import NoisyQuadratic
from lookahead.reference import lookahead

RATE, A_, NOISE = 0.5, 1.6, 0.25  # one coordinate, with a variance that its square is not


def sgd_samples(chains, updates, start, seed=0):
    """Return the last iterate, and the one before it, of SGD on sampled quadratics (Equation 4)."""
    rng, theta = np.random.default_rng(seed), np.full(chains, start)
    for _ in range(updates):
        before, theta = theta, theta - RATE * A_ * (theta - rng.normal(0, np.sqrt(NOISE), chains))
    return theta, before


def test_equation_2_has_a_term_for_each_round():
    alpha, phi = Fraction(1, 4), [Fraction(3)]
    last_fast = [Fraction(n * n - 2) for n in range(6)]  # theta_{0,k}, theta_{1,k}, ...: whatever A made of it
    for theta in last_fast:
        phi.append(phi[-1] + alpha * (theta - phi[-1]))  # Equation 1
    t = 5
    ours = alpha * sum((1 - alpha) ** (t - s) * last_fast[s] for s in range(t + 1)) + (1 - alpha) ** (t + 1) * phi[0]
    printed = alpha * sum((1 - alpha) ** (t - s) * last_fast[s] for s in range(1, t + 1))
    printed += alpha * (1 - alpha) ** (t - 1) * last_fast[0] + (1 - alpha) ** t * phi[0]  # its last two terms
    assert phi[t + 1] == ours
    assert phi[t + 1] != printed
    # The weights of an average sum to 1; as printed they sum to more.
    rest = 1 - alpha
    assert alpha * sum(rest**n for n in range(t + 1)) + rest ** (t + 1) == 1
    assert alpha * (sum(rest**n for n in range(t)) + rest ** (t - 1)) + rest**t == 1 + alpha * rest ** (t - 1)


def test_equation_3_evaluates_the_gradient_where_the_weights_are():
    # L = x^2 / 2, learning rate 1/2, from 1: 1/2, then 1/4. With the gradient at theta_{t,i-1} it would be 1/2, 0.
    p = nn.Parameter(torch.tensor([1.0]))
    inner, seen = torch.optim.SGD([p], lr=0.5), []

    def step():
        p.grad = p.detach().clone()
        inner.step()
        seen.append(p.item())

    next(lookahead([p], inner, step, k=2, alpha=1.0))
    assert seen == [0.5, 0.25]


def test_equation_5_has_the_square_of_the_mean():
    theta, _ = sgd_samples(200_000, updates=2, start=3.0)
    model = NoisyQuadratic(A_, NOISE, 3.0)
    mean, variance = noisy.sgd_moments(model, RATE, 2)
    losses = A_ / 2 * (theta - np.random.default_rng(1).normal(0, np.sqrt(NOISE), theta.size)) ** 2
    error = losses.std() / np.sqrt(losses.size)
    ours = model.excess(mean, variance) + model.irreducible_loss
    assert abs(losses.mean() - ours) < 4 * error
    printed = A_ / 2 * ((theta**2).mean() + variance[0] + NOISE)  # counts the variance twice
    assert abs(losses.mean() - printed) > 20 * error


def test_equation_6_has_sigma_not_its_square():
    chains = 100_000
    theta, _ = sgd_samples(chains, updates=60, start=0.0)
    r = 1 - RATE * A_
    ours = RATE**2 * A_**2 * NOISE / (1 - r**2)
    error = ours * np.sqrt(2 / chains)
    assert abs(theta.var() - ours) < 4 * error
    assert abs(theta.var() - ours * NOISE) > 20 * error  # Sigma^2, also in the last line of the proof
    assert noisy.sgd_steady_variance(NoisyQuadratic(A_, NOISE, 0.0), RATE) == pytest.approx([ours], rel=1e-14)


def test_fixed_point_of_sgd_needs_the_square_of_gamma():
    gamma, a, noise = Fraction(1, 2), Fraction(8, 5), Fraction(1, 4)
    fixed = gamma**2 * a**2 * noise / (1 - (1 - gamma * a) ** 2)  # the second line of A's derivation
    assert fixed == (1 - gamma * a) ** 2 * fixed + gamma**2 * a**2 * noise  # Equation 9 at rest
    assert fixed != (1 - gamma * a) ** 2 * fixed + gamma * a**2 * noise  # the first line, as printed


def test_geometric_sum_ends_at_k_minus_1():
    a, k = Fraction(9, 25), 5
    right = (1 - a**k) / (1 - a)
    assert sum(a**i for i in range(k)) == right
    assert sum(a**i for i in range(k + 1)) == right + a**k  # up to k, as printed


def test_estimate_of_alpha_closes_its_bracket_before_the_transpose():
    rng = np.random.default_rng(0)
    a, minimum, start, end = rng.uniform(0.5, 2, 3), *rng.normal(size=(3, 3))
    gradient, moved = a * (end - minimum), start - end
    ours = (start - (end - gradient / a)) @ (a * moved) / (moved @ (a * moved))
    assert ours == pytest.approx(best_alpha(a, start, end, minimum), rel=1e-12)
    # As printed a scalar is taken from the vector theta_{t,0}. In one dimension, where that has a meaning: a = 2,
    # from 3 to 1 with the minimum at 0, alpha* = 3/2 (test_best_alpha_has_the_least_loss_on_the_line).
    a, start, end, gradient = 2.0, 3.0, 1.0, 2.0
    assert (start - (end - gradient / a)) * a * (start - end) / ((start - end) * a * (start - end)) == 1.5
    assert (start - (end - gradient / a) * a * (start - end)) / ((start - end) * a * (start - end)) == 3 / 8


def test_algorithm_1_and_equation_1_number_the_rounds_differently():
    # L = x^2 / 2, learning rate 1/2, k = 1, alpha = 1/2: every round is times 3/4.
    p = nn.Parameter(torch.tensor([1.0]))
    inner = torch.optim.SGD([p], lr=0.5)

    def step():
        p.grad = p.detach().clone()
        inner.step()

    phi = [1.0, *(float(slow[0]) for slow in itertools.islice(lookahead([p], inner, step, 1, 0.5), 3))]
    for t in (1, 2, 3):  # Algorithm 1: theta_{t,0} = phi_{t-1}, and phi_t at the round's end
        assert phi[t] == phi[t - 1] + 0.5 * (0.5 * phi[t - 1] - phi[t - 1])
    for t in (0, 1, 2):  # Equation 1: theta_{t,0} = phi_t, and phi_{t+1} at the round's end
        assert phi[t + 1] == phi[t] + 0.5 * (0.5 * phi[t] - phi[t])
    # theta_{t,k} of Algorithm 1 in Equation 1 is another method: it pulls phi_1 back to a theta that began at phi_0.
    assert phi[2] != phi[1] + 0.5 * (0.5 * phi[0] - phi[1])


def test_sgds_mean_is_not_always_the_faster_in_magnitude():
    # "The latter is always smaller": (1 - gamma a)^k against 1 - alpha + alpha (1 - gamma a)^k.
    model, alphas = NoisyQuadratic(1.0, 1.0, 1.0), np.linspace(0.05, 0.95, 19)
    for k, rate in itertools.product((1, 2, 3, 4, 5), (0.3, 0.9, 1.4, 1.9)):
        sgd = noisy.sgd_factor(model, rate)[0] ** k
        ours = noisy.lookahead_factor(model, rate, k, alphas)[:, 0]
        assert np.all(sgd < ours)  # as signed numbers it is
        if rate < 1 or k % 2 == 0:
            assert np.all(abs(sgd) < abs(ours))
        else:  # |1 - alpha (1 + |q|)| < |q|, where q = (1 - gamma a)^k is below 0
            turn = (1 - abs(sgd)) / (1 + abs(sgd))
            np.testing.assert_array_equal(abs(ours) < abs(sgd), alphas > turn)


def test_contraction_rate_bounds_the_distance_only_up_to_a_factor():
    # Momentum at its critical learning rate, eta a = (1 - sqrt(beta))^2: both eigenvalues are sqrt(beta), and from rest
    # theta_t = (1 + (1 - sqrt(beta)) t) rho^t, so that no constant factor makes rho^t a bound.
    beta = 0.81
    root = np.sqrt(beta)
    matrix = round_matrix(1.0, (1 - root) ** 2, beta)
    state = np.array([1.0, 0.0])
    for t in range(1, 60):
        state = matrix @ state
        assert state[0] == pytest.approx((1 + (1 - root) * t) * root**t, rel=1e-10)
    # Rounding splits a double root by the root of 1e-16.
    assert contraction(1.0, (1 - root) ** 2, beta) == pytest.approx(root, abs=1e-7)
    # Lookahead too: the matrix is not normal. Its powers exceed rho^t, by a factor that stays bounded here.
    setting = 1.0, 0.9, 0.9, 5, 0.5
    rho = contraction(*setting) ** 5
    factors = [np.linalg.norm(np.linalg.matrix_power(round_matrix(*setting), n), 2) / rho**n for n in range(1, 200)]
    assert min(factors) > 1 + 1e-9
    assert 1.05 < max(factors) < 10


def test_expected_loss_itself_would_not_tell_optimizers_apart():
    # What Figure 3 compares is the excess over the final loss (A.1), not "the expected loss" (3.1).
    model = noisy.worst_case(50, 100.0)
    pairs = comparisons.equal_risk(model, np.linspace(0.2, 0.9, 8), 5, [0.4])
    gaps = comparisons.equal_risk_gaps(model, pairs, 1000)
    final = model.irreducible_loss + pairs.final_excess
    assert np.all(np.abs((final + gaps.sgd) / (final + gaps.lookahead) - 1) < 1e-3)
    assert np.all(gaps.sgd / gaps.lookahead > 1.3)


def test_covariances_of_lemma_1_are_right():
    chains, updates = 200_000, 4
    theta, before = sgd_samples(chains, updates, start=1.0)
    _, v_before = noisy.sgd_moments(NoisyQuadratic(A_, NOISE, 1.0), RATE, updates - 1)
    _, v = noisy.sgd_moments(NoisyQuadratic(A_, NOISE, 1.0), RATE, updates)
    r = 1 - RATE * A_
    # Standard error of a normal sample's covariance: sqrt((V1 V2 + cov^2) / n).
    ours = r * v_before[0]
    assert abs(np.cov(before, theta)[0, 1] - ours) < 4 * np.sqrt((v[0] * v_before[0] + ours**2) / chains)
    # cov(phi_t, theta_{t,k}) = r^k V[phi_t], for slow weights that a sample of any variance stands for.
    rng, k, rate = np.random.default_rng(2), 3, 0.2
    slow = rng.normal(0, 0.7, chains)
    fast = slow
    for _ in range(k):
        fast = fast - rate * A_ * (fast - rng.normal(0, np.sqrt(NOISE), chains))
    ours = (1 - rate * A_) ** k * 0.49
    assert abs(np.cov(slow, fast)[0, 1] - ours) < 4 * np.sqrt((0.49 * fast.var() + ours**2) / chains)


def test_equations_12_and_13_are_right():
    rng = np.random.default_rng(0)
    root, b, start, end = rng.normal(size=(4, 4)), *rng.normal(size=(3, 4))
    full = torch.from_numpy(root @ root.T + np.eye(4))  # no eigenbasis here: A is a full matrix
    b, start, end = (torch.from_numpy(vector) for vector in (b, start, end))
    minimum, d = torch.linalg.solve(full, b), start - end
    alpha = ((start - minimum) @ full @ d / (d @ full @ d)).requires_grad_()  # Equation 13
    x = start + alpha * (end - start)
    (slope,) = torch.autograd.grad(x @ full @ x / 2 - b @ x, alpha)
    assert abs(slope) < 1e-12
    # Equation 12 at that alpha, and the quadratic module's function in the eigenbasis.
    assert (alpha * (d @ full @ d)).item() == pytest.approx((-d @ full @ (minimum - start)).item(), rel=1e-12)
    a, basis = np.linalg.eigh(full.numpy())
    rotated = (vector.numpy() @ basis for vector in (start, end, minimum))
    assert best_alpha(a, *rotated) == pytest.approx(alpha.item(), rel=1e-12)
