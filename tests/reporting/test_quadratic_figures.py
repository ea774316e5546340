"""The quadratic's figures and tables show what the records hold, and say what was chosen."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from scripts.reporting import claims as claims_module
from scripts.reporting import modules
from scripts.reporting.figures import (
    fig03_noisy_quadratic,
    fig04_momentum_quadratic,
    fig11_noisy_convergence,
    fig12_finite_horizon,
)
from scripts.reporting.figures import theory_and_optimizer as theory
from scripts.reporting.tables import (
    every_horizon_changed,
    same_risk_changed,
)
from tests.helpers.analyses import caption_of, compute, computed, draw, drawn_and_named, own, recorded

EXPERIMENTS = [
    "fig03_noisy_quadratic",
    "fig04_momentum_quadratic",
    "fig11_noisy_convergence",
    "fig12_finite_horizon",
    "theory_and_optimizer",
]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Every analysis at smoke scale."""
    return computed(tmp_path_factory.mktemp("outputs"), EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_figure_is_drawn_from_the_records_alone_and_names_the_device(name, outputs, tmp_path, capsys, monkeypatch):
    drawn_and_named(name, outputs, tmp_path, monkeypatch, capsys)


def test_figure_3_has_a_curve_for_each_alpha_and_sgd_over_the_final_loss(outputs):
    (run,) = recorded(outputs, "fig03_noisy_quadratic")
    figure, _ = fig03_noisy_quadratic.figure_3([run])
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
    (run,) = recorded(outputs, "fig04_momentum_quadratic")
    figure, _ = fig04_momentum_quadratic.figure_4([run])
    momentum, lookahead, critical = figure.axes[0].lines
    rates = run.table("rates")
    rates = rates[(rates["spectrum"] == "ends") & (rates["inner_state"] == "maintain")]
    np.testing.assert_array_equal(momentum.get_ydata(), 1 - rates["momentum_contraction"])
    np.testing.assert_array_equal(lookahead.get_ydata(), 1 - rates["lookahead_contraction"])
    assert critical.get_xdata()[0] == pytest.approx(1442, abs=1)
    assert "momentum coefficient 0.9, the worst rate of the two end eigenvalues" in caption_of(figure)


def test_figure_11_has_one_alpha_left_and_all_of_them_after_few_updates_right(outputs):
    figure, _ = fig11_noisy_convergence.figure_11(recorded(outputs, "fig11_noisy_convergence"))
    assert len(figure.axes[0].lines) == 2
    assert len(figure.axes[1].lines) == 6
    assert "after 20 updates" in figure.axes[1].get_ylabel()
    assert [axes.get_title() for axes in figure.axes[:2]] == ["(a)", "(b)"]


def test_figure_12_has_the_best_loss_of_both_at_every_horizon(outputs):
    (run,) = recorded(outputs, "fig12_finite_horizon")
    figure, _ = fig12_finite_horizon.figure_12([run])
    found = run.table("horizons")
    for line, name in zip(figure.axes[0].lines, ("sgd", "lookahead"), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 201))
        np.testing.assert_array_equal(line.get_ydata(), found["irreducible_loss"] + found[f"{name}_excess"])


def test_figure_3_s_check_has_the_margin_and_the_shares_of_the_claims(outputs):
    (run,) = recorded(outputs, "fig03_noisy_quadratic")
    figure, claims = fig03_noisy_quadratic.figure_3_sensitivity([run])
    excess, margin, changed = figure.axes[:3]
    curves = run.arrays("curves")
    np.testing.assert_array_equal(excess.lines[-1].get_xdata(), curves["sgd_final_excess"])
    mesh = margin.collections[0]
    np.testing.assert_array_equal(np.ravel(mesh.get_array()), 100 * curves["margin"].ravel())
    drawn = {line.get_label(): line.get_xdata() for line in changed.lines}
    assert drawn["of the α, at some rate"].tolist() == (100 * claims["alphas_that_win_somewhere"]).tolist()
    assert drawn["of the α, at every rate"].tolist() == (100 * claims["alphas_that_win_everywhere"]).tolist()
    cells = claims["holds"] + claims["ties"] + claims["fails"]
    assert drawn["of the settings"] == pytest.approx(100 * claims["holds"] / cells)


def test_figure_11_s_check_has_shares_and_margins_by_horizon(outputs):
    runs = recorded(outputs, "fig11_noisy_convergence")
    figure, _ = fig11_noisy_convergence.figure_11_sensitivity(runs)
    (few,) = (run for run in runs if run.config.analysis.name == "few_updates")
    by_horizon = next(axes for axes in figure.axes if axes.get_xlabel() == "updates")
    horizons = few.table("horizons")
    np.testing.assert_array_equal(by_horizon.lines[0].get_ydata(), 100 * horizons["share_of_alphas"])
    np.testing.assert_array_equal(by_horizon.lines[1].get_ydata(), 100 * horizons["best_margin"])


def test_figure_12_s_check_tells_the_grids_apart(outputs):
    (run,) = recorded(outputs, "fig12_finite_horizon")
    figure, claims = fig12_finite_horizon.figure_12_sensitivity([run])
    excess, margins, changed, rates, alphas = figure.axes
    found = run.table("horizons")
    for line, column in zip(margins.lines, ("margin", "margin_against_finer", "margin_wider"), strict=False):
        np.testing.assert_array_equal(line.get_ydata(), 100 * found[column])
    moved = found["updates"] >= 5
    drawn = {line.get_label(): line.get_ydata() for line in excess.lines}
    np.testing.assert_array_equal(drawn["Lookahead, the paper's grid"], found["lookahead_excess"])
    np.testing.assert_array_equal(drawn["SGD, a wider range"], found["sgd_excess_wider"])
    np.testing.assert_array_equal(
        1 - found["lookahead_excess_wider"] / found["sgd_excess_wider"], found["margin_wider"]
    )
    drawn = {line.get_label(): line.get_ydata() for line in rates.lines}
    np.testing.assert_array_equal(drawn["SGD, the paper's grid"], found["sgd_rate"])
    np.testing.assert_array_equal(drawn["Lookahead, a wider range"], found["lookahead_rate_wider"][moved])
    np.testing.assert_array_equal(alphas.lines[0].get_ydata(), found["lookahead_alpha"][moved])
    shares = {line.get_label(): line.get_xdata() for line in changed.lines}
    for label, case in (("the paper's grid", ""), ("a wider range", "a wider range of learning rates")):
        rows = claims[claims["case"] == case]
        assert shares[label] == pytest.approx(100 * rows["holds"] / 200)
    assert shares["the paper's grid"].tolist() != shares["a wider range"].tolist()


def test_figure_4_s_check_has_each_spectrum_and_state_and_where_it_diverges(outputs):
    (run,) = recorded(outputs, "fig04_momentum_quadratic")
    figure, _ = fig04_momentum_quadratic.figure_4_sensitivity([run])
    rates, contraction = run.table("rates"), run.table("contraction")
    for axes, spectrum in zip(figure.axes, ("ends", "interval"), strict=False):
        rows = rates[rates["spectrum"] == spectrum]
        for line, state in zip(axes.lines[1:3], ("maintain", "reset"), strict=True):
            expected = 1 - rows[rows["inner_state"] == state]["lookahead_contraction"]
            np.testing.assert_array_equal(line.get_ydata(), expected)
    on_one = figure.axes[2]
    for line, column in zip(on_one.lines, ("momentum", "maintain", "reset"), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), contraction[column])
    assert [line.get_label() for line in on_one.lines[1:]] == ["maintain: 2.7 % diverge", "reset: 2.9 % diverge"]


def test_the_theory_is_a_line_and_the_optimizer_dots(outputs):
    (run,) = recorded(outputs, "theory_and_optimizer")
    figure, _ = theory.theory_and_optimizer([run])
    moments, contraction = run.table("moments"), run.table("contraction")
    first = moments[(moments["coordinate"] == 2) & (moments["k"] == 1)]
    for axes, what in zip(figure.axes, ("mean", "variance"), strict=False):
        line, dots = axes.lines[:2]
        np.testing.assert_array_equal(line.get_ydata(), first[f"expected_{what}"])
        np.testing.assert_array_equal(dots.get_ydata(), first[what])
        assert (line.get_marker(), dots.get_marker(), dots.get_linestyle()) == ("None", ".", "None")
    line, dots = figure.axes[2].lines[:2]
    maintained = contraction[contraction["inner_state"] == "maintain"]
    np.testing.assert_array_equal(line.get_ydata(), maintained["expected"])
    np.testing.assert_array_equal(dots.get_ydata(), maintained["measured"][::5])


def test_tables_have_the_drawn_setting_first_and_a_row_for_each_changed_value(outputs):
    runs = recorded(outputs, "fig03_noisy_quadratic")
    claims = runs[0].table("claims")
    drawn, other = same_risk_changed.rows(runs)
    assert (drawn["changed"], other["changed"]) == ("as drawn", "dimension=3")
    row = claims[(claims["changed"] == "") & (claims["claim"] == "the same risk sooner")].iloc[0]
    assert (drawn["holds"], drawn["median margin"]) == (row["holds"], row["margin_median"])
    with pytest.raises(ValueError, match=r"one run of the analysis convergence is drawn, not 2 of .* the same setting"):
        same_risk_changed.rows(runs * 2)
    drawn, other = every_horizon_changed.rows(recorded(outputs, "fig12_finite_horizon"))
    assert drawn["holds"] + drawn["ties"] + drawn["fails"] == 200
    assert drawn["holds, finer"] + drawn["ties, finer"] + drawn["fails, finer"] == 200
    assert drawn["holds, wider"] + drawn["ties, wider"] + drawn["fails, wider"] == 200


def test_a_table_s_numbers_are_whole_where_they_are_and_what_was_not_found_is_a_dash():
    rows = claims_module.picked(pd.DataFrame({"a": [2.0, 0.5, None], "b": ["x", "", "y"]}), {"a": "A", "b": "B"})
    assert rows == [{"A": 2, "B": "x"}, {"A": 0.5, "B": ""}, {"A": "-", "B": "y"}]
    assert isinstance(rows[0]["A"], int)


def test_the_margin_is_a_map_or_of_one_alpha_or_one_learning_rate_a_line(tmp_path):
    for overrides, size in (
        (["analysis.alphas=0.8"], 6),
        (["analysis.rates=0.5"], 4),
        (["analysis.alphas=0.8", "analysis.rates=0.5"], 1),
    ):
        compute(tmp_path, "fig03_noisy_quadratic", "scale=smoke", *overrides)
        runs = recorded(tmp_path, "fig03_noisy_quadratic", "scale=smoke", *overrides)
        figure, _ = fig03_noisy_quadratic.figure_3_sensitivity(runs)
        (axes,) = (axes for axes in figure.axes if axes.get_ylabel() == "closer to the final loss than SGD by (%)")
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), 100 * runs[0].arrays("curves")["margin"].ravel())
        assert axes.lines[0].get_xdata().size == size


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("curves.npz", b"x", "curves.npz is damaged ("),
        ("curves.npz", None, "curves.npz is missing; run or collect it again"),
        ("claims.csv", b"", "claims.csv is damaged (its content is not what summary.json tells"),
        ("summary.json", b"{", "summary.json is damaged (Expecting property name"),
        ("config.yaml", b"x", "config.yaml is damaged (no seed)"),
        ("config.yaml", b"a: [", "config.yaml is damaged ("),
        ("config.yaml", None, "config.yaml is missing"),
    ],
)
def test_a_damaged_record_is_named_in_one_line(file, content, message, outputs, tmp_path, capsys):
    name = "fig03_noisy_quadratic"
    (run,) = recorded(outputs, name)
    copy = tmp_path / "runs" / run.folder.relative_to(outputs)
    shutil.copytree(run.folder, copy)
    path = copy / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    capsys.readouterr()  # what the runs said
    assert draw(name, own(name), tmp_path / "runs", tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path.parent}/{message}")


def test_what_two_configurations_differ_in_is_said_and_a_folder_that_cannot_be_written(outputs, tmp_path, capsys):
    name = "fig03_noisy_quadratic"
    for k in (5, 10):
        compute(tmp_path, name, "scale=smoke", f"analysis.k={k}")
    capsys.readouterr()  # what the runs said
    assert draw(name, ["scale=smoke", "analysis.k=5,10"], tmp_path, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "one run of the analysis convergence is drawn, not 2 of" in line
    assert "here: analysis.k 5.0 there, 10.0 here; name the values of one of them" in line
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        draw(name, own(name), outputs, tmp_path / "file")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(tmp_path / "file") in line


def test_figures_are_drawn_of_lists_and_single_values_and_of_one_s_own_spectrum(tmp_path):
    own = ["quadratic@analysis.model=eigenvalues", "analysis.model.a=[1,0.25]", "sensitivity=null", "scale=smoke"]
    listed = ["~analysis.rates", "+analysis.rates=[0.5,0.1]"]
    chosen = {
        "fig03_noisy_quadratic": [*own, *listed, "analysis.alphas=0.8"],
        "fig12_finite_horizon": [*own, *listed, "analysis.alphas=0.8", "analysis.wider=0.5"],
        "fig04_momentum_quadratic": ["scale=smoke", "analysis.betas=0.9", "analysis.spectra=ends"],
        "theory_and_optimizer": ["scale=smoke", "quadratic@analysis.model=worst_case", "analysis.model.dimension=3"],
    }
    words = {
        "fig03_noisy_quadratic": "α: 0.8; α = 1",
        "fig12_finite_horizon": "learning rates: 2 from 0.1 to 0.5; α: 0.8.",
        "fig04_momentum_quadratic": "coefficient 0.9, the worst rate of the two end eigenvalues",
        "theory_and_optimizer": "the coordinate of the smallest eigenvalue",
    }
    for name, overrides in chosen.items():
        compute(tmp_path, name, *overrides)
        pictures = modules.module("figures", name).figures(recorded(tmp_path, name, *overrides))
        for picture, (figure, _) in pictures.items():
            assert picture != name or words[name] in caption_of(figure)


@pytest.mark.parametrize(
    ("experiment", "overrides", "message"),
    [
        ("fig11_noisy_convergence", ["analysis=convergence"], "one run of the analysis fixed_alpha is drawn, not 0 of"),
        ("fig03_noisy_quadratic", ["analysis=few_updates"], "give analysis=convergence to the command that makes them"),
        (
            "fig03_noisy_quadratic",
            ["analysis.alphas.start=1", "analysis.alphas.num=1"],
            "has no alpha below 1, with which Lookahead is compared",
        ),
    ],
)
def test_a_record_that_is_not_the_figure_s_is_refused_in_one_line(experiment, overrides, message, tmp_path, capsys):
    compute(tmp_path, experiment, "scale=smoke", *overrides)
    capsys.readouterr()  # what the runs said
    assert draw(experiment, ["scale=smoke", *overrides], tmp_path, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
