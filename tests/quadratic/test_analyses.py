"""What each analysis of the quadratic records, against the functions it rests on and numbers worked out by hand."""

import numpy as np
import pytest

from experiments.quadratic import claims, comparisons, grids, noisy
from experiments.quadratic.convergence import Convergence
from experiments.quadratic.deterministic import contraction
from experiments.quadratic.finite_horizon import FiniteHorizon
from experiments.quadratic.momentum_rates import MomentumRates
from experiments.quadratic.optimizer_runs import OptimizerRuns

MODEL = noisy.worst_case(8, 100.0)
RATES, ALPHAS = np.linspace(0.1, 0.9, 5), np.array([0.05, 0.5, 1.0])


def by_claim(rows):
    return {(row["claim"], row.get("case", "")): row for row in rows}


def convergence(**changed):
    return Convergence(**{"model": MODEL, "k": 5, "rates": RATES, "alphas": ALPHAS, "updates": 100} | changed)


def test_convergence_records_the_curves_of_both_and_judges_them_at_equal_risk():
    found = convergence(rounds=8).findings()
    curves = found.arrays["curves"]
    sgd = comparisons.convergence(MODEL, RATES, 100)
    lookahead = comparisons.convergence(MODEL, RATES, 100, 5, ALPHAS)
    np.testing.assert_array_equal(curves["sgd_gap"], sgd.gap[0])
    np.testing.assert_array_equal(curves["lookahead_gap"], lookahead.gap)
    np.testing.assert_allclose(curves["lookahead_final_excess"][2], curves["sgd_final_excess"], rtol=1e-14)  # alpha = 1
    assert curves["irreducible_loss"] == pytest.approx(8 / 2)  # Sigma = A^-1
    pairs = comparisons.equal_risk(MODEL, RATES, 5, [0.05, 0.5])
    margin = comparisons.equal_risk_gaps(MODEL, pairs, 100).margin
    np.testing.assert_array_equal(curves["margin"], margin)
    row = by_claim(found.claims)["the same risk sooner", ""]
    wins = margin > 1e-9
    assert (row["holds"], row["fails"]) == (wins.sum(), (~wins).sum())
    assert row["alphas_that_win_somewhere"] == wins.any(axis=1).mean()
    assert row["alphas_that_win_everywhere"] == wins.all(axis=1).mean()
    assert row["rates_at_which_some_alpha_wins"] == wins.any(axis=0).mean()
    assert found.tables["alphas"]["alpha"].tolist() == [0.05, 0.5]
    assert found.tables["alphas"]["holds"].tolist() == wins.sum(axis=1).tolist()
    horizons, early = found.tables["horizons"], by_claim(found.claims)["an alpha wins early", ""]
    assert horizons["updates"].tolist() == list(range(5, 41, 5))
    at_the_end = comparisons.equal_risk_gaps(MODEL, pairs, 40).margin > 1e-9
    assert early["alphas_that_win_at_the_end"] == horizons["share_of_alphas"].iloc[-1] == at_the_end.any(axis=1).mean()
    assert early["alphas_that_win_at_the_end"] == 0.5  # 0.05 does not yet


def test_grids_may_be_given_in_any_order():
    for analysis, grids_of in ((Convergence, ("rates", "alphas")), (FiniteHorizon, ("rates", "alphas", "wider"))):
        given = VALID[analysis] | {name: np.flip(VALID[analysis][name]) for name in grids_of}
        assert analysis(**given).claims() == analysis(**VALID[analysis]).claims()
        for name in grids_of:
            np.testing.assert_array_equal(getattr(analysis(**given), name), VALID[analysis][name])


def test_on_one_eigenvalue_the_variance_is_smaller_and_nothing_is_sooner():
    rows = by_claim(convergence().findings().claims)
    smaller, alone = rows["the steady variance is smaller", ""], rows["the same risk sooner, on one eigenvalue", ""]
    assert (smaller["holds"], smaller["ties"], smaller["fails"]) == (2 * 5 * 2, 0, 0)
    assert (alone["holds"], alone["ties"], alone["fails"]) == (0, 0, 5 * 2)
    assert smaller == {
        "claim": "the steady variance is smaller",
        **claims.variance_is_smaller([*RATES / 100, *RATES], 5, [0.05, 0.5]).summary(),
    }


def test_on_one_eigenvalue_learning_rates_that_oscillate_are_left_out():
    rows = by_claim(convergence(rates=[0.5, 1.0, 1.5]).findings().claims)
    alone = rows["the same risk sooner, on one eigenvalue", ""]
    assert alone["fails"] == 2 * 2
    assert ("the same risk sooner, on one eigenvalue", "") not in by_claim(convergence(rates=[1.5]).findings().claims)


def test_with_alpha_1_alone_lookahead_is_sgd_and_nothing_is_judged():
    found = convergence(alphas=[1.0]).findings()
    assert found.claims == []
    curves = found.arrays["curves"]
    np.testing.assert_allclose(curves["lookahead_gap"][0], curves["sgd_gap"], rtol=1e-12)


def test_finite_horizon_records_every_horizon_with_its_settings_and_margins():
    rates, alphas, wider = np.geomspace(1e-3, 0.1, 6), np.geomspace(0.01, 1, 4), np.geomspace(1e-3, 1, 6)
    found = FiniteHorizon(MODEL, 5, 203, rates, alphas, times=3, wider=wider).findings()
    table, expected = found.tables["horizons"], comparisons.horizons(MODEL, 203, 5, rates, alphas)
    assert table["updates"].tolist() == list(range(1, 204))
    np.testing.assert_array_equal(table["sgd_excess"], expected.sgd)
    np.testing.assert_array_equal(table["lookahead_alpha"], expected.lookahead_alpha)
    np.testing.assert_allclose(table["margin"], 1 - table["lookahead_excess"] / table["sgd_excess"])
    finest = noisy.best_by_round(MODEL, grids.finer(rates, 3), 203).excess[1:]
    np.testing.assert_allclose(table["margin_against_finer"], 1 - table["lookahead_excess"] / finest)
    on_wider = comparisons.horizons(MODEL, 203, 5, wider, alphas)
    np.testing.assert_array_equal(table["lookahead_rate_wider"], on_wider.lookahead_rate)
    rows = by_claim(found.claims)
    assert len(rows) == 3
    row, wide = (rows["Lookahead dominates at every horizon", case] for case in ("", "a wider range of learning rates"))
    wins, fails = table["margin"] > 1e-9, table["margin"] < -1e-9
    assert (row["holds"], row["fails"]) == (wins.sum(), fails.sum())
    multiples = table["updates"] % 5 == 0
    assert (row["at_multiples_holds"], row["at_multiples_fails"]) == (wins[multiples].sum(), 0)
    assert row["last_fail"] == table["updates"][fails].max()
    assert wide["first_strict_win"] == table["updates"][table["margin_wider"] > 1e-9].min()
    finer = rows["Lookahead dominates at every horizon", "SGD's grid 3 times finer"]
    assert finer["holds"] == (table["margin_against_finer"] > 1e-9).sum()
    assert wide["sgd_at_the_largest_rate_until"] == (table["sgd_rate_wider"] == 1.0).to_numpy().argmin()
    assert row["sgd_at_the_largest_rate_until"] == (table["sgd_rate"] == 0.1).to_numpy().argmin()


def test_momentum_rates_split_at_the_critical_condition_number():
    kappas = [1000.0, 3.0, 1.0, 10_000.0]  # 0.9's critical one is 1,442
    found = MomentumRates(kappas, 20, 0.5, [0.9], ["ends", "interval"], ["maintain", "reset"], points=7).findings()
    rates = found.tables["rates"]
    assert rates["condition_number"].tolist() == sorted(kappas) * 4
    assert rates.groupby(["spectrum", "inner_state"], sort=False).ngroups == 4
    shown = rates[(rates["spectrum"] == "ends") & (rates["inner_state"] == "reset")]
    direct = claims.better_when_under_damped(sorted(kappas), 0.9, 20, 0.5, "reset")
    np.testing.assert_array_equal(shown["margin"], direct.verdict.margin)
    np.testing.assert_array_equal(shown["momentum_contraction"], direct.momentum.contraction)
    rows = by_claim(found.claims)
    under = rows["better when under-damped", "beta 0.9, ends, reset"]
    over = rows["worse when over-damped", "beta 0.9, ends, reset"]
    assert under["holds"] + under["ties"] + under["fails"] == 3
    assert (over["holds"], over["margin_max"]) == (1, -direct.verdict.margin[3])
    assert under["critical"] == pytest.approx(1442, abs=1)
    assert (under["crossings"], under["last_crossing"]) == (len(direct.crossings), max(direct.crossings))
    on_one = found.tables["contraction"]
    np.testing.assert_allclose(on_one["rate"], 3.8 * (np.arange(7) + 0.5) / 7)
    np.testing.assert_array_equal(on_one["reset"], contraction(1.0, on_one["rate"], 0.9, 20, 0.5, "reset"))
    assert "interpolate" not in on_one
    assert rows["Lookahead diverges", "beta 0.9, maintain"]["share_of_rates"] == pytest.approx(0.0266, abs=1e-4)


def test_momentum_rates_name_the_first_and_the_last_crossing():
    kappas = np.linspace(140, 200, 31)
    (row, *_) = MomentumRates(kappas, 20, 0.5, [0.9], ["ends"], ["maintain"], points=3).claims()
    crossings = claims.better_when_under_damped(kappas, 0.9).crossings
    assert len(crossings) == row["crossings"] > 1
    assert (row["first_crossing"], row["last_crossing"]) == (crossings[0], crossings[-1])


def test_each_setting_of_the_optimizer_s_runs_has_samples_of_its_own():
    model = noisy.NoisyQuadratic([1.0], [1.0], [1.0])
    settings = [{"k": 2, "alpha": 0.5}] * 2
    moments = OptimizerRuns(model, 0.5, settings, 2, 50, 0.9, 5, 0.5, ["reset"], 1, 3, seed=1).moments
    assert moments["mean"].nunique() == 2


def test_the_optimizer_s_runs_are_within_sampling_and_rounding_of_the_theory():
    model = noisy.NoisyQuadratic([1.0, 0.2], [1.0, 2.0], [1.0, -2.0])
    settings = [{"k": 2, "alpha": 0.5}, {"k": 3, "alpha": 0.9}]
    runs = OptimizerRuns(model, 0.5, settings, 7, 2000, 0.9, 5, 0.5, ["maintain", "reset"], 4, 60, seed=1)
    found = runs.findings()
    moments = found.tables["moments"]
    assert moments.groupby(["k", "alpha"])["updates"].unique().map(list).tolist() == [[2, 4, 6], [3, 6]]
    expected = noisy.lookahead_moments(model, 0.5, 3, 0.9, 2)
    last = moments[(moments["k"] == 3) & (moments["updates"] == 6)]
    np.testing.assert_array_equal(last["expected_mean"], expected.mean)
    np.testing.assert_array_equal(last["expected_variance"], expected.variance)
    rows = by_claim(found.claims)
    assert rows["the chains' mean is Lemma 1's", ""]["comparisons"] == 10
    # 20 scores; one above 4 is expected in 800 seeds.
    assert moments[["mean_score", "variance_score"]].abs().to_numpy().max() < 4
    assert rows["the long run contracts by the spectral radius", "reset"]["largest_relative_error"] < 1e-2


VALID = {
    Convergence: {"model": MODEL, "k": 5, "rates": RATES, "alphas": ALPHAS, "updates": 100},
    FiniteHorizon: {
        "model": MODEL, "k": 5, "updates": 10, "rates": RATES, "alphas": ALPHAS, "times": 2, "wider": RATES,
    },
    MomentumRates: {
        "condition_numbers": [10.0], "k": 20, "alpha": 0.5, "betas": [0.9], "spectra": ["ends"],
        "inner_states": ["reset"], "points": 3,
    },
    OptimizerRuns: {
        "model": MODEL, "rate": 0.5, "settings": [{"k": 1, "alpha": 0.5}], "updates": 3, "chains": 2, "beta": 0.9,
        "k": 2, "alpha": 0.5, "inner_states": ["reset"], "points": 2, "rounds": 3, "seed": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("analysis", "name", "value", "message"),
    [
        (Convergence, "model", None, "the model must be a noisy quadratic"),
        (Convergence, "model", noisy.NoisyQuadratic([1.0], 0.0, 1.0), "the noise must be above 0"),
        (Convergence, "rates", [], "rates must hold at least one value"),
        (Convergence, "rates", [0.5, 2.0], r"a learning rate must be in \(0, 2\).* not 2"),
        (Convergence, "alphas", [0.0], r"alpha must be in \(0, 1\], not 0"),
        (Convergence, "k", 0, "k must be an integer of at least 1, not 0"),
        (Convergence, "updates", 4, "updates must be an integer of at least 5, not 4"),
        (Convergence, "updates", 10**20, "updates must be at most 2147483647, not 1"),
        (Convergence, "rounds", 0, "rounds must be an integer of at least 1, not 0"),
        (FiniteHorizon, "updates", 4, "updates must be an integer of at least 5, not 4"),
        (FiniteHorizon, "wider", [3.0], r"a learning rate must be in \(0, 2\).* not 3"),
        (FiniteHorizon, "times", 0, "times must be an integer of at least 1, not 0"),
        (MomentumRates, "betas", [1.0], r"beta must be in \[0, 1\), not 1"),
        (MomentumRates, "condition_numbers", [0.5], "a condition number must be finite and at least 1, not 0.5"),
        (MomentumRates, "spectra", [], r"spectra must be some of ends, interval, not \[\]"),
        (MomentumRates, "inner_states", ["keep"], r"inner_states must be some of .* not \['keep'\]"),
        (MomentumRates, "alpha", 1.5, r"alpha must be in \(0, 1\], not 1.5"),
        (OptimizerRuns, "settings", [], "settings must be a list of such as"),
        (OptimizerRuns, "rate", 2.5, r"a learning rate must be in \(0, 2\).* not 2.5"),
        (OptimizerRuns, "chains", 1, "chains must be an integer of at least 2, not 1"),
        (OptimizerRuns, "inner_states", ["keep"], "inner_states must be some of"),
        (OptimizerRuns, "settings", [3], r"a setting must be such as \{k: 5, alpha: 0.5\}, not 3"),
        (OptimizerRuns, "settings", [{"k": 1}], r"a setting must be such as"),
        (OptimizerRuns, "settings", [{"k": 4, "alpha": 1}], "updates, .*, must be an integer of at least 4, not 3"),
        (OptimizerRuns, "model", noisy.NoisyQuadratic([1, 1], [1, 0], 1), "the noise must be above 0 in every"),
        (OptimizerRuns, "beta", 0, r"beta must be in \(0, 1\), not 0"),
        (OptimizerRuns, "k", 0, "k must be an integer of at least 1, not 0"),
    ],
)
def test_a_bad_value_is_refused_before_any_work(analysis, name, value, message):
    analysis(**VALID[analysis])
    with pytest.raises(ValueError, match=message):
        analysis(**VALID[analysis] | {name: value})
