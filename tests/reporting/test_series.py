"""Means, deviations and intervals over seeds against numbers worked out by hand, and the order of what is compared."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from scripts.reporting.curves import draw_curves
from scripts.reporting.records import setting
from scripts.reporting.series import final_table, series, spread
from scripts.reporting.style import COLORS
from tests.helpers.recorded import a_run


def seeds(*columns, **values):
    """Return a run for each list of training losses."""
    rows = [{"epoch": [1, 2], "step": [5, 10], "train/loss": list(losses)} for losses in columns]
    return [a_run(seed, row, **values) for seed, row in enumerate(rows, 1)]


def test_the_spread_of_three_values_by_hand():
    found = spread([1.0, 2.0, 6.0])
    # mean 3, deviations -2, -1, 3: variance 14 / 2; Student's t with 2 degrees of freedom at 97.5 % is 4.30265.
    assert (found.mean, found.std, found.seeds) == (3.0, pytest.approx(7**0.5), 3)
    half = 4.302652729749464 * 7**0.5 / 3**0.5
    assert (found.low, found.high) == (pytest.approx(3 - half), pytest.approx(3 + half))
    assert found.text() == "3 ± 2.6"
    assert found.text(".2f", ".2f") == "3.00 ± 2.65"


def test_two_seeds_have_the_interval_of_one_degree_of_freedom():
    found = spread([0.0, 2.0])
    assert found.high - 1 == pytest.approx(12.706204736174698 * math.sqrt(2) / math.sqrt(2))


def test_one_seed_has_no_deviation_and_no_nan():
    found = spread([17.45])
    assert (found.mean, found.std, found.low, found.high, found.seeds) == (17.45, None, None, None, 1)
    assert found.text() == "17.45"


def test_a_value_that_was_not_finite_is_said():
    assert spread([1.0, None]).text() == "not finite"
    assert spread([None]).text() == "not finite"


def test_a_curve_is_the_mean_over_seeds_at_each_epoch_or_step():
    (group,) = series(seeds([1.0, 4.0], [3.0, 4.0], [2.0, 1.0]))
    curve = group.curve("train/loss")
    assert curve.index.tolist() == [1, 2]
    assert curve["mean"].tolist() == [2.0, 3.0]
    assert curve["std"].tolist() == pytest.approx([1.0, 3**0.5])
    assert curve["seeds"].tolist() == [3, 3]
    assert (curve["high"] - curve["mean"]).iloc[0] == pytest.approx(4.302652729749464 / 3**0.5)
    assert (curve["mean"] - curve["low"]).iloc[0] == pytest.approx(4.302652729749464 / 3**0.5)
    assert group.curve("train/loss", over="step").index.tolist() == [5, 10]


def test_an_empty_cell_is_left_out_and_not_interpolated():
    columns = {"epoch": [1, 2, 3], "step": [1, 2, 3], "train/loss": [4.0, math.nan, 2.0], "val/loss": [1.0, 1.0, 1.0]}
    one, two = series([a_run(1, columns), a_run(2, columns)])[0], series([a_run(1, columns)])[0]
    for group in (one, two):
        assert group.curve("train/loss").index.tolist() == [1, 3]
        assert group.curve("train/loss")["mean"].tolist() == [4.0, 2.0]
        assert group.curve("val/loss").index.tolist() == [1, 2, 3]
    assert two.curve("train/loss")["std"].isna().all()
    assert [str(kind) for kind in two.curve("train/loss").dtypes] == ["float64"] * 4 + ["int64"]
    late = {**columns, "train/loss": [2.0, 7.0, 2.0]}
    mixed = series([a_run(1, columns), a_run(2, late)])[0].curve("train/loss")
    assert mixed["mean"].tolist() == [3.0, 7.0, 2.0]
    assert mixed["seeds"].tolist() == [2, 1, 2]


def test_of_several_rows_of_an_epoch_the_last_counts():
    columns = {"epoch": [1, 1, 2], "step": [1, 2, 3], "train/loss": [4.0, 3.0, 2.0]}
    (group,) = series([a_run(1, columns)])
    assert group.curve("train/loss")["mean"].tolist() == [3.0, 2.0]
    assert group.curve("train/loss", over="step")["mean"].tolist() == [4.0, 3.0, 2.0]


def test_a_metric_that_was_not_recorded_is_one_line_with_the_choices():
    (group,) = series([a_run(1)])
    for ask in (group.curve, group.final):
        with pytest.raises(ValueError, match=r"train/los was not recorded in somewhere; did you mean train/loss\?"):
            ask("train/los")
    with pytest.raises(ValueError, match="epochs was not recorded"):
        group.curve("train/loss", over="epochs")


def test_optimizers_come_in_the_paper_s_order_and_others_after():
    order = ["sgd", "polyak", "adamw", "la_sgd", "la_adamw", "another", "zeta"]
    runs = [a_run(optim__name=name) for name in sorted(order, reverse=True)]
    assert [group.values for group in series(runs)] == [(name,) for name in order]


def test_groups_sort_by_each_value_in_turn():
    runs = [
        a_run(task__name=task, optim__name=optim, optim__k=k)
        for task in ("cifar100", "cifar10")
        for optim, k in (("la_sgd", 10), ("la_sgd", 5), ("sgd", None))
    ]
    found = [group.values for group in series(runs, by=("task.name", "optim.name", "optim.k"))]
    assert found[:3] == [("cifar10", "sgd", None), ("cifar10", "la_sgd", 5), ("cifar10", "la_sgd", 10)]
    assert [values[0] for values in found[3:]] == ["cifar100"] * 3
    by_k = [group.values for group in series(runs[:3], by=("optim.k",))]
    assert by_k == [(None,), (5,), (10,)]


def test_settings_that_differ_in_more_than_the_seed_are_never_averaged():
    runs = [a_run(1, optim__lr=0.1, folder="one"), a_run(2, optim__lr=0.05, folder="two")]
    with pytest.raises(
        ValueError, match=r"several configurations of sgd \(one is there, two here: optim.lr 0.1 there, 0.05"
    ):
        series(runs)
    assert [group.values for group in series(runs, by=("optim.lr",))] == [(0.05,), (0.1,)]


def test_the_final_table_has_one_row_per_optimizer_and_one_column_per_metric():
    runs = [*seeds([2.0, 1.0], [2.0, 3.0]), *seeds([2.0, 1.5], optim__name="la_sgd")]
    table = final_table(series(runs), {"train/loss": "training loss"}, ["SGD", "Lookahead"])
    assert table.to_dict("index") == {
        "SGD": {"training loss": "2 ± 1.4", "seeds": 2},
        "Lookahead": {"training loss": "1.5", "seeds": 1},
    }


def test_curves_are_drawn_with_a_band_of_one_deviation_and_without_one_for_a_single_seed():
    axes = Figure().subplots()
    runs = [*seeds([1.0, 4.0], [3.0, 4.0], [2.0, 1.0], optim__name="la_sgd"), *seeds([7.0, 6.0])]
    draw_curves(axes, series(runs), "train/loss")
    assert [line.get_label() for line in axes.lines] == ["SGD", "Lookahead"]
    assert [line.get_color() for line in axes.lines] == [COLORS["sgd"], COLORS["la_sgd"]]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 7], [2, 6]])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [2.0, 3.0])
    (band,) = axes.collections
    edge = {round(y, 6) for y in band.get_paths()[0].vertices[:, 1]}
    # epoch 1: 2 +- 1; epoch 2: 3 +- sqrt(3), the sample's standard deviation
    assert edge == {1.0, 3.0, round(3 - 3**0.5, 6), round(3 + 3**0.5, 6)}
    assert axes.get_xlabel() == "epoch"
    over_steps = Figure().subplots()
    draw_curves(over_steps, series(seeds([7.0, 6.0])), "train/loss", over="step")
    np.testing.assert_array_equal(over_steps.lines[0].get_xdata(), [5, 10])
    assert over_steps.get_xlabel() == "updates"


def diverged(run, rows=None):
    """Return a run that diverged after so many rows of its history; None: before the first."""
    history = None if rows is None else run.history.iloc[:rows]
    return replace(run, history=history, summary=run.summary | {"status": "diverged", "final": {"train/loss": None}})


def test_a_curve_ends_where_one_of_its_runs_diverged_and_the_last_value_says_so():
    first, second, third = seeds([1.0, 4.0], [3.0, 4.0], [2.0, 1.0])
    (group,) = series([first, second, diverged(third, rows=1)])
    curve = group.curve("train/loss")
    assert curve.index.tolist() == [1]  # the mean of the two others would be of other runs than at epoch 1
    assert curve["mean"].tolist() == [2.0]
    assert group.final("train/loss").text() == "diverged (1 of 3)"
    assert math.isnan(group.final("train/loss").mean)
    (group,) = series([first, diverged(second)])
    assert group.curve("train/loss").empty
    (group,) = series([diverged(third, rows=1)])
    assert group.final("train/loss").text() == "diverged"


def test_a_curve_of_runs_that_diverged_is_named_so():
    axes = Figure().subplots()
    first, second = seeds([1.0, 4.0], [3.0, 4.0])
    draw_curves(axes, series([first, diverged(second, rows=1)]), "train/loss")
    draw_curves(axes, series([diverged(second)]), "train/loss")
    assert [line.get_label() for line in axes.lines] == ["SGD, diverged (1 of 2)", "SGD, diverged"]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[1], []]


def test_an_argument_that_has_its_default_makes_no_other_setting():
    """Files of configs/ gain and lose such arguments, and a seed that is run later is one of the same series."""
    target = "experiments.vision.resnet.ResNet"
    before = a_run(1, model={"_target_": target, "num_classes": 10, "widths": [16, 32, 64, 128], "blocks_per_stage": 1})
    later = a_run(2, model={"_target_": target, "num_classes": 10})
    wider = a_run(3, model={"_target_": target, "num_classes": 10, "widths": [16, 32, 64, 256]})
    assert setting(before.config) == setting(later.config)
    (both,) = series([before, later])
    assert both.seeds == 2
    with pytest.raises(ValueError, match=r"model\.widths"):
        series([before, wider])


def test_a_key_at_the_top_that_is_null_or_was_not_there_yet_makes_no_other_setting():
    before, later, other = (a_run(1, optim__name="sgd") for _ in range(3))
    later.config.processes, other.config.processes = None, 2
    assert setting(before.config) == setting(later.config) != setting(other.config)
