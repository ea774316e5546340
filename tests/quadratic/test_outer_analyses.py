"""What the analyses of outer momentum and of local workers record, against the functions they rest on."""

import itertools

import numpy as np
import pytest

from experiments.quadratic import noisy, outer_momentum
from experiments.quadratic.best_at_risk import METHODS, Best, Search
from experiments.quadratic.local_workers import LocalWorkers
from experiments.quadratic.outer_comparison import NAMES, OuterMomentum, compared
from experiments.quadratic.outer_runs import OuterMomentumRuns

MODEL = noisy.worst_case(4, 100.0)
RATES, ALPHAS, SGD_RATES = np.linspace(0.1, 0.9, 4), np.array([0.05, 0.5, 1.0]), np.array([0.05, 0.6])
PLAIN, SNOO = {"alpha": 0.5, "mu": 0.0, "nesterov": False}, {"alpha": 0.7, "mu": 0.9, "nesterov": True}
AVERAGE = {"alpha": 1.0, "mu": 0.0, "nesterov": False}
VALID = {
    OuterMomentum: {
        "model": MODEL, "k": 5, "updates": 100, "sgd_rates": SGD_RATES, "given": [PLAIN, SNOO], "rates": RATES,
        "alphas": ALPHAS, "momenta": [0.0, 0.9],
    },
    LocalWorkers: {
        "model": MODEL, "workers": 3, "ks": [2, 10], "updates": 100, "rates": RATES, "alphas": ALPHAS,
        "sgd_rates": SGD_RATES, "given": [AVERAGE, SNOO],
    },
    OuterMomentumRuns: {
        "model": MODEL, "rate": 0.9, "settings": [{"k": 2, **SNOO}], "updates": 5, "chains": 50, "seed": 1,
    },
}  # fmt: skip


def by_claim(rows):
    return {(row["claim"], row.get("case", "")): row for row in rows}


@pytest.fixture(scope="module")
def outer():
    return OuterMomentum(**VALID[OuterMomentum])


@pytest.fixture(scope="module")
def workers():
    return LocalWorkers(**VALID[LocalWorkers])


def test_each_method_is_compared_at_the_final_losses_of_sgd(outer):
    found = outer.findings()
    best = found.tables["best"]
    assert best["method"].unique().tolist() == [*map(NAMES.get, METHODS), "alpha 0.5", "alpha 0.7, Nesterov mu 0.9"]
    search, wanted = Search(MODEL, 5, 100), noisy.steady_excess(MODEL, SGD_RATES)
    for goal in ("distance", "speed"):
        rows = best[(best["objective"] == goal) & (best["method"] == NAMES["lookahead_nesterov"])]
        np.testing.assert_array_equal(rows["sgd_rate"], SGD_RATES)
        np.testing.assert_array_equal(rows["final_excess"], wanted)
        np.testing.assert_array_equal(rows[goal], getattr(search.best(wanted, "lookahead_nesterov", goal), goal))
    rows = by_claim(found.claims)
    first, second = (
        best[(best["objective"] == "speed") & (best["method"] == NAMES[name])]["speed"].to_numpy()
        for name in ("lookahead_nesterov", "lookahead")
    )
    row = rows["Lookahead with outer Nesterov momentum is sooner than Lookahead", "in the long run"]
    assert (row["holds"], row["fails"], row["without"]) == (2, 0, 0)
    assert row["margin_at_lowest"] == first[0] / second[0] - 1
    assert row["margin_max"] == (first / second - 1).max()
    left, sgd = (
        best[(best["objective"] == goal) & (best["method"] == name)]["distance"].to_numpy()
        for goal, name in (("given", "alpha 0.7, Nesterov mu 0.9"), ("distance", "SGD"))
    )
    row = rows["Lookahead with alpha 0.7, Nesterov mu 0.9 is sooner than SGD", "after 100 updates"]
    assert row["margin_min"] == (1 - left / sgd).min()


def test_every_setting_of_the_grid_stands_beside_sgd_of_its_final_loss(outer):
    rows = by_claim(outer.claims())
    row = rows["a setting of the grid is sooner than SGD", "Nesterov, mu 0.9"]
    margins = []
    for rate in RATES:
        for alpha in ALPHAS:
            rounds = outer_momentum.lookahead(MODEL, rate, 5, alpha, 0.9, True)
            final = outer_momentum.steady_excess(MODEL, rounds)
            if final <= noisy.steady_excess(MODEL, 0.6):
                low, high = 0.0, 1.0  # SGD's rate of this loss
                for _ in range(60):
                    middle = (low + high) / 2
                    low, high = (middle, high) if noisy.steady_excess(MODEL, middle) < final else (low, middle)
                sgd = np.abs(outer_momentum.sgd(MODEL, high, 0.0, False).left(MODEL.start, 100)) @ MODEL.a / 2
                margins.append(1 - outer_momentum.distance(MODEL, rounds, 100) / sgd)
    assert 0 < len(margins) < 12
    assert (row["holds"] + row["ties"] + row["fails"], row["beyond"], row["unstable"]) == (
        len(margins),
        12 - len(margins),
        0,
    )
    assert row["holds"] == sum(np.array(margins) > 1e-9)
    assert row["margin_median"] == pytest.approx(np.median(margins), rel=1e-9)
    # Without momentum, alpha = 1 is SGD: it ties where its final loss is one of SGD's up to 0.6.
    assert rows["a setting of the grid is sooner than SGD", "heavy ball, mu 0"]["ties"] == 2


def test_unstable_settings_are_counted_not_refused():
    # L = 1.9 with k = 1 and gamma = 1: gamma a = 1.9 > 2 (1 + mu) / (1 + 2 mu) = 1.36 with mu = 0.9.
    model = noisy.worst_case(2, 10.0, largest=1.9)
    given = VALID[OuterMomentum] | {"model": model, "k": 1, "rates": [1.0], "alphas": [1.0], "momenta": [0.9]}
    rows = by_claim(OuterMomentum(**given).claims())
    assert rows["a setting of the grid is sooner than SGD", "Nesterov, mu 0.9"]["unstable"] == 1
    assert rows["a setting of the grid is sooner than SGD", "heavy ball, mu 0.9"]["unstable"] == 0


def test_the_stability_table_has_jury_s_bounds(outer):
    stability = outer.findings().tables["stability"].set_index("mu")
    assert stability.loc[0.5, "heavy ball"] == 3
    assert stability.loc[0.5, "Nesterov"] == 1.5
    assert stability.loc[0.0].tolist() == [2, 2]


def best_of(distance, speed):
    nothing = np.zeros(len(distance))
    return Best(nothing, nothing, nothing, np.array(distance), np.array(speed))


def test_margins_are_of_what_is_left_and_of_speeds_and_leave_out_what_one_cannot_have():
    first, second = best_of([1.0, 2.0, np.nan], [3.0, 1.0, 1.0]), best_of([4.0, 2.001, 1.0], [1.0, 2.0, np.nan])
    by_distance = compared(first, second, "distance")
    assert (by_distance["holds"], by_distance["ties"], by_distance["without"]) == (1, 1, 1)  # within a thousandth
    assert by_distance["margin_at_lowest"] == 0.75
    by_speed = compared(first, second, "speed")
    assert (by_speed["holds"], by_speed["fails"], by_speed["margin_at_highest"]) == (1, 1, -0.5)
    assert compared(best_of([np.nan], [1.0]), best_of([1.0], [1.0]), "distance") == {"without": 1}


def test_an_average_without_momentum_ties_with_every_step_and_a_smaller_alpha_does_not(workers):
    rows = by_claim(workers.claims())
    for k in (2, 10):
        row = rows["at equal settings, meeting every k steps is lower", f"k {k}, alpha 1"]
        assert (row["holds"], row["ties"], row["fails"]) == (0, 4, 0)
        row = rows["at equal settings, meeting every k steps is lower", f"k {k}, alpha below 1"]
        assert (row["holds"] + row["fails"], row["ties"]) == (8, 0)
        for case in (f"k {k}, after 100 updates", f"k {k}, in the long run"):
            assert rows["alpha 1 is sooner than SGD at every step", case]["ties"] == 2


def test_equal_settings_compare_the_expected_loss_after_the_updates(workers):
    found = workers.findings()
    arrays = found.arrays["equal_settings"]
    assert arrays["margin"].shape == (2, 3, 4)
    for (i, k), (j, alpha), (n, rate) in itertools.product(*map(enumerate, ((2, 10), ALPHAS, RATES))):
        losses = []
        for setting in ((k, alpha, 100 // k), (1, 1.0, 100)):
            mean, variance = noisy.lookahead_moments(MODEL, rate, *setting)
            losses.append(MODEL.excess(mean, variance / 3))
        assert arrays["margin"][i, j, n] == pytest.approx(1 - losses[0] / losses[1], rel=1e-9, abs=1e-12)


def test_workers_are_compared_at_the_final_loss_of_meeting_at_every_step(workers):
    best = workers.findings().tables["best"]
    assert best["k"].unique().tolist() == [1, 2, 10]
    wanted = noisy.steady_excess(MODEL, SGD_RATES) / 3
    rows = best[(best["k"] == 10) & (best["method"] == "alpha 0.7, Nesterov mu 0.9") & (best["objective"] == "speed")]
    np.testing.assert_allclose(rows["final_excess"], wanted, rtol=1e-14)
    rounds = outer_momentum.lookahead(MODEL, rows["rate"].to_numpy(), 10, 0.7, 0.9, True, workers=3)
    np.testing.assert_allclose(outer_momentum.steady_excess(MODEL, rounds), wanted, rtol=1e-12)
    local, every = rows["speed"].to_numpy(), best[(best["k"] == 1) & (best["objective"] == "speed")]
    sgd = every[every["method"] == "SGD"]["speed"].to_numpy()
    row = by_claim(workers.claims())[
        "alpha 0.7, Nesterov mu 0.9 is sooner than SGD at every step", "k 10, in the long run"
    ]
    assert row["margin_max"] == pytest.approx((local / sgd - 1).max(), rel=1e-12)


def test_chains_of_the_optimizer_are_within_sampling_of_the_theory():
    model = noisy.NoisyQuadratic([1.0, 0.2], [1.0, 2.0], [1.0, -2.0])
    settings = [{"k": 2, **SNOO}, {"k": 3, "alpha": 0.9, "mu": 0.5, "nesterov": False}, {"k": 2, **PLAIN}]
    found = OuterMomentumRuns(model, 0.5, settings, 7, 2000, seed=1).findings()
    moments = found.tables["moments"]
    assert moments.groupby(["k", "alpha", "mu"])["updates"].unique().map(list).tolist() == [
        [2, 4, 6],
        [2, 4, 6],
        [3, 6],
    ]
    expected = outer_momentum.lookahead(model, 0.5, 2, 0.7, 0.9, True).moments(model.start, 3)
    last = moments[(moments["mu"] == 0.9) & (moments["updates"] == 6)]
    np.testing.assert_array_equal(last["expected_variance"], expected.variance)
    # 32 scores; one above 4 is expected in 500 seeds.
    assert moments[["mean_score", "variance_score"]].abs().to_numpy().max() < 4
    rows = by_claim(found.claims)
    assert rows["the chains' mean is that of the theory of outer momentum", ""]["comparisons"] == 16


@pytest.mark.parametrize(
    ("analysis", "name", "value", "message"),
    [
        (OuterMomentum, "model", noisy.NoisyQuadratic([1.0], 0.0, 1.0), "the noise must be above 0"),
        (OuterMomentum, "momenta", [0.5, 1.0], r"mu must be in \[0, 1\), not 1"),
        (OuterMomentum, "momenta", [-0.1], r"mu must be in \[0, 1\), not -0.1"),
        (OuterMomentum, "momenta", [], "momenta must hold at least one value"),
        (OuterMomentum, "alphas", [0.0], r"alpha must be in \(0, 1\], not 0"),
        (OuterMomentum, "sgd_rates", [2.0], r"a learning rate must be in \(0, 2\).* not 2"),
        (OuterMomentum, "updates", 4, "updates must be an integer of at least 5, not 4"),
        (
            OuterMomentum,
            "given",
            SNOO,
            "given must be a list of settings such as {alpha: 0.7, mu: 0.9, nesterov: true}",
        ),
        (OuterMomentum, "given", [{"alpha": 0.5}], "a given setting must be one such as"),
        (OuterMomentum, "given", [{**SNOO, "mu": 1.0}], r"mu must be in \[0, 1\), not 1"),
        (OuterMomentum, "given", [{**SNOO, "mu": 0.0}], "nesterov=true is of a momentum: mu must be above 0, not 0"),
        (OuterMomentum, "given", [{**SNOO, "nesterov": "yes"}], "nesterov must be true or false, not 'yes'"),
        (LocalWorkers, "workers", 0, "workers must be an integer of at least 1, not 0"),
        (LocalWorkers, "workers", 2.5, "workers must be an integer of at least 1, not 2.5"),
        (LocalWorkers, "ks", [0], "k must be an integer of at least 1, not 0"),
        (LocalWorkers, "ks", [], "ks must hold at least one value, not none"),
        (LocalWorkers, "ks", [3], "updates must be a multiple of every k, which 100 is not of 3"),
        (LocalWorkers, "updates", 5, "updates must be an integer of at least 10, not 5"),
        (OuterMomentumRuns, "settings", [], "settings must be a list of such as {k: 5, alpha: 0.7, mu: 0.9, nesterov"),
        (OuterMomentumRuns, "settings", [SNOO], "a setting must be such as"),
        (OuterMomentumRuns, "settings", [{"k": 6, **SNOO}], "updates, .*, must be an integer of at least 6, not 5"),
        (OuterMomentumRuns, "settings", [{"k": 2, **SNOO, "alpha": 0}], r"alpha must be in \(0, 1\], not 0"),
        (OuterMomentumRuns, "model", noisy.NoisyQuadratic([1, 1], [1, 0], 1), "the noise must be above 0 in every"),
        (OuterMomentumRuns, "rate", 2.0, r"a learning rate must be in \(0, 2\).* not 2"),
        (OuterMomentumRuns, "chains", 1, "chains must be an integer of at least 2, not 1"),
    ],
)
def test_a_bad_value_is_refused_before_any_work(analysis, name, value, message):
    analysis(**VALID[analysis])
    with pytest.raises(ValueError, match=message):
        analysis(**VALID[analysis] | {name: value})
