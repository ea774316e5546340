"""The paper's claims on quadratics as data, on small settings where the answer is known or can be worked out."""

import numpy as np
import pytest
from scipy.optimize import brentq

from experiments.quadratic import claims, comparisons, noisy
from experiments.quadratic.claims import Verdict


def test_verdict_counts_what_holds_ties_and_fails():
    verdict = Verdict(np.array([[0.5, 1e-12, -1e-12], [-0.25, 0.0, 2e-9]]))
    assert verdict.holds.tolist() == [[True, False, False], [False, False, True]]
    assert verdict.ties.tolist() == [[False, True, True], [False, True, False]]
    assert verdict.fails.tolist() == [[False, False, False], [True, False, False]]
    summary = verdict.summary()
    assert (summary["holds"], summary["ties"], summary["fails"]) == (2, 3, 1)
    assert (summary["margin_min"], summary["margin_max"]) == (-0.25, 0.5)


def test_a_margin_is_infinite_where_one_loss_is_there_to_the_last_digit_and_0_where_both_are():
    model = noisy.NoisyQuadratic(1.0, 1.0, 2.0)
    pairs = comparisons.equal_risk(model, [0.5, 1.0], 5, [0.1, 0.9])
    soon, late = (comparisons.equal_risk_gaps(model, pairs, updates) for updates in (300, 100_000))
    assert (soon.sgd[1, 1], soon.margin[1, 1]) == (0.0, -np.inf)
    assert soon.lookahead[1, 1] > 0
    assert not late.margin.any()
    summary = Verdict(np.array([-np.inf, -np.inf, -np.inf, -np.inf, 0.5])).summary()
    assert (summary["holds"], summary["fails"], summary["margin_median"]) == (1, 4, -np.inf)
    assert np.isnan(Verdict(np.array([-np.inf, np.inf])).summary()["margin_median"])


def test_variance_is_smaller_for_every_alpha_below_1_and_equal_at_1():
    rates, ks, alphas = [1e-12, 0.1, 1.0, 1.9, 2 - 1e-12], [1, 2, 5, 20], [1e-9, 0.5, 1 - 1e-9, 1.0]
    verdict = claims.variance_is_smaller(rates, ks, alphas)
    assert verdict.margin.shape == (4, 4, 5)
    assert verdict.holds[:, :3].all()
    assert verdict.ties[:, 3].all()
    # The margin is the one of Equation 7.
    model = noisy.NoisyQuadratic(1.0, 3.0, 0.0)
    for (i, j, n), margin in np.ndenumerate(verdict.margin[:, :, 1:4]):
        setting = rates[n + 1], ks[i], alphas[j]
        ratio = noisy.lookahead_steady_variance(model, *setting) / noisy.sgd_steady_variance(model, setting[0])
        assert margin == pytest.approx(1 - ratio[0], rel=1e-6, abs=1e-14)


def test_on_a_single_eigenvalue_lookahead_is_never_sooner():
    model = noisy.NoisyQuadratic(1.0, 1.0, 2.0)  # 2^2 is above every V*, so the loss falls
    pairs = comparisons.equal_risk(model, np.linspace(0.02, 1.0, 25), 5, [0.05, 0.3, 0.7, 0.95, 1.0])
    for updates in (5, 20, 100):
        verdict = claims.same_risk_sooner(model, pairs, updates)
        assert verdict.fails[:4].all()
        assert verdict.ties[4].all()
        # The margin of the speeds is that of the gaps, which is the ratio of the factors to the power 2 T.
        alone = claims.same_risk_sooner_on_one_eigenvalue(pairs.rate[0], 5, pairs.alpha[:, 0])
        with np.errstate(divide="ignore", invalid="ignore"):
            sgd_speed = -np.log(np.abs(1 - pairs.sgd_rate))
            expected = 1 - np.exp(-2 * updates * sgd_speed * alone.margin)
        compared = np.isfinite(sgd_speed) & (verdict.margin > -1e6)
        assert compared.sum() > 60
        np.testing.assert_allclose(verdict.margin[compared], expected[compared], rtol=1e-6, atol=1e-9)


def test_one_eigenvalue_needs_gamma_a_of_at_most_1():
    with pytest.raises(ValueError, match=r"gamma a must be in \(0, 1\], not in \[0.5, 1.5\]"):
        claims.same_risk_sooner_on_one_eigenvalue([0.5, 1.5], 5, [0.5])


def test_on_a_spread_spectrum_lookahead_reaches_the_same_risk_sooner_but_not_at_once():
    model = noisy.worst_case(30, 1000.0)
    pairs = comparisons.equal_risk(model, np.linspace(0.05, 0.95, 10), 5, [0.2, 0.6, 1.0])
    assert claims.same_risk_sooner(model, pairs, 1000).holds[:2].all()
    win = claims.first_win(model, pairs, rounds=64)
    assert (win.updates[0], win.updates[-1]) == (5, 320)
    assert win.share_of_alphas[0] == 0
    assert win.share_of_alphas[-1] == 1
    assert 5 < win.first < 80
    for n in (0, 3, 15, 63):
        verdict = claims.same_risk_sooner(model, pairs, int(win.updates[n]))
        assert win.share_of_alphas[n] == np.mean([verdict.holds[i].any() for i in (0, 1)])
        assert win.best_margin[n] == pytest.approx(verdict.margin[:2].max(), rel=1e-8)
    before = win.updates.tolist().index(win.first) - 1
    assert not claims.same_risk_sooner(model, pairs, int(win.updates[before])).holds.any()
    assert claims.first_win(model, pairs, rounds=1).first is None


def test_first_win_needs_an_alpha_below_1():
    model = noisy.worst_case(3, 10.0)
    with pytest.raises(ValueError, match="an alpha below 1 is needed, not only 1"):
        claims.first_win(model, comparisons.equal_risk(model, [0.1], 5, [1.0]), 1)
    with pytest.raises(ValueError, match="rounds must be an integer of at least 1, not 0"):
        claims.first_win(model, comparisons.equal_risk(model, [0.1], 5, [0.5]), 0)


def test_domination_at_every_horizon_ties_at_multiples_of_k_and_fails_between():
    model, k = noisy.worst_case(30, 1000.0), 5
    rates, alphas = np.geomspace(1e-3, 0.5, 12), np.geomspace(1e-2, 1.0, 8)
    judged = claims.dominates_at_every_horizon(model, 300, k, rates, alphas, np.geomspace(1e-3, 1.9, 20), times=10)
    assert judged.verdict.fails[: k - 1].all()  # the slow weights have not moved yet
    assert not judged.verdict.fails[judged.at_multiples].any()  # alpha = 1 is on the grid
    np.testing.assert_array_equal(np.flatnonzero(judged.at_multiples) + 1, range(5, 301, 5))
    assert claims.first_of(judged.found.updates, judged.verdict.holds) == np.flatnonzero(judged.verdict.holds)[0] + 1
    # A grid that holds the coarse one cannot make SGD worse.
    assert np.all(judged.against_finer.margin <= judged.verdict.margin + 1e-12)
    assert judged.against_finer.margin.min() < judged.verdict.margin.min() + 1e-12
    np.testing.assert_array_equal(judged.against_wider.margin, 1 - judged.wider.lookahead / judged.wider.sgd)
    assert judged.wider.sgd_rate.max() > rates[-1]
    assert not set(judged.wider.lookahead_rate) & set(rates[1:])  # of the other grid, which shares the first alone


def test_first_of_the_horizons_and_of_the_reversed_ones_the_last():
    horizons, where = np.array([5, 10, 15, 20]), np.array([False, True, True, False])
    assert claims.first_of(horizons, where) == 10
    assert claims.first_of(horizons[::-1], where[::-1]) == 15
    assert claims.first_of(horizons, np.zeros(4, bool)) is None


def test_settings_stay_at_the_edge_of_the_grid_until_they_leave_it_first():
    ones = np.ones(9)
    found = comparisons.Horizons(
        k=3,
        sgd=ones,
        sgd_rate=np.array([0.1, 0.1, 0.05, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05]),
        lookahead=ones,
        lookahead_rate=np.array([0.01, 0.01, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]),  # nothing is chosen before T = k
        lookahead_alpha=ones,
    )
    assert claims.settings_at_edge(found, 0.1) == {"sgd": 2, "lookahead": 9}
    assert claims.settings_at_edge(found, 0.05) == {"sgd": 0, "lookahead": 0}


@pytest.mark.parametrize("whole_interval", [False, True])
def test_damping_finds_where_lookahead_stops_to_improve_momentum(whole_interval):
    kappas = np.geomspace(1, 1e4, 9)[::-1]  # in any order
    damping = claims.better_when_under_damped(kappas, beta=0.9, whole_interval=whole_interval)
    root = np.sqrt(0.9)
    assert damping.critical == pytest.approx(((1 + root) / (1 - root)) ** 2)
    assert damping.verdict.holds[0]
    assert damping.verdict.fails[-1]
    (crossing,) = damping.crossings
    around = claims.better_when_under_damped([crossing * 0.999, crossing * 1.001], 0.9, whole_interval=whole_interval)
    assert around.verdict.margin[0] > 0 > around.verdict.margin[1]
    momentum, lookahead = 1 - damping.momentum.contraction, 1 - damping.lookahead.contraction
    np.testing.assert_allclose(damping.verdict.margin, (lookahead - momentum) / momentum, rtol=1e-9)


def test_with_alpha_1_lookahead_ties_with_momentum_and_rounding_makes_no_crossing():
    damping = claims.better_when_under_damped(np.geomspace(1, 1e5, 30), 0.9, 5, 1.0)
    assert damping.verdict.ties.all()
    assert damping.crossings == []


def test_a_condition_number_at_which_both_tie_does_not_hide_the_crossing():
    def margin(log):
        return claims.better_when_under_damped(np.exp(log), 0.9, 20, 0.5, "reset").verdict.margin[0]

    tie = np.exp(brentq(margin, np.log(120), np.log(250), xtol=1e-14)) * (
        1 - 1e-11
    )  # where it is still better, but for rounding
    damping = claims.better_when_under_damped([120.0, tie, 250.0], 0.9, 20, 0.5, "reset")
    assert damping.verdict.ties.tolist() == [False, True, False]
    assert damping.crossings == pytest.approx([tie], rel=1e-5)
