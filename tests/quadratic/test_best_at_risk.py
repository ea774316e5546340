"""The best settings at equal final loss, against plain searches and numbers worked by hand."""

import numpy as np
import pytest

from experiments.quadratic import best_at_risk, noisy, outer_momentum
from experiments.quadratic.best_at_risk import METHODS, OBJECTIVES, Search
from experiments.quadratic.noisy import NoisyQuadratic

MODEL = noisy.worst_case(6, 50.0)
RATES = np.array([0.02, 0.2, 0.8])
WANTED = noisy.steady_excess(MODEL, RATES)
SEARCH = Search(MODEL, 5, 200)


def rounds_of(method, best, workers=1, k=5):
    """The rounds of what was found, by what is public of the theory."""
    if METHODS[method].inner_loop:
        return outer_momentum.lookahead(
            MODEL, best.rate, k, best.alpha, best.mu, METHODS[method].nesterov, workers=workers
        )
    return outer_momentum.sgd(MODEL, best.rate, best.mu, METHODS[method].nesterov, workers=workers)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("method", METHODS)
def test_the_best_settings_have_the_final_loss_that_is_wanted_and_the_numbers_that_are_told(method, objective):
    best = SEARCH.best(WANTED, method, objective)
    rounds = rounds_of(method, best)
    # The root's rounding, and 1 - mu's where it is small.
    np.testing.assert_allclose(outer_momentum.steady_excess(MODEL, rounds), WANTED, rtol=1e-9)
    np.testing.assert_allclose(outer_momentum.distance(MODEL, rounds, 200), best.distance, rtol=1e-6)
    np.testing.assert_allclose(outer_momentum.speed(rounds), best.speed, rtol=1e-6)
    assert np.all(best.mu == 0) or METHODS[method].momentum


def test_sgd_alone_has_the_one_learning_rate_of_its_final_loss():
    best = SEARCH.best(WANTED, "sgd", "distance")
    np.testing.assert_allclose(best.rate, RATES, rtol=1e-12)
    np.testing.assert_allclose(best.distance, noisy.gap(MODEL, RATES, 200), rtol=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_lookahead_s_best_is_that_of_a_plain_search_of_learning_rates(objective):
    best = SEARCH.best(WANTED, "lookahead", objective)
    rates = np.geomspace(0.01, 1.99, 300)
    for number, wanted in enumerate(WANTED):
        least = np.inf
        for rate in rates:
            # The final loss rises with alpha: bisect.
            low, high = 0.0, 1.0
            if noisy.steady_excess(MODEL, rate, 5, 1.0) < wanted:
                continue
            for _ in range(40):
                middle = (low + high) / 2
                low, high = (middle, high) if noisy.steady_excess(MODEL, rate, 5, middle) < wanted else (low, middle)
            factor = np.abs(noisy.lookahead_factor(MODEL, rate, 5, high)).max()
            gap = noisy.gap(MODEL, rate, 200, 5, high)
            least = min(least, gap if objective == "distance" else np.log(factor) / 5)
        found = best.distance[number] if objective == "distance" else -best.speed[number]
        assert found == pytest.approx(least, rel=1e-3)
        assert found <= least * (1 + 1e-9 * np.sign(least))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("method", ["lookahead_heavy_ball", "lookahead_nesterov", "sgd_heavy_ball", "sgd_nesterov"])
def test_no_setting_drawn_at_random_is_better(method, objective):
    rng, count = np.random.default_rng(1), 4000
    best = SEARCH.best(WANTED, method, objective)
    for number, wanted in enumerate(WANTED):
        rate, mu = np.exp(rng.uniform(np.log(0.01), np.log(1.99), count)), 1 - np.exp(rng.uniform(-6, 0, count))
        loop = (
            outer_momentum.inner_sgd(MODEL, rate, 5)
            if METHODS[method].inner_loop
            else outer_momentum.inner_sgd(MODEL, np.full(count, 1.0), 1)  # alpha is the learning rate
        )
        nesterov = METHODS[method].nesterov
        step = best_at_risk.step_of_risk(MODEL, loop, mu, nesterov, np.full(count, wanted), np.ones(count))
        there = np.isfinite(step)
        assert there.sum() > 100
        rounds = outer_momentum.with_momentum(
            type(loop)(loop.pull[there], loop.noise[there], loop.k), step[there], mu[there], nesterov
        )
        if objective == "distance":
            # Where next to nothing is left, many momenta pass near 0 at just this update: a few percent are lost.
            assert best.distance[number] <= outer_momentum.distance(MODEL, rounds, 200).min() * 1.05
        else:
            assert best.speed[number] >= outer_momentum.speed(rounds).max() * (1 - 1e-3)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_method_never_is_worse_than_the_one_that_it_has_within(objective):
    for name, method in METHODS.items():
        if method.within:
            best, fewer = (SEARCH.best(WANTED, one, objective) for one in (name, method.within))
            better = fewer.distance - best.distance if objective == "distance" else best.speed - fewer.speed
            assert np.all(better >= 0)


def test_critical_damping_doubles_sgd_s_speed_in_the_limit_of_a_small_loss():
    # One eigenvalue. At a small loss gamma / (1 - mu) is SGD's learning rate, whatever mu, and critical damping,
    # gamma a = (1 - sqrt(mu))^2, makes twice the speed of SGD, gamma a / (1 - mu).
    model = NoisyQuadratic(1.0, 1.0, 1.0)
    search, wanted = Search(model, 1, 100), noisy.steady_excess(model, np.array([1e-3]))
    sgd, heavy = (search.best(wanted, name, "speed") for name in ("sgd", "sgd_heavy_ball"))
    assert heavy.speed / sgd.speed == pytest.approx(2, rel=2e-3)
    assert (1 - np.sqrt(heavy.mu)) ** 2 == pytest.approx(heavy.rate, rel=1e-3)


def test_workers_divide_the_final_loss_at_the_same_settings():
    eight = Search(MODEL, 5, 200, workers=8)
    for method in ("sgd_nesterov", "lookahead", "lookahead_nesterov"):
        one, many = SEARCH.best(WANTED, method, "speed"), eight.best(WANTED / 8, method, "speed")
        np.testing.assert_allclose(many.speed, one.speed, rtol=1e-6)
        rounds = rounds_of(method, many, workers=8)
        np.testing.assert_allclose(outer_momentum.steady_excess(MODEL, rounds), WANTED / 8, rtol=1e-9)


def test_a_given_alpha_and_momentum_has_the_learning_rate_of_the_final_loss():
    found = best_at_risk.at_given_steps(SEARCH, WANTED, 0.7, 0.9)
    assert (found.alpha.tolist(), found.mu.tolist()) == ([0.7] * 3, [0.9] * 3)
    rounds = outer_momentum.lookahead(MODEL, found.rate, 5, 0.7, 0.9, True)
    np.testing.assert_allclose(outer_momentum.steady_excess(MODEL, rounds), WANTED, rtol=1e-12)
    np.testing.assert_allclose(found.distance, outer_momentum.distance(MODEL, rounds, 200), rtol=1e-12)
    np.testing.assert_allclose(found.speed, outer_momentum.speed(rounds), rtol=1e-12)
    plain = best_at_risk.at_given_steps(SEARCH, WANTED, 1.0, 0.0)
    np.testing.assert_allclose(plain.rate, RATES, rtol=1e-12)  # SGD's
    beyond = best_at_risk.at_given_steps(SEARCH, [1e-3, 1e9], 0.1, 0.0)
    assert np.isnan(beyond.rate).tolist() == [False, True]  # with alpha = 0.1 the final loss stays finite up to 2 / L
    assert np.isnan(beyond.speed).tolist() == [False, True]


@pytest.mark.parametrize("method", METHODS)
def test_a_final_loss_beyond_the_searched_rates_is_the_one_that_sgd_has_next_to_its_bound(method):
    wanted = noisy.steady_excess(MODEL, np.array([1.9999]))  # Lookahead is searched up to 0.999 of the bound
    best = SEARCH.best(wanted, method, "speed")
    assert np.isfinite(best.speed).all()
    if method == "lookahead":
        assert best.rate == pytest.approx(1.9999, rel=1e-9)
        assert best.alpha.tolist() == [1.0]


def test_what_no_setting_reaches_is_nan_not_an_error():
    model = NoisyQuadratic(1.0, 1.0, 1.0)
    loop = outer_momentum.inner_sgd(model, np.array([0.5, 0.5]), 5)
    step = best_at_risk.step_of_risk(model, loop, np.zeros(2), False, np.array([0.01, 10.0]), np.ones(2))
    assert np.isnan(step).tolist() == [False, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SEARCH.best([0.0], "sgd", "speed"), "final_excess must be finite and above 0, not 0"),
        (lambda: SEARCH.best(WANTED, "adam", "speed"), "the method must be some of sgd, .* not 'adam'"),
        (lambda: SEARCH.best(WANTED, "sgd", "loss"), "the objective must be some of distance, speed, not 'loss'"),
        (lambda: Search(MODEL, 0, 100), "k must be an integer of at least 1, not 0"),
        (lambda: Search(MODEL, 5, 4), "updates must be an integer of at least 5, not 4"),
        (lambda: Search(MODEL, 5, 10, workers=0), "workers must be an integer of at least 1, not 0"),
        (lambda: best_at_risk.at_given_steps(SEARCH, WANTED, 0.7, 1.0), r"mu must be in \[0, 1\), not 1"),
        (lambda: best_at_risk.at_given_steps(SEARCH, [np.inf], 0.7, 0.9), "final_excess must be finite"),
    ],
)
def test_bad_input_is_one_line_that_names_the_value(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
