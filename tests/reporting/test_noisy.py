"""What the figures on the noisy quadratic share, drawn of arrays written here."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from scripts.reporting.noisy import alpha_bar, draw_convergence, draw_margin, model_in_words, rates_in_words
from scripts.reporting.style import COLORS

RATES = np.array([0.1, 0.2, 0.4])


def recorded(alphas, rates=RATES, **more):
    """Return a run whose curves are told apart by their numbers; its irreducible loss is 2."""
    shape = (len(alphas), rates.size)
    curves = {
        "alphas": np.array(alphas),
        "rates": rates,
        "irreducible_loss": np.array(2.0),
        "lookahead_final_excess": 1 + np.arange(np.prod(shape), dtype=float).reshape(shape),
        "lookahead_gap": 10 + np.arange(np.prod(shape), dtype=float).reshape(shape),
        "sgd_final_excess": 100 + rates,
        "sgd_gap": 200 + rates,
        **more,
    }
    config = OmegaConf.create({"analysis": {"updates": 7, "rates": [0.1, 0.4]}})
    return SimpleNamespace(arrays={"curves": curves}.get, config=config, folder="a folder")


def test_the_model_is_told_in_words():
    made = {"dimension": 4, "condition_number": 50.0, "largest": 2.0, "start": 3.0, "start_power": 0}
    words = "4 dimensions, extreme Chebyshev nodes as spectrum, condition number 50, L = 2, theta_0 = 3 in every"
    assert words in model_in_words(OmegaConf.create({"analysis": {"model": made}}))
    assert "theta_0 = 3 a^-0.5 in" in model_in_words(
        OmegaConf.create({"analysis": {"model": {**made, "start_power": -0.5}}})
    )
    given = {"a": [0.5, 1.0], "noise": 0.25, "start": [1, 2]}
    expected = "Eigenvalues 0.5, 1, Sigma 0.25, theta_0 1, 2."
    assert model_in_words(OmegaConf.create({"analysis": {"model": given}})) == expected
    assert rates_in_words(recorded([1.0]).config) == "Learning rates: 2 from 0.1 to 0.4; updates are inner ones."


@pytest.mark.parametrize(("excess", "loss"), [(False, 2.0), (True, 0.0)])
def test_convergence_has_a_curve_for_each_alpha_over_the_final_loss(excess, loss):
    axes = Figure().subplots()
    draw_convergence(axes, recorded([0.5, 1.0]), excess)
    low, high, sgd = axes.lines
    np.testing.assert_array_equal(low.get_xydata(), np.c_[loss + np.array([1, 2, 3]), [10, 11, 12]])
    np.testing.assert_array_equal(high.get_xydata(), np.c_[loss + np.array([4, 5, 6]), [13, 14, 15]])
    np.testing.assert_array_equal(sgd.get_xydata(), np.c_[loss + 100 + RATES, 200 + RATES])
    assert (axes.get_yscale(), axes.get_ylabel()) == ("log", "expected loss after 7 updates − final loss")
    wanted = ("log", "final loss − irreducible loss") if excess else ("linear", "final loss")
    assert (axes.get_xscale(), axes.get_xlabel()) == wanted
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["SGD"]
    assert (low.get_linewidth(), sgd.get_linestyle(), sgd.get_color()) == (0.8, "--", "black")
    assert (low.get_color(), high.get_color()) == (colormaps["viridis"](0.5), colormaps["viridis"](1.0))
    assert axes.xaxis.get_gridlines()[0].get_visible()


def test_one_alpha_is_named_and_has_lookaheads_colour():
    axes = Figure().subplots()
    draw_convergence(axes, recorded([0.5]))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Lookahead, α = 0.5", "SGD"]
    assert to_rgba(axes.lines[0].get_color()) == to_rgba(COLORS["la_sgd"])
    assert axes.lines[0].get_linewidth() == 1.8


@pytest.mark.parametrize(("alphas", "bars"), [([0.5], 0), ([0.5, 1.0], 1)])
def test_several_alphas_have_a_bar_of_colours(alphas, bars):
    figure = Figure()
    alpha_bar(figure, figure.subplots(), recorded(alphas))
    assert [axes.get_ylabel() for axes in figure.axes[1:]] == ["Lookahead's α"] * bars


def test_margins_of_several_alphas_and_rates_are_a_map_in_percent():
    figure = Figure()
    axes = figure.subplots()
    margin = np.array([[0.1, 0.2, -0.3], [0.4, 0.5, 0.6]])
    draw_margin(figure, axes, recorded([0.25, 0.5, 1.0], margin=margin))
    mesh = axes.collections[0]
    np.testing.assert_allclose(np.ravel(mesh.get_array()), 100 * margin.ravel())
    assert mesh.get_clim() == (-50, 50)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Lookahead's learning rate", "α")
    assert axes.get_title() == "after 7 updates"
    assert [other.get_ylabel() for other in figure.axes[1:]] == ["closer to the final loss than SGD by (%); black: 0"]
    np.testing.assert_array_equal(axes.collections[1].levels, [0])


@pytest.mark.parametrize(
    ("alphas", "rates", "label", "along", "marker"),
    [
        ([0.25, 1.0], RATES, "Lookahead's learning rate", RATES, "None"),
        ([0.25, 0.5, 1.0], RATES[:1], "α", [0.25, 0.5], "None"),
        ([0.25, 1.0], RATES[:1], "Lookahead's learning rate", RATES[:1], "o"),
    ],
)
def test_margins_along_one_of_them_are_a_line(alphas, rates, label, along, marker):
    figure = Figure()
    axes = figure.subplots()
    margin = np.arange(1.0, 1 + max(len(along), 1)).reshape(len(alphas) - 1, rates.size) / 4
    draw_margin(figure, axes, recorded(alphas, rates, margin=margin))
    line, zero = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), np.c_[along, 100 * margin.ravel()])
    assert (line.get_marker(), set(zero.get_ydata())) == (marker, {0})
    assert (axes.get_xlabel(), axes.get_ylabel()) == (label, "closer to the final loss than SGD by (%)")
    assert len(figure.axes) == 1
    assert axes.xaxis.get_gridlines()[0].get_visible()


def test_without_an_alpha_below_one_there_is_no_margin():
    figure = Figure()
    with pytest.raises(ValueError, match=r"^a folder has no alpha below 1, with which Lookahead is compared$"):
        draw_margin(figure, figure.subplots(), recorded([1.0]))
