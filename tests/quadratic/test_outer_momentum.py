"""Momentum on the outer update in closed form, against plain unrolling, samples, and numbers worked by hand."""

import itertools

import numpy as np
import pytest

from experiments.quadratic import deterministic, noisy, outer_momentum
from experiments.quadratic.noisy import NoisyQuadratic

MODEL = NoisyQuadratic(a=[2.0, 0.7, 0.01], noise=[0.5, 3.0, 10.0], start=[1.0, -2.0, 0.3])
# rate, k, alpha, mu: the second oscillates within a round, the third from round to round, the last is SGD's momentum.
SETTINGS = [(0.3, 5, 0.5, 0.6), (0.9, 3, 0.8, 0.3), (0.4, 5, 1.0, 0.95), (0.05, 2, 0.1, 0.0), (0.2, 1, 1.0, 0.9)]


def one_round(model, rate, k, alpha, mu, nesterov, workers=1):
    """The matrix of a round on (phi, b) and the covariance that it adds, from the update's own lines."""
    d = model.a.size
    r, added = np.ones(d), np.zeros(d)
    for _ in range(k):  # Equations 8 and 9
        r, added = (1 - rate * model.a) * r, (1 - rate * model.a) ** 2 * added + rate**2 * model.a**2 * model.noise
    columns = []
    for phi, b, noise in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)):
        theta = r * phi + noise  # theta_k
        s = phi - theta
        b = mu * b + s
        columns.append(np.stack([phi - alpha * (mu * b + s if nesterov else b), b], axis=-1))
    matrix, gain = np.stack(columns[:2], axis=-1), columns[2]
    return matrix, added[:, None, None] / workers * gain[:, :, None] * gain[:, None, :]


def unrolled(model, rounds, *setting):
    """Mean and covariance of (phi, b) after each round: nothing in closed form."""
    matrix, added = one_round(model, *setting)
    mean, covariance = np.stack([model.start, np.zeros_like(model.a)], axis=-1), np.zeros((model.a.size, 2, 2))
    history = [(mean, covariance)]
    for _ in range(rounds):
        mean = (matrix @ mean[..., None])[..., 0]
        covariance = matrix @ covariance @ matrix.swapaxes(-1, -2) + added
        history.append((mean, covariance))
    return history


def each(*settings):
    return [(*setting, nesterov) for setting, nesterov in itertools.product(settings, (False, True))]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("setting", each(*SETTINGS))
def test_moments_are_those_of_plain_unrolling(setting, workers):
    rounds = outer_momentum.lookahead(MODEL, *setting, workers=workers)
    for number, (mean, covariance) in enumerate(unrolled(MODEL, 30, *setting, workers)):
        found = rounds.moments(MODEL.start, number)
        # Some 200 roundings of 1e-16; where mean and variance oscillate they are what is left of larger numbers.
        np.testing.assert_allclose(found.mean, mean[:, 0], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(found.variance, covariance[:, 0, 0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("setting", each(*SETTINGS))
def test_the_steady_variance_is_that_of_long_unrolling_and_what_is_left_to_it_is_exact(setting):
    _, k, *_ = setting
    rounds = outer_momentum.lookahead(MODEL, *setting)
    slowest = rounds.contraction.max()
    history = unrolled(MODEL, int(np.ceil(np.log(1e-14) / np.log(slowest) / 2 / k)) + 40, *setting)
    steady = history[-1][1][:, 0, 0]
    np.testing.assert_allclose(rounds.steady_variance, steady, rtol=1e-11)
    excess = [model_excess(mean, covariance) for mean, covariance in history[:31]]
    final = outer_momentum.steady_excess(MODEL, rounds)
    assert final == pytest.approx(MODEL.a @ steady / 2, rel=1e-11)
    for number, value in enumerate(excess):
        gap = outer_momentum.gap(MODEL, rounds, number * k)
        assert gap == pytest.approx(value - final, rel=1e-9, abs=1e-12)
        assert gap == outer_momentum.gap(MODEL, rounds, number * k + k - 1)  # slow weights rest between rounds


def model_excess(mean, covariance):
    return MODEL.excess(mean[:, 0], covariance[:, 0, 0])


@pytest.mark.parametrize("setting", each(*SETTINGS, (0.9, 3, 1.0, 0.9), (0.99, 1, 1.0, 0.99)))
def test_the_contraction_is_the_spectral_radius_and_stability_its_being_below_1(setting):
    rounds = outer_momentum.lookahead(MODEL, *setting)
    radius = np.abs(np.linalg.eigvals(one_round(MODEL, *setting)[0])).max(-1)
    # A double eigenvalue has half the digits.
    np.testing.assert_allclose(rounds.contraction ** setting[1], radius, rtol=1e-7)
    np.testing.assert_array_equal(rounds.stable, radius < 1)


def test_without_momentum_it_is_proposition_2_and_lemma_1_to_the_last_digits():
    rates, alphas = np.array([0.01, 0.3, 0.9])[:, None], np.array([0.05, 0.5, 1.0])
    for k, nesterov in itertools.product((1, 2, 5, 30), (False, True)):
        rounds = outer_momentum.lookahead(MODEL, rates, k, alphas, 0.0, nesterov)
        # A few roundings; 1 - r^k loses two digits at a = 0.01.
        np.testing.assert_allclose(
            rounds.steady_variance, noisy.lookahead_steady_variance(MODEL, rates, k, alphas), rtol=1e-13
        )
        np.testing.assert_allclose(
            outer_momentum.gap(MODEL, rounds, 60), noisy.gap(MODEL, rates, 60, k, alphas), rtol=1e-11, atol=1e-14
        )
        factor = np.abs(noisy.lookahead_factor(MODEL, rates, k, alphas))
        np.testing.assert_allclose(rounds.contraction**k, factor, rtol=1e-13, atol=1e-15)
        assert rounds.stable.all()
        some = outer_momentum.lookahead(MODEL, 0.3, k, 0.5, 0.0, nesterov).moments(MODEL.start, 7)
        for ours, lemma in zip(some, noisy.lookahead_moments(MODEL, 0.3, k, 0.5, 7), strict=True):
            np.testing.assert_allclose(ours, lemma, rtol=1e-12)


def test_one_coordinate_worked_by_hand():
    # a = 2, sigma^2 = 3, gamma = 1/4, theta_0 = 4: r = 1/2. k = 2: theta_2 = phi / 4 + noise of variance
    # (1 + 1/4) (1/4)^2 2^2 3 = 15/16. alpha = mu = 1/2.
    model = NoisyQuadratic(2.0, 3.0, 4.0)
    # Heavy ball: s = 3, b = 3, phi = 4 - 3/2 = 5/2; then s = 15/8, b = 27/8, phi = 5/2 - 27/16 = 13/16.
    heavy = outer_momentum.lookahead(model, 0.25, 2, 0.5, 0.5, nesterov=False)
    assert [heavy.moments(model.start, n).mean.item() for n in range(3)] == [4, 2.5, 13 / 16]
    # phi_1 = ... + xi / 2. phi_2 = phi_1 + (phi_1 - phi_0) / 2 - 3/8 phi_1 + xi / 2: 9/8 of phi_1's, and a new one.
    assert [heavy.moments(model.start, n).variance.item() for n in (1, 2)] == [15 / 64, 15 / 64 * (1 + 81 / 64)]
    # An autoregression with 9/8 and -1/2: (3/2) q / ((1/2) (9/4 - 81/64)) = 64/21 q, q = 15/64.
    assert heavy.steady_variance == pytest.approx([15 / 21], rel=1e-15)
    assert heavy.contraction == pytest.approx([0.5**0.25], rel=1e-15)  # complex: sqrt(mu) a round, of two updates
    # Nesterov: s = 3, b = 3, phi = 4 - (3/2 + 3) / 2 = 7/4; then s = 21/16, b = 45/16, phi = 7/4 - 87/64 = 25/64.
    nesterov = outer_momentum.lookahead(model, 0.25, 2, 0.5, 0.5, nesterov=True)
    assert [nesterov.moments(model.start, n).mean.item() for n in range(3)] == [4, 7 / 4, 25 / 64]
    # xi enters by alpha (1 + mu) = 3/4.
    assert nesterov.moments(model.start, 1).variance == pytest.approx([9 / 16 * 15 / 16], rel=1e-15)
    # z = 3/8, q = 15/64: q (1 + mu + mu z (1 + 2 mu)) / ((1 - mu + mu z) z (2 (1 + mu) - z (1 + 2 mu))).
    assert nesterov.steady_variance == pytest.approx([15 / 64 * (15 / 8) / (11 / 16 * 3 / 8 * 9 / 4)], rel=1e-15)


def test_one_worker_s_noise_is_divided_by_their_number_and_nothing_else_changes():
    one, four = (outer_momentum.lookahead(MODEL, 0.3, 5, 0.7, 0.9, True, workers) for workers in (1, 4))
    np.testing.assert_allclose(four.steady_variance, one.steady_variance / 4, rtol=1e-15)
    np.testing.assert_array_equal(four.contraction, one.contraction)
    one, four = (outer_momentum.sgd(MODEL, 0.3, 0.9, True, workers) for workers in (1, 4))
    np.testing.assert_allclose(four.steady_variance, one.steady_variance / 4, rtol=1e-15)


@pytest.mark.parametrize(("alpha", "mu", "nesterov"), [(1.0, 0.0, True), (0.6, 0.8, False), (0.6, 0.8, True)])
def test_samples_of_local_workers_that_average_every_k_steps(alpha, mu, nesterov):
    rng, chains, rate, k, workers = np.random.default_rng(0), 20_000, 0.5, 3, 2
    model = NoisyQuadratic([1.5, 0.7], [0.5, 3.0], [1.0, -2.0])
    rounds = outer_momentum.lookahead(model, rate, k, alpha, mu, nesterov, workers)
    phi, b = np.tile(model.start, (chains, 1)), np.zeros((chains, 2))
    for number in range(1, 13):
        theta = np.tile(phi, (workers, 1, 1))
        for _ in range(k):
            theta = theta - rate * model.a * (theta - rng.normal(size=theta.shape) * np.sqrt(model.noise))
        s = phi - theta.mean(0)
        b = mu * b + s
        phi = phi - alpha * (mu * b + s if nesterov else b)
        if number in (1, 2, 12):
            mean, variance = rounds.moments(model.start, number)
            # Standard errors of a mean and, for normal samples, of a variance; 4 of them.
            assert np.all(np.abs(phi.mean(0) - mean) < 4 * np.sqrt(variance / chains))
            assert np.all(np.abs(phi.var(0) - variance) < 4 * variance * np.sqrt(2 / chains))


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_momentum_is_the_outer_update_at_every_step(nesterov):
    sgd = outer_momentum.sgd(MODEL, 0.2, 0.9, nesterov)
    around = outer_momentum.lookahead(MODEL, 0.2, 1, 1.0, 0.9, nesterov)
    for name in ("steady_variance", "contraction"):
        np.testing.assert_allclose(getattr(sgd, name), getattr(around, name), rtol=1e-14)
    assert outer_momentum.gap(MODEL, sgd, 20) == pytest.approx(outer_momentum.gap(MODEL, around, 20), rel=1e-13)


def test_sgd_with_momentum_has_section_3_2_s_rate_in_all_of_its_range():
    rates = np.array([0.3, 1.1, 1.85])  # the last two beyond 2 / L
    found = outer_momentum.sgd(MODEL, rates, 0.9, nesterov=False)
    np.testing.assert_allclose(found.contraction, deterministic.contraction(MODEL.a, rates[:, None], 0.9), rtol=1e-12)
    assert found.stable.all()
    # Nesterov's ends at 2 (1 + mu) / ((1 + 2 mu) L) = 0.6786.
    nesterov = outer_momentum.sgd(MODEL, [0.678, 0.679], 0.9, nesterov=True)
    assert nesterov.stable.all(-1).tolist() == [True, False]


def test_where_it_is_stable_is_where_every_eigenvalue_is_below_1():
    z, mu = np.linspace(0.01, 1.99, 50)[:, None], np.linspace(0, 0.99, 40)
    for nesterov in (False, True):
        share = mu if nesterov else 0 * mu
        matrix = np.empty((50, 40, 2, 2))  # of (phi, alpha b), as the update has it
        matrix[..., 0, 0], matrix[..., 0, 1] = 1 - (1 + share) * z, -mu * (mu if nesterov else 1)
        matrix[..., 1, 0], matrix[..., 1, 1] = z, mu
        inside = np.abs(np.linalg.eigvals(matrix)).max(-1) < 1
        np.testing.assert_array_equal(z < outer_momentum.largest_stable_pull(mu, nesterov), inside)
        assert inside.all() == (not nesterov)  # with heavy ball no alpha in (0, 1] is unstable


@pytest.mark.parametrize("rate", [0.95, 0.97])  # stable, unstable at the largest eigenvalue alone
def test_an_unstable_setting_is_a_result(rate):
    # k = 1, alpha = 1, mu = 0.05: Nesterov is stable for gamma a below 2.1 / 1.1 = 1.909.
    rounds = outer_momentum.lookahead(MODEL, rate, 1, 1.0, 0.05, nesterov=True)
    unstable = rate == 0.97
    assert rounds.stable.tolist() == [not unstable, True, True]
    for value in (outer_momentum.steady_excess(MODEL, rounds), outer_momentum.distance(MODEL, rounds, 100)):
        assert np.isinf(value) == unstable
        assert value > 0
    assert (outer_momentum.gap(MODEL, rounds, 100) == np.inf) == unstable
    assert np.isinf(outer_momentum.distance(MODEL, rounds, 100_000)) == unstable  # where powers overflow
    assert (outer_momentum.speed(rounds) < 0) == unstable
    mean, covariance = unrolled(MODEL, 20, rate, 1, 1.0, 0.05, True)[-1]
    found = rounds.moments(MODEL.start, 20)
    np.testing.assert_allclose(found.mean, mean[:, 0], rtol=1e-11)
    np.testing.assert_allclose(found.variance, covariance[:, 0, 0], rtol=1e-11)


def test_moments_on_the_edge_of_stability_are_exact_too():
    # mu = 1/2, Nesterov: the edge is at 3/2; one eigenvalue is -1 and the variance grows with the rounds.
    setting = (0.75, 1, 1.0, 0.5, True)
    rounds = outer_momentum.lookahead(NoisyQuadratic(2.0, 1.0, 1.0), *setting)
    assert not rounds.stable.any()
    assert np.isinf(rounds.steady_variance).all()
    _, covariance = unrolled(NoisyQuadratic(2.0, 1.0, 1.0), 50, *setting)[-1]
    assert rounds.moments(np.array([1.0]), 50).variance == pytest.approx(covariance[:, 0, 0], rel=1e-12)


def test_the_distance_is_the_gap_where_the_loss_falls_in_every_coordinate_and_more_where_it_rises():
    falls = NoisyQuadratic([1.0, 0.1], 0.1, 3.0)
    rounds = outer_momentum.lookahead(falls, 0.5, 5, 0.5, 0.0, False)
    assert outer_momentum.distance(falls, rounds, 20) == pytest.approx(outer_momentum.gap(falls, rounds, 20), rel=1e-14)
    mixed = NoisyQuadratic([1.0, 0.1], [0.1, 0.1], [0.0, 3.0])
    left = outer_momentum.lookahead(mixed, 0.5, 5, 0.5, 0.0, False)
    (rises, falls_there) = mixed.a / 2 * left.left(mixed.start, 2)
    assert rises < 0 < falls_there
    assert outer_momentum.gap(mixed, left, 10) == pytest.approx(rises + falls_there, rel=1e-14)
    assert outer_momentum.distance(mixed, left, 10) == pytest.approx(falls_there - rises, rel=1e-14)


def test_everything_broadcasts_over_rates_alphas_and_momenta():
    rates, alphas, momenta = np.array([0.1, 0.9])[:, None, None], np.array([0.2, 1.0])[:, None], np.array([0, 0.5, 0.9])
    together = outer_momentum.lookahead(MODEL, rates, 5, alphas, momenta, True)
    gaps, speeds = outer_momentum.gap(MODEL, together, 30), outer_momentum.speed(together)
    assert together.steady_variance.shape == (2, 2, 3, 3)
    assert gaps.shape == speeds.shape == (2, 2, 3)
    for i, j, n in np.ndindex(2, 2, 3):
        alone = outer_momentum.lookahead(MODEL, rates[i, 0, 0], 5, alphas[j, 0], momenta[n], True)
        assert gaps[i, j, n] == pytest.approx(outer_momentum.gap(MODEL, alone, 30), rel=1e-12)
        assert speeds[i, j, n] == pytest.approx(-np.log(alone.contraction.max()), rel=1e-12)


@pytest.mark.parametrize("numbers", [1, 30, 2**17])
def test_a_grid_has_every_setting_s_numbers_whatever_the_block(numbers, monkeypatch):
    monkeypatch.setattr(noisy, "CACHED", numbers)
    rates, alphas, momenta = [0.1, 0.3, 0.9], [0.2, 1.0], [0.0, 0.9]
    grid = outer_momentum.on_grid(MODEL, 3, rates, alphas, momenta, 20, nesterov=True)
    assert grid.final_excess.shape == grid.distance.shape == grid.speed.shape == (2, 2, 3)
    for (i, mu), (j, alpha), (n, rate) in itertools.product(*map(enumerate, (momenta, alphas, rates))):
        alone = outer_momentum.lookahead(MODEL, rate, 3, alpha, mu, True)
        assert grid.final_excess[i, j, n] == pytest.approx(outer_momentum.steady_excess(MODEL, alone), rel=1e-13)
        assert grid.distance[i, j, n] == pytest.approx(outer_momentum.distance(MODEL, alone, 20), rel=1e-12)
        assert grid.speed[i, j, n] == pytest.approx(outer_momentum.speed(alone), rel=1e-13)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: outer_momentum.lookahead(MODEL, 0.3, 5, 0.5, 1.0, True), r"mu must be in \[0, 1\), not 1"),
        (lambda: outer_momentum.lookahead(MODEL, 0.3, 5, 0.5, [0.9, -0.1], True), "mu must be in .* not -0.1"),
        (lambda: outer_momentum.lookahead(MODEL, 0.3, 5, 0.5, float("nan"), True), "not nan"),
        (lambda: outer_momentum.lookahead(MODEL, 0.3, 5, 0.5, "high", True), "mu must be a number, not 'high'"),
        (lambda: outer_momentum.lookahead(MODEL, 0.3, 5, 1.5, 0.9, True), r"alpha must be in \(0, 1\], not 1.5"),
        (lambda: outer_momentum.lookahead(MODEL, 1.0, 5, 0.5, 0.9, True), r"learning rate must be in \(0, 1\).* not 1"),
        (lambda: outer_momentum.lookahead(MODEL, 0.3, 0, 0.5, 0.9, True), "k must be an integer of at least 1, not 0"),
        (lambda: outer_momentum.lookahead(MODEL, 0.3, 5, 0.5, 0.9, 1), "nesterov must be true or false, not 1"),
        (
            lambda: outer_momentum.lookahead(MODEL, 0.3, 5, 0.5, 0.9, True, workers=0),
            "workers must be an integer of at least 1, not 0",
        ),
        (lambda: outer_momentum.sgd(MODEL, 0.3, 1.0, False), r"mu must be in \[0, 1\), not 1"),
        (lambda: outer_momentum.sgd(MODEL, 1.95, 0.9, False), r"in \(0, 1.9\), which is \(0, 2 \(1 \+ beta\) / L\)"),
        (lambda: outer_momentum.largest_stable_pull(1.0, True), "mu must be in"),
        (
            lambda: outer_momentum.gap(MODEL, outer_momentum.sgd(MODEL, 0.3, 0.5, False), -1),
            "updates must be an integer of at least 0, not -1",
        ),
        (
            lambda: outer_momentum.sgd(MODEL, 0.3, 0.5, False).moments(MODEL.start, 2.5),
            "rounds must be an integer of at least 0, not 2.5",
        ),
    ],
)
def test_bad_input_is_one_line_that_names_the_value(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
