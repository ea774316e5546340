"""The figures and tables of outer momentum and of local workers on quadratics show what the records hold."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.reporting.figures import local_workers, outer_momentum, outer_momentum_and_optimizer
from scripts.reporting.tables import (
    local_changed,
    local_risk,
    local_settings,
    outer_best,
    outer_changed,
    outer_given,
    outer_grid,
    outer_optimizer,
)
from tests.helpers.analyses import caption_of, computed, drawn_and_named, recorded

EXPERIMENTS = ["outer_momentum", "local_workers", "outer_momentum_and_optimizer"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Every analysis at smoke scale."""
    return computed(tmp_path_factory.mktemp("outputs"), EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_figure_is_drawn_from_the_records_alone_and_names_the_device(name, outputs, tmp_path, capsys, monkeypatch):
    drawn_and_named(name, outputs, tmp_path, monkeypatch, capsys)


def test_outer_momentum_has_each_method_over_sgd_s_and_the_edge_of_stability(outputs):
    (run,) = recorded(outputs, "outer_momentum")
    figure, claims = outer_momentum.outer_momentum([run])
    best, stability = run.table("best"), run.table("stability")
    for axes, goal in zip(figure.axes, ("distance", "speed"), strict=False):
        rows = best[best["objective"] == goal].set_index("method")
        drawn = {line.get_label(): line for line in axes.lines}
        assert list(drawn) == list(dict.fromkeys(rows.index))
        np.testing.assert_array_equal(drawn["SGD"].get_ydata(), 1)
        method = "Lookahead with outer Nesterov momentum"
        np.testing.assert_array_equal(drawn[method].get_xdata(), rows.loc[method, "final_excess"])
        expected = rows.loc[method, goal].to_numpy() / rows.loc["SGD", goal].to_numpy()
        np.testing.assert_array_equal(drawn[method].get_ydata(), expected)
    heavy, nesterov, _ = figure.axes[2].lines
    np.testing.assert_array_equal(heavy.get_ydata(), stability["heavy ball"])
    np.testing.assert_array_equal(nesterov.get_ydata(), stability["Nesterov"])
    assert claims["claim"].str.contains("is sooner than").all()
    assert "13 log-spaced" not in caption_of(figure)
    assert "3 log-spaced from 0.01 to 0.95; k = 5" in caption_of(figure)


def test_the_best_settings_of_outer_momentum_are_drawn_without_those_that_a_method_lacks(outputs):
    (run,) = recorded(outputs, "outer_momentum")
    figure, _ = outer_momentum.settings([run])
    best = run.table("best")
    rates, _, slacks = figure.axes[:3]
    assert [line.get_label() for line in slacks.lines] == [line.get_label() for line in rates.lines][1:]
    rows = best[(best["objective"] == "distance") & (best["method"] == "Lookahead with outer momentum")]
    np.testing.assert_array_equal(slacks.lines[0].get_ydata(), 1 - rows["mu"])


def test_local_workers_have_maps_of_the_smallest_and_the_largest_k_and_a_curve_for_each(outputs):
    (run,) = recorded(outputs, "local_workers")
    figure, _ = local_workers.local_workers([run])
    arrays, best = run.arrays("equal_settings"), run.table("best")
    for axes, place in zip(figure.axes, (0, -1), strict=False):
        np.testing.assert_array_equal(np.ravel(axes.collections[0].get_array()), 100 * arrays["margin"][place].ravel())
    fast = {line.get_label(): line for line in figure.axes[2].lines}
    assert [label for label in fast if "every step" in label] == [
        "SGD, every step",
        "SGD with Nesterov momentum, every step",
    ]
    rows = best[best["objective"] == "speed"]
    local = rows[(rows["k"] == 10) & (rows["method"] == "Lookahead")]["speed"].to_numpy()
    sgd = rows[(rows["k"] == 1) & (rows["method"] == "SGD")]["speed"].to_numpy()
    np.testing.assert_array_equal(fast["Lookahead, k = 10"].get_ydata(), local / sgd)


def test_the_optimizer_with_outer_momentum_is_dots_on_the_theory_s_lines(outputs):
    (run,) = recorded(outputs, "outer_momentum_and_optimizer")
    figure, _ = outer_momentum_and_optimizer.outer_momentum_and_optimizer([run])
    moments = run.table("moments")
    rows = moments[(moments["coordinate"] == 2) & (moments["k"] == 3)]
    for axes, what in zip(figure.axes, ("mean", "variance"), strict=True):
        line, dots = axes.lines[2:4]
        assert line.get_label() == "k = 3, α = 0.8, Nesterov μ = 0.3"
        np.testing.assert_array_equal(line.get_ydata(), rows[f"expected_{what}"])
        np.testing.assert_array_equal(dots.get_ydata(), rows[what])
    assert "the coordinate with eigenvalue 0.05" in caption_of(figure)


def test_tables_of_outer_momentum_have_the_claims_of_the_record(outputs):
    runs = recorded(outputs, "outer_momentum")
    claims = runs[0].table("claims").set_index(["claim", "case"])
    best, given, grid = outer_best.rows(runs), outer_given.rows(runs), outer_grid.rows(runs)
    assert len(best) + len(given) + len(grid) == len(claims)
    name = "Lookahead with outer Nesterov momentum is sooner than Lookahead"
    (row,) = (row for row in best if (row["claim"], row["when"]) == (name, "in the long run"))
    assert row["median margin"] == claims.loc[(name, "in the long run"), "margin_median"]
    assert {row["claim"] for row in given} == {claim for claim, _ in claims.index if "with alpha" in claim}
    (row,) = outer_changed.rows(runs)
    found = claims.loc[(name, "in the long run")]
    counts = f"{found['holds']:.0f}/{found['ties']:.0f}/{found['fails']:.0f}"
    assert row["Nesterov over Lookahead, in the end"] == f"{counts}, {found['margin_median']:.3g}"
    assert len(row) == 7
    assert len(outer_optimizer.rows(recorded(outputs, "outer_momentum_and_optimizer"))) == 2


def test_tables_of_local_workers_have_a_column_or_a_row_for_each_k(outputs):
    runs = recorded(outputs, "local_workers")
    settings, risk, changed = local_settings.rows(runs), local_risk.rows(runs), local_changed.rows(runs)
    assert [row["case"] for row in settings] == [f"k {k}, alpha {words}" for k in (2, 10) for words in ("1", "below 1")]
    assert len(risk) == 6 * 2 * 2
    average = next(row for row in risk if (row["every k steps"], row["than"]) == ("alpha 1", "SGD at every step"))
    assert (average["k 2"], average["k 10"]) == ("0/3/0, 0", "0/3/0, 0")  # rounding is no margin
    assert [(row["changed"], row["k"]) for row in changed] == [
        ("as drawn", "2"),
        ("as drawn", "10"),
        ("dimension=3", "2"),
        ("dimension=3", "10"),
    ]
    assert changed[2]["alpha 1"] == "0/3/0, 0"
