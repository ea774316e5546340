"""Momentum and Lookahead on the quadratic without noise, against plain updates, B.1's matrices and known optima."""

import numpy as np
import pytest

from experiments.quadratic import best_rate as search
from experiments.quadratic import deterministic
from experiments.quadratic.best_rate import RateSearch
from experiments.quadratic.deterministic import contraction, paper_matrices, round_matrix
from lookahead.arguments import INNER_STATES

A = np.array([0.02, 0.3, 1.0])


def plain_round(a, rate, beta, k, alpha, inner_state, theta, velocity):
    """One round of Algorithm 1 on classical momentum, update by update."""
    slow, slow_velocity = theta, velocity
    for _ in range(k):
        velocity = beta * velocity + a * theta
        theta = theta - rate * velocity
    mixed = {"maintain": velocity, "interpolate": slow_velocity + alpha * (velocity - slow_velocity), "reset": 0.0}
    return slow + alpha * (theta - slow), mixed[inner_state]


@pytest.mark.parametrize("inner_state", INNER_STATES)
@pytest.mark.parametrize(("k", "alpha"), [(1, 0.3), (2, 0.5), (7, 0.5), (20, 1.0)])
@pytest.mark.parametrize(("rate", "beta"), [(0.05, 0.5), (0.9, 0.9), (1.5, 0.0)])
def test_columns_of_the_round_matrix_are_plain_rounds_from_unit_states(rate, beta, k, alpha, inner_state):
    matrix = round_matrix(A, rate, beta, k, alpha, inner_state)
    for column, unit in enumerate(((1.0, 0.0), (0.0, 1.0))):
        for n, a in enumerate(A):
            expected = plain_round(a, rate, beta, k, alpha, inner_state, *unit)
            # 20 steps of recursions with entries up to about 10, in float64.
            np.testing.assert_allclose(matrix[n, :, column], expected, rtol=1e-11, atol=1e-13)


def test_round_matrix_worked_by_hand():
    # a = 2, eta = 1/4, beta = 1/2: M = [[1/2, -1/8], [2, 1/2]]; M^2 = [[0, -1/8], [2, 0]]. alpha = 1/4.
    expected = {"maintain": [2.0, 0.0], "interpolate": [0.5, 0.75], "reset": [0.0, 0.0]}
    for inner_state, velocity in expected.items():
        matrix = round_matrix(2.0, 0.25, 0.5, 2, 0.25, inner_state)
        assert matrix.tolist() == [[0.75, -0.03125], velocity]
    # Reset: the eigenvalues 3/4 and 0. Momentum itself: M has 1/2 +- i/2, of modulus sqrt(beta).
    assert contraction(2.0, 0.25, 0.5, 2, 0.25, "reset") == pytest.approx(0.75**0.5, rel=1e-15)
    assert contraction(2.0, 0.25, 0.5) == pytest.approx(0.5**0.5, rel=1e-15)


@pytest.mark.parametrize("k", [2, 3, 7, 20])
@pytest.mark.parametrize(("rate", "beta"), [(0.05, 0.5), (0.9, 0.9), (3.5, 0.9)])
def test_nonzero_spectrum_of_the_papers_matrices_is_that_of_the_smallest_state(rate, beta, k):
    alpha = 0.4
    small = round_matrix(A, rate, beta, k, alpha)
    for large, two in zip(paper_matrices(A, rate, beta, k, alpha).round(), small, strict=True):
        assert large.shape == (k + 1, k + 1)
        # Two eigenvalues, and k - 1 zeros: the matrix has rank 2.
        assert np.linalg.matrix_rank(large, tol=1e-9) == 2
        ours, theirs = np.linalg.eigvals(two), np.linalg.eigvals(large)
        theirs = theirs[np.argsort(-np.abs(theirs))]
        # Zero is no defective eigenvalue, so it stays within rounding, times the matrix's norm of about 10.
        assert np.abs(theirs[2:]).max(initial=0) < 1e-12
        np.testing.assert_allclose(np.sort_complex(theirs[:2]), np.sort_complex(ours), rtol=1e-9)


def test_papers_matrices_move_a_stack_of_weights_as_plain_updates_do():
    a, rate, beta, k, alpha = 0.3, 0.9, 0.8, 4, 0.5
    matrix = paper_matrices(a, rate, beta, k, alpha).round()[0]
    rng = np.random.default_rng(0)
    stack = rng.normal(size=k + 1)  # theta_{t,0}, then theta_{t-1,k} ... theta_{t-1,1}
    theta, before, fast = stack[0], stack[2] - stack[1] + stack[0], []
    for _ in range(k):
        # The first momentum is that of the last two fast weights, theta_{t-1,k} - theta_{t-1,k-1}: B.1's T.
        theta, before = theta - rate * a * theta + beta * (theta - before), theta
        fast.insert(0, theta)
    expected = [stack[0] + alpha * (theta - stack[0]), *fast]
    np.testing.assert_allclose(matrix @ stack, expected, rtol=1e-13)


def test_spectral_radius_is_that_of_a_general_solver():
    matrices = np.random.default_rng(0).normal(size=(200, 2, 2))
    expected = np.abs(np.linalg.eigvals(matrices)).max(-1)
    np.testing.assert_allclose(deterministic.spectral_radius(matrices), expected, rtol=1e-10)


def test_lookahead_with_alpha_1_contracts_as_momentum():
    rates = np.linspace(0.01, 3.7, 50)
    # The k-th root divides rounding by k, but M^20 is small against the products that cancel in its determinant.
    np.testing.assert_allclose(contraction(1.0, rates, 0.9, 20, 1.0), contraction(1.0, rates, 0.9), rtol=1e-7)


@pytest.mark.parametrize("kappa", [1.0, 30.0, 1e4])
def test_best_rate_of_gradient_descent_is_2_over_l_plus_mu(kappa):
    best = RateSearch(0.0).best(kappa)
    assert best.contraction == pytest.approx([(kappa - 1) / (kappa + 1)], abs=1e-9)
    assert best.rate == pytest.approx([2 / (1 + 1 / kappa)], rel=1e-8)


@pytest.mark.parametrize("beta", [0.5, 0.9])
@pytest.mark.parametrize("whole_interval", [False, True])
def test_momentum_contracts_by_the_root_of_beta_up_to_the_critical_condition_number(beta, whole_interval):
    critical = deterministic.critical_condition_number(beta)
    below, above = RateSearch(beta, whole_interval=whole_interval).best([0.99 * critical, 1.01 * critical]).contraction
    assert below == pytest.approx(np.sqrt(beta), rel=1e-7)  # a double root: half of the digits
    assert above > np.sqrt(beta) + 1e-4
    # Polyak's: at the critical number itself the one best rate is (2 / (sqrt(L) + sqrt(mu)))^2.
    at = RateSearch(beta, whole_interval=whole_interval).best(critical)
    assert at.rate == pytest.approx([4 / (1 + np.sqrt(1 / critical)) ** 2], rel=1e-4)


def test_over_damped_momentum_has_real_eigenvalues_of_one_size_at_both_ends():
    # At X = eta L the smaller eigenvalue's root, near 1, equals the larger one's, near -1: their traces are opposite.
    beta, kappa = 0.5, 1e4
    best = RateSearch(beta).best(kappa)
    x = 2 * (1 + beta) / (1 + 1 / kappa)  # from 1 + beta - X / kappa = X - 1 - beta
    trace = 1 + beta - x / kappa
    assert best.rate == pytest.approx([x], rel=1e-9)
    assert best.contraction == pytest.approx([(trace + np.sqrt(trace**2 - 4 * beta)) / 2], rel=1e-12)


@pytest.mark.parametrize("inner_state", INNER_STATES)
@pytest.mark.parametrize("whole_interval", [False, True])
def test_lookaheads_best_rate_is_that_of_a_dense_search(inner_state, whole_interval):
    beta, k, alpha, kappa = 0.9, 20, 0.5, 30.0
    rates = np.linspace(0, 2 * (1 + beta), 10_001)[1:-1]
    parts = np.geomspace(1 / kappa, 1.0, 400) if whole_interval else np.array([1 / kappa, 1.0])
    worst = np.zeros_like(rates)
    for part in parts:
        worst = np.maximum(worst, contraction(1.0, rates * part, beta, k, alpha, inner_state))
    found = RateSearch(beta, k, alpha, inner_state, whole_interval).best(kappa)
    at_found = contraction(1.0, found.rate * parts, beta, k, alpha, inner_state).max()
    # The dense search only sees its own points: its rate is a little worse, its spectrum a little too kind.
    assert found.contraction == pytest.approx([worst.min()], abs=5e-4)
    assert found.contraction <= worst.min() + (1e-5 if whole_interval else 1e-9)
    assert found.contraction == pytest.approx([at_found], abs=1e-5)


def test_range_maximum_is_that_of_slices():
    values = np.random.default_rng(0).normal(size=37)
    maximum = search._range_maximum(values)
    start, stop = np.divmod(np.arange(37 * 38), 38)
    expected = [values[i:j].max(initial=-np.inf) for i, j in zip(start, stop, strict=True)]
    np.testing.assert_array_equal(maximum(start, stop), expected)


def test_lookahead_diverges_where_momentum_converges():
    # beta = 0.99, k = 20, alpha = 1/2: at a rate of this share, the slow weights' pull and the velocity add up.
    kept, reset, interpolated = (
        deterministic.diverging_share(0.99, 20, 0.5, state, 20_000) for state in ("maintain", "reset", "interpolate")
    )
    assert kept == pytest.approx(0.27, abs=0.005)
    assert reset == pytest.approx(0.23, abs=0.005)
    assert interpolated == 0  # 1 - alpha + alpha lambda^k, for momentum's eigenvalues lambda
    rate = 3.0
    assert contraction(1.0, rate, 0.99, 20, 0.5) > 1 > contraction(1.0, rate, 0.99)
    theta, velocity = 1.0, 0.0
    for _ in range(300):
        theta, velocity = plain_round(1.0, rate, 0.99, 20, 0.5, "maintain", theta, velocity)
    assert np.hypot(theta, velocity) > 1e3


def test_best_alpha_has_the_least_loss_on_the_line():
    rng = np.random.default_rng(0)
    a, minimum, start, end = rng.uniform(0.1, 3, 6), *rng.normal(size=(3, 4, 6))
    alpha = deterministic.best_alpha(a, start, end, minimum)

    def loss(alphas):
        return (a * (start + alphas[:, None] * (end - start) - minimum) ** 2).sum(-1) / 2

    # A parabola through three points has its lowest one where theirs says.
    left, middle, right = loss(alpha - 1), loss(alpha), loss(alpha + 1)
    np.testing.assert_allclose(left, right, rtol=1e-12)
    assert np.all(middle < left)
    # By hand: a = 2, from 3 to 1, minimum at 0: 3 * 2 * 2 / (2 * 2 * 2).
    assert deterministic.best_alpha([2.0], [3.0], [1.0]) == 1.5


@pytest.mark.parametrize(("beta", "k", "inner_state"), [(0.0, 5, "maintain"), (0.0, 1, "maintain"), (0.5, 1, "reset")])
def test_the_best_rate_may_be_at_the_end_of_momentums_range(beta, k, inner_state):
    rates = 2 * (1 + beta) * (np.arange(100_000) + 0.5) / 100_000
    for kappa in (1.0, 3.0):
        worst = np.maximum(*(contraction(1.0, x, beta, k, 0.5, inner_state) for x in (rates, rates / kappa)))
        found = RateSearch(beta, k, 0.5, inner_state).best(kappa)
        assert found.contraction[0] <= worst.min() + 1e-9
        at_found = [contraction(1.0, x, beta, k, 0.5, inner_state) for x in (found.rate, found.rate / kappa)]
        assert found.contraction == pytest.approx(np.maximum(*at_found), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: contraction(A, 4.0, 0.9), r"in \(0, 3.8\), which is \(0, 2 \(1 \+ beta\) / L\) with L = 1, not 4"),
        (lambda: contraction(A, 3.8, 0.9), "learning rate"),
        (lambda: contraction(A, 0.5, 1.0), r"beta must be in \[0, 1\), not 1"),
        (lambda: contraction(A, 0.5, -0.1), "not -0.1"),
        (lambda: contraction(A, 0.5, 0.9, 0), "k must be an integer of at least 1, not 0"),
        (lambda: contraction(A, 0.5, 0.9, 5, 0.0), r"alpha must be in \(0, 1\], not 0"),
        (lambda: contraction(A, 0.5, 0.9, 5, 0.5, "keep"), "inner_state must be one of maintain, .*, not 'keep'"),
        (lambda: contraction([], 0.5, 0.9), "at least one eigenvalue"),
        (lambda: contraction([1.0, 0.0], 0.5, 0.9), "eigenvalue of A must be finite and above 0, not 0"),
        (lambda: paper_matrices(A, 0.5, 0.9, 1, 0.5), "block matrices of Appendix B.1 must be .* least 2, not 1"),
        (lambda: RateSearch(0.9).best(0.5), "condition number must be finite and at least 1, not 0.5"),
        (lambda: RateSearch(1.0), "beta"),
        (lambda: RateSearch(0.9).best([]), "condition_numbers must hold at least one value, not none"),
        (lambda: RateSearch(0.9).best("high"), "condition_numbers must be a number, not 'high'"),
        (lambda: deterministic.diverging_share(0.9, 5, 0.5, points=0), "points must be an integer of at least 1"),
    ],
)
def test_bad_input_is_one_line_that_names_the_value(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
