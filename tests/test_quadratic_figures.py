"""The quadratic's figures and tables show what the records hold, and say what was chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hydra import initialize_config_dir

from experiments.engine.command_line import CONFIGS
from scripts import figures, momentum_figures, noisy_figures, quadratic_tables, records, status
from tests.running import run_in

EXPERIMENTS = [name for name in figures.FIGURES if name != "demo"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Every analysis at smoke scale, Figures 3's and 12's with one value changed."""
    root = tmp_path_factory.mktemp("outputs")
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        runs = [(name, *run) for name in EXPERIMENTS for run in status.expected_runs(name, ["scale=smoke"])]
    for name, folder, point in runs:
        varied = [] if "momentum" in name or "theory" in name else ["sensitivity={analysis.model.dimension: [3]}"]
        run_in(root / folder, f"experiment={name}", "scale=smoke", *point.split(), *varied)
    return root


def caption_of(figure):
    return " ".join(figure.get_supxlabel().split())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_figure_is_drawn_from_the_records_alone_and_names_the_device(name, outputs, tmp_path, capsys):
    assert figures.main([name, "--runs", str(outputs), "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for picture in figures.FIGURES[name]:
        assert (tmp_path / f"{picture}.png").stat().st_size > 10_000
        assert f"{picture}.png" in shown
    runs = records.load_runs(outputs, name)
    for draw in figures.FIGURES[name].values():
        figure, _ = draw(runs)
        assert f"Computed on {runs[0].summary['device']}" in caption_of(figure)


def test_figure_3_has_a_curve_for_each_alpha_and_sgd_over_the_final_loss(outputs):
    (run,) = records.load_runs(outputs, "fig03_noisy_quadratic")
    figure, _ = noisy_figures.figure_3([run])
    axes, curves = figure.axes[0], run.arrays("curves")
    assert len(axes.lines) == len(curves["alphas"]) + 1
    for line, excess, gap in zip(axes.lines, curves["lookahead_final_excess"], curves["lookahead_gap"], strict=False):
        np.testing.assert_array_equal(line.get_xdata(), curves["irreducible_loss"] + excess)
        np.testing.assert_array_equal(line.get_ydata(), gap)
    np.testing.assert_array_equal(axes.lines[-1].get_ydata(), curves["sgd_gap"])
    assert (axes.get_xlabel(), axes.get_yscale()) == ("final loss", "log")
    for chosen in ("100 dimensions", "condition number 1000", "L = 1", "theta_0 = 1", "updates are inner ones"):
        assert chosen in caption_of(figure)


def test_figure_4_has_the_first_of_each_choice_and_the_critical_condition_number(outputs):
    (run,) = records.load_runs(outputs, "fig04_momentum_quadratic")
    figure, _ = momentum_figures.figure_4([run])
    momentum, lookahead, critical = figure.axes[0].lines
    rates = run.table("rates")
    rates = rates[(rates["spectrum"] == "ends") & (rates["inner_state"] == "maintain")]
    np.testing.assert_array_equal(momentum.get_ydata(), 1 - rates["momentum_contraction"])
    np.testing.assert_array_equal(lookahead.get_ydata(), 1 - rates["lookahead_contraction"])
    assert critical.get_xdata()[0] == pytest.approx(1442, abs=1)
    assert "momentum coefficient 0.9, the worst rate of the two end eigenvalues" in caption_of(figure)


def test_figure_11_has_one_alpha_left_and_all_of_them_after_few_updates_right(outputs):
    figure, _ = noisy_figures.figure_11(records.load_runs(outputs, "fig11_noisy_convergence"))
    assert len(figure.axes[0].lines) == 2
    assert len(figure.axes[1].lines) == 6
    assert "after 20 updates" in figure.axes[1].get_ylabel()
    assert [axes.get_title() for axes in figure.axes[:2]] == ["(a)", "(b)"]


def test_figure_12_has_the_best_loss_of_both_at_every_horizon(outputs):
    (run,) = records.load_runs(outputs, "fig12_finite_horizon")
    figure, _ = noisy_figures.figure_12([run])
    found = run.table("horizons")
    for line, name in zip(figure.axes[0].lines, ("sgd", "lookahead"), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 61))
        np.testing.assert_array_equal(line.get_ydata(), found["irreducible_loss"] + found[f"{name}_excess"])


def test_tables_have_the_drawn_setting_first_and_a_row_for_each_changed_value(outputs):
    runs = records.load_runs(outputs, "fig03_noisy_quadratic")
    claims = runs[0].table("claims")
    drawn, other = quadratic_tables.same_risk_changed(runs)
    assert (drawn["changed"], other["changed"]) == ("as drawn", "dimension=3")
    row = claims[(claims["changed"] == "") & (claims["claim"] == "the same risk sooner")].iloc[0]
    assert (drawn["holds"], drawn["median margin"]) == (row["holds"], row["margin_median"])
    drawn, other = quadratic_tables.every_horizon_changed(records.load_runs(outputs, "fig12_finite_horizon"))
    assert drawn["holds"] + drawn["ties"] + drawn["fails"] == 60
    assert drawn["holds, wider"] + drawn["ties, wider"] + drawn["fails, wider"] == 60


def test_a_table_s_numbers_are_whole_where_they_are_and_what_was_not_found_is_a_dash():
    import pandas as pd

    rows = quadratic_tables.picked(pd.DataFrame({"a": [2.0, 0.5, None], "b": ["x", "", "y"]}), {"a": "A", "b": "B"})
    assert rows == [{"A": 2, "B": "x"}, {"A": 0.5, "B": ""}, {"A": "-", "B": "y"}]
    assert isinstance(rows[0]["A"], int)
