"""The noisy quadratic in closed form, against plain unrolling, samples, and numbers worked by hand (Section 3.1)."""

import numpy as np
import pytest

from experiments.quadratic import comparisons, noisy
from experiments.quadratic.noisy import NoisyQuadratic

MODEL = NoisyQuadratic(a=[2.0, 0.7, 0.01], noise=[0.5, 3.0, 10.0], start=[1.0, -2.0, 0.3])


def unrolled(model, rate, k, alpha, rounds):
    """Equations 8 and 9 inside a round, update by update, and Lemma 1's proof for its end: nothing in closed form."""
    mean, variance = np.array(model.start), np.zeros_like(model.a)
    history = [(mean, variance)]
    for _ in range(rounds):
        fast_mean, fast_variance, covariance = mean, variance, variance
        for _ in range(k):
            fast_mean = (1 - rate * model.a) * fast_mean
            fast_variance = (1 - rate * model.a) ** 2 * fast_variance + rate**2 * model.a**2 * model.noise
            covariance = (1 - rate * model.a) * covariance
        mean = (1 - alpha) * mean + alpha * fast_mean
        variance = (1 - alpha) ** 2 * variance + alpha**2 * fast_variance + 2 * alpha * (1 - alpha) * covariance
        history.append((mean, variance))
    return history


def unrolled_excess(model, *setting):
    return [sum(model.a * (mean**2 + variance)) / 2 for mean, variance in unrolled(model, *setting)]


@pytest.mark.parametrize("rate", [0.01, 0.4, 0.99])  # the last one oscillates in the first coordinate
@pytest.mark.parametrize(("k", "alpha"), [(1, 0.3), (5, 0.5), (6, 0.05), (5, 1.0)])
def test_moments_are_those_of_plain_unrolling(rate, k, alpha):
    for rounds, (mean, variance) in enumerate(unrolled(MODEL, rate, k, alpha, 30)):
        moments = noisy.lookahead_moments(MODEL, rate, k, alpha, rounds)
        # Some 200 roundings of 1e-16; small variances are what is left of larger ones, at most V* of about 10.
        np.testing.assert_allclose(moments.mean, mean, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(moments.variance, variance, rtol=1e-12, atol=1e-14)


def test_sgd_is_lookahead_with_alpha_1_at_every_k():
    sgd = noisy.sgd_moments(MODEL, 0.3, 20)
    for k in (1, 2, 5, 10):
        for ours, its in zip(noisy.lookahead_moments(MODEL, 0.3, k, 1.0, 20 // k), sgd, strict=True):
            np.testing.assert_allclose(ours, its, rtol=1e-13)


def test_one_coordinate_worked_by_hand():
    # a = 2, sigma^2 = 3, gamma = 1/4: r = 1/2. k = 2, alpha = 1/2: rho = 1/2 + 1/8 = 5/8.
    model = NoisyQuadratic(2.0, 3.0, 4.0)
    moments = noisy.lookahead_moments(model, 0.25, 2, 0.5, 1)
    assert moments.mean.tolist() == [2.5]  # 5/8 of 4
    # alpha^2 (1 + r^2) gamma^2 a^2 sigma^2 = 1/4 * 5/4 * 1/4 * 3 = 15/64
    assert moments.variance == pytest.approx([15 / 64], rel=1e-15)
    # V*_SGD = 1/4 * 3 / (3/4) = 1; V*_LA = 15/64 / (1 - 25/64) = 15/39.
    assert noisy.sgd_steady_variance(model, 0.25) == pytest.approx([1.0], rel=1e-15)
    assert noisy.lookahead_steady_variance(model, 0.25, 2, 0.5) == pytest.approx([15 / 39], rel=1e-15)
    # 1/2 * 2 * (2.5^2 + 15/64) over the irreducible 1/2 * 2 * 3.
    assert model.excess(*moments) == pytest.approx(6.25 + 15 / 64, rel=1e-15)
    assert model.irreducible_loss == 3.0
    # After 2 updates 6.25 + 15/64 - 15/39 are left to the final loss, after 3 the same, as slow weights rest.
    assert noisy.gap(model, 0.25, [2, 3], 2, 0.5) == pytest.approx([6.25 + 15 / 64 - 15 / 39] * 2, rel=1e-14)


def test_equation_7_as_printed_is_the_steady_variance():
    rate, k, alpha = 0.6, 5, 0.3
    r = 1 - rate * MODEL.a
    sgd = rate**2 * MODEL.a**2 * MODEL.noise / (1 - r**2)
    numerator = alpha**2 * (1 - r ** (2 * k))
    printed = numerator / (numerator + 2 * alpha * (1 - alpha) * (1 - r**k)) * sgd
    # 1 - r loses 2 digits at a = 0.01.
    np.testing.assert_allclose(noisy.lookahead_steady_variance(MODEL, rate, k, alpha), printed, rtol=1e-12)
    np.testing.assert_allclose(noisy.sgd_steady_variance(MODEL, rate), sgd, rtol=1e-12)


def test_lemma_1_and_the_fixed_points_against_samples():
    rng, chains, rate, k, alpha = np.random.default_rng(0), 40_000, 0.5, 3, 0.4
    model = NoisyQuadratic([2.0, 0.7], [0.5, 3.0], [1.0, -2.0])
    slow = np.tile(model.start, (chains, 1))
    for round_ in range(1, 31):
        fast = slow
        for _ in range(k):
            sample = rng.normal(size=fast.shape) * np.sqrt(model.noise)
            fast = fast - rate * model.a * (fast - sample)
        slow = slow + alpha * (fast - slow)
        if round_ in (1, 2, 5, 30):  # at 30 the distance from Equation 7 is 2e-8 of it
            mean, variance = noisy.lookahead_moments(model, rate, k, alpha, round_)
            # Standard errors of a mean and, for normal samples, of a variance; 4 of them.
            assert np.all(np.abs(slow.mean(0) - mean) < 4 * np.sqrt(variance / chains))
            assert np.all(np.abs(slow.var(0) - variance) < 4 * variance * np.sqrt(2 / chains))
    steady = noisy.lookahead_steady_variance(model, rate, k, alpha)
    assert np.all(np.abs(slow.var(0) - steady) < 4 * steady * np.sqrt(2 / chains))


def test_everything_broadcasts_over_rates_alphas_and_k():
    rates, ks, alphas = np.array([0.1, 0.5, 0.9])[:, None, None], np.array([2, 5])[:, None], np.array([0.2, 0.7, 1.0])
    steady = noisy.lookahead_steady_variance(MODEL, rates, ks, alphas)
    gaps = noisy.gap(MODEL, rates, 30, ks, alphas)
    assert steady.shape == (3, 2, 3, 3)
    assert gaps.shape == (3, 2, 3)
    for i, j, n in np.ndindex(3, 2, 3):
        setting = rates[i, 0, 0], int(ks[j, 0]), alphas[n]
        excess = unrolled_excess(MODEL, *setting, 30 // setting[1])[-1]
        final = MODEL.a @ noisy.lookahead_steady_variance(MODEL, *setting) / 2
        alone = noisy.lookahead_steady_variance(MODEL, *setting)
        np.testing.assert_allclose(steady[i, j, n], alone, rtol=1e-14)  # some processors round arrays otherwise
        assert gaps[i, j, n] == pytest.approx(excess - final, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("rounds", [0, 1, 2, 15, 16, 17, 40])  # around squares, where the powers' layout changes
def test_curves_are_those_of_plain_unrolling(rounds):
    curve = noisy.excess_by_round(MODEL, 0.8, rounds, 3, [0.4, 1.0])
    expected = [unrolled_excess(MODEL, 0.8, 3, alpha, rounds) for alpha in (0.4, 1.0)]
    np.testing.assert_allclose(curve, expected, rtol=1e-12)


@pytest.mark.parametrize("block", [5, 30, 1000])  # parts of a row of alphas, some rows, all
def test_best_of_a_grid_is_that_of_a_plain_loop(block, monkeypatch):
    monkeypatch.setattr(noisy, "BLOCK", block)
    rates, alphas, k, rounds = np.geomspace(1e-3, 0.9, 13), np.geomspace(0.2, 1.0, 12), 4, 20
    best = noisy.best_by_round(MODEL, rates, rounds, k, alphas)
    settings = [(rate, alpha) for rate in rates for alpha in alphas]
    curves = np.array([unrolled_excess(MODEL, rate, k, alpha, rounds) for rate, alpha in settings])
    np.testing.assert_allclose(best.excess, curves.min(axis=0), rtol=1e-12)
    for n in range(1, rounds + 1):  # at 0 all settings are equal
        assert (best.rate[n], best.alpha[n]) == settings[curves[:, n].argmin()]


def test_horizons_count_inner_updates_and_slow_weights_wait_for_a_round():
    rates, alphas, k = [0.05, 0.3], [0.5, 1.0], 5
    found = comparisons.horizons(MODEL, 12, k, rates, alphas)
    sgd = np.array([unrolled_excess(MODEL, rate, 1, 1.0, 12) for rate in rates])[:, 1:]
    slow = np.array([unrolled_excess(MODEL, rate, k, alpha, 2) for rate in rates for alpha in alphas]).min(axis=0)
    np.testing.assert_allclose(found.sgd, sgd.min(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.lookahead, np.repeat(slow, 5)[1:13], rtol=1e-12)
    chosen = np.stack([found.lookahead_rate, found.lookahead_alpha])
    assert np.isnan(chosen[:, :4]).all()  # nothing has moved: no setting is better than another
    assert np.isfinite(chosen[:, 4:]).all()
    np.testing.assert_array_equal(found.updates, range(1, 13))
    np.testing.assert_allclose(found.margin, (found.sgd - found.lookahead) / found.sgd, rtol=1e-9, atol=1e-15)


def test_worst_case_spectrum_worked_by_hand():
    # Extreme points of the fourth Chebyshev polynomial, cos(0, pi/4, pi/2, 3 pi/4, pi), on [1/2, 2].
    model = noisy.worst_case(5, 4.0, largest=2.0, start=3.0, start_power=-0.5)
    half = 0.75 / np.sqrt(2)
    np.testing.assert_allclose(model.a, [2.0, 1.25 + half, 1.25, 1.25 - half, 0.5], rtol=1e-15)
    np.testing.assert_allclose(model.a * model.noise, 1.0, rtol=1e-15)  # Sigma = A^-1
    np.testing.assert_allclose(model.a * model.start**2, 9.0, rtol=1e-14)
    assert (model.largest, model.a[-1]) == (2.0, 0.5)
    assert (noisy.worst_case(3, 1e7, 0.3).a[-1], noisy.worst_case(3, 49.0).a[-1]) == (0.3 / 1e7, 1 / 49)
    assert noisy.worst_case(3, 10.0).start.tolist() == [1.0] * 3


def test_equal_risk_is_exact_and_its_gaps_those_of_both_settings():
    model = noisy.worst_case(20, 100.0)
    pairs = comparisons.equal_risk(model, [0.2, 0.6, 1.5], 5, [0.1, 0.5, 1.0])
    # The equation's own rounding, and the bracket's relative width, times the loss's steepness in the rate.
    np.testing.assert_allclose(noisy.steady_excess(model, pairs.sgd_rate), pairs.final_excess, rtol=1e-13)
    np.testing.assert_allclose(pairs.sgd_rate[2], [0.2, 0.6, 1.5], rtol=1e-13)  # alpha = 1 is SGD
    gaps = comparisons.equal_risk_gaps(model, pairs, 12)
    for (i, j), rate in np.ndenumerate(pairs.rate):
        left = unrolled_excess(model, rate, 5, pairs.alpha[i, j], 2)[-1] - pairs.final_excess[i, j]
        sgd = unrolled_excess(model, pairs.sgd_rate[i, j], 1, 1.0, 12)[-1] - pairs.final_excess[i, j]
        assert gaps.lookahead[i, j] == pytest.approx(left, rel=1e-10)
        assert gaps.margin[i, j] == pytest.approx((sgd - left) / abs(sgd), rel=1e-9)


def test_rate_of_a_risk_worked_by_hand():
    # 1/2 a V*_SGD = 1/2 a gamma a sigma^2 / (2 - gamma a); a = 2, sigma^2 = 3, gamma = 1/4: V* = 1, excess 1.
    assert comparisons.sgd_rate_of_risk(NoisyQuadratic(2.0, 3.0, 0.0), [1.0]) == pytest.approx([0.25], rel=1e-14)
    assert comparisons.sgd_rate_of_risk(NoisyQuadratic(2.0, 3.0, 0.0), 1.0) == pytest.approx(0.25, rel=1e-14)
    assert comparisons.sgd_rate_of_risk(MODEL, []).shape == (0,)


def test_how_many_settings_are_computed_at_a_time_changes_nothing(monkeypatch):
    model, rates, alphas = noisy.worst_case(7, 50.0), np.linspace(0.1, 1.5, 5), [0.2, 0.7, 1.0]
    found = []
    for numbers in (1, 30, 2**17):  # a setting, four of them, all
        monkeypatch.setattr(noisy, "CACHED", numbers)
        pairs = comparisons.equal_risk(model, rates, 5, alphas)
        by_round = comparisons.equal_risk_gaps_by_round(model, pairs, 6)
        found.append([*comparisons.convergence(model, rates, 20, 5, alphas), pairs.sgd_rate, *by_round])
    assert found[0][-1].shape == (3, 5, 7)
    for other in found[:2]:
        for one, all_at_once in zip(other, found[2], strict=True):
            np.testing.assert_allclose(one, all_at_once, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noisy.sgd_factor(MODEL, [0.5, 1.0]), r"learning rate must be in \(0, 1\).*2 / L\) with L = 2, not 1"),
        (lambda: noisy.sgd_factor(MODEL, 0.0), "not 0"),
        (lambda: noisy.sgd_factor(MODEL, float("nan")), "not nan"),
        (lambda: noisy.lookahead_factor(MODEL, 0.5, 5, [0.5, 0.0]), r"alpha must be in \(0, 1\], not 0"),
        (lambda: noisy.lookahead_factor(MODEL, 0.5, 5, 1.5), "not 1.5"),
        (lambda: noisy.lookahead_factor(MODEL, 0.5, 0, 0.5), "k must be an integer of at least 1, not 0"),
        (lambda: noisy.gap(MODEL, 0.5, 10, [5, 2.5], 0.5), "k must be an integer"),
        (lambda: noisy.gap(MODEL, 0.5, -1), "updates must be finite and at least 0, not -1"),
        (lambda: NoisyQuadratic([], 1.0, 1.0), "at least one eigenvalue"),
        (lambda: NoisyQuadratic([1.0, 0.0], 1.0, 1.0), "eigenvalue of A must be finite and above 0, not 0"),
        (lambda: NoisyQuadratic([1.0, -2.0], 1.0, 1.0), "not -2"),
        (lambda: NoisyQuadratic([1.0, 2.0], [1.0, 2.0, 3.0], 1.0), r"noise must be a number .* \(2,\), not \(3,\)"),
        (lambda: NoisyQuadratic([1.0], -1.0, 1.0), "noise must be finite and at least 0, not -1"),
        (lambda: noisy.worst_case(1, 10.0), "dimension must be an integer of at least 2, not 1"),
        (
            lambda: NoisyQuadratic([1.0, "x"], 1.0, 1.0),
            r"an eigenvalue of A must be numbers in one row, not \[1.0, 'x'\]",
        ),
        (lambda: NoisyQuadratic([[1.0], [1.0, 2.0]], 1.0, 1.0), "an eigenvalue of A must be numbers in one row, not"),
        (lambda: NoisyQuadratic([1.0], True, 1.0), "noise must be a number, not True"),
        (
            lambda: NoisyQuadratic([1.0], 1.0, 1e200),
            "loss at the start must be finite, not inf: start or",
        ),
        (lambda: noisy.worst_case(10**9, 10.0), "the dimension must be at most 1000000, not 1000000000"),
        (lambda: noisy.worst_case(3, 10.0, start_power=-1000), "start must be finite, not inf"),
        (lambda: noisy.worst_case(3, "high"), "the condition number must be a number, not 'high'"),
        (lambda: noisy.worst_case(3, 10.0, largest=0), "an eigenvalue of A must be finite and above 0, not 0"),
        (lambda: noisy.worst_case(3, 10.0, largest=[1.0]), r"the largest eigenvalue, must be one number, not \[1.0\]"),
        (lambda: noisy.worst_case(3, 10.0, start=None), "start must be a number, not None"),
        (lambda: noisy.worst_case(3, 0.5), "condition number must be finite and at least 1, not 0.5"),
        (lambda: comparisons.sgd_rate_of_risk(MODEL, [0.0]), "final_excess must be finite and above 0, not 0"),
        (lambda: NoisyQuadratic([1.0, True], 1.0, 1.0), r"must be numbers in one row, not \[1.0, True\]"),
        (lambda: noisy.gap(MODEL, 0.5, 2.5), "updates must be whole, not 2.5"),
        (lambda: comparisons.convergence(MODEL, [], 10), "rates must hold at least one value, not none"),
        (lambda: comparisons.equal_risk(MODEL, [0.1], 5, []), "alphas must hold at least one value, not none"),
        (lambda: comparisons.equal_risk(MODEL, [[0.1, 0.2]], 5, 0.5), r"one row, not an array of shape \(1, 2\)"),
        (lambda: comparisons.horizons(MODEL, 10, 0), "k must be an integer of at least 1, not 0"),
        (lambda: comparisons.horizons(MODEL, 10, rates=[]), "rates must hold at least one value, not none"),
        (lambda: comparisons.horizons(MODEL, 0), "updates must be an integer of at least 1, not 0"),
    ],
)
def test_bad_input_is_one_line_that_names_the_value(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
