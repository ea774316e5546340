"""Figures 15 and 16, drawn of records written by hand: which curve is of which weights, and what is missing."""

from __future__ import annotations

import pandas as pd
import pytest

from experiments.engine.experiment import settings
from scripts.reporting.figures import fig15_swa_start, fig16_swa_inner_loop
from scripts.reporting.loading import NotRunYet
from scripts.reporting.style import COLORS, OTHERS
from tests.helpers.pages import not_run_panels
from tests.helpers.recorded import load, write_record

EPOCHS = list(range(1, 5))


def record(root, experiment, number, seed=1, accuracy=10.0, scale="smoke", **summary):
    """Write a run of four epochs: the average has `accuracy` + 0, 1, 2, 3, the weights before averaging half of it."""
    setting = settings(experiment, [f"scale={scale}"])[number]
    average = [accuracy + epoch - 1 for epoch in EPOCHS]
    history = {"epoch": EPOCHS, "step": [5 * epoch for epoch in EPOCHS], "val/accuracy": average}
    folder = write_record(root, setting, seed, history, samples=4 * 72, **summary)
    before = {**history, "val/loss": [1.0] * 4, "val/accuracy": [value / 2 for value in average]}
    pd.DataFrame(before).to_csv(folder / "unaveraged.csv", index=False)


def drawn(axes):
    return {
        line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist(), line.get_color(), line.get_linestyle())
        for line in axes.lines
    }


def words(figure):
    return " ".join(figure.get_supxlabel().split())


@pytest.fixture
def figure_15(tmp_path):
    for number, accuracy in enumerate((10.0, 20.0, 30.0, 40.0)):  # SGD from epochs 1 and 2, Lookahead from 1 and 2
        record(tmp_path, "swa_start", number, accuracy=accuracy)
    ((name, made),) = fig15_swa_start.figures(load(fig15_swa_start.DRAWS, tmp_path)).items()
    assert name == "fig15_swa_start"
    return made


def test_figure_15_has_swa_from_each_start_over_sgd_beside_lookahead_and_over_lookahead(figure_15):
    left, right = figure_15[0].axes
    lookahead = (EPOCHS, [15.0, 15.5, 16.0, 16.5], COLORS["la_sgd"], "-")  # of its first start alone
    assert drawn(left) == {
        "SWA from epoch 1": (EPOCHS, [10.0, 11.0, 12.0, 13.0], OTHERS[0], "-"),
        "SWA from epoch 2": ([2, 3, 4], [21.0, 22.0, 23.0], OTHERS[1], "-"),
        "SGD": (EPOCHS, [5.0, 5.5, 6.0, 6.5], COLORS["sgd"], "--"),
        "Lookahead": lookahead,
    }
    assert drawn(right) == {
        "SWA from epoch 1": (EPOCHS, [30.0, 31.0, 32.0, 33.0], OTHERS[0], "-"),
        "SWA from epoch 2": ([2, 3, 4], [41.0, 42.0, 43.0], OTHERS[1], "-"),
        "Lookahead": lookahead,
    }
    assert [axes.get_title() for axes in (left, right)] == [
        "SWA over SGD, and Lookahead alone",
        "SWA over Lookahead (not in the paper)",
    ]
    assert (left.get_ylabel(), right.get_ylabel(), right.get_xlabel()) == ("test accuracy (%)", "", "epoch")
    assert left.get_ylim() == right.get_ylim()
    assert all(axes.get_legend() is not None for axes in (left, right))


def test_figure_15_says_what_was_trained_and_prints_the_last_values(figure_15):
    figure, table = figure_15
    assert figure.get_suptitle() == "Figure 15, CIFAR-100: smoke scale, a trial of the code alone"
    assert words(figure).startswith(
        "PreResNet-11 for PreResNet-110, 72 of 50,000 images, 4 of 225 epochs; the rate falls to 0.5 of its first "
        "value by nine tenths of epoch 2, and stays there."
    )
    assert "of Lookahead the slow ones" in words(figure)
    assert "Not run yet" not in words(figure)
    assert "standard deviation" not in words(figure)
    assert table["test accuracy (%)"].to_dict() == {
        "SWA from epoch 1, over SGD": "13",
        "SWA from epoch 2, over SGD": "23",
        "SWA from epoch 1, over Lookahead": "33",
        "SWA from epoch 2, over Lookahead": "43",
        "SGD": "6.5",
        "Lookahead": "16.5",
    }


def test_figure_15_names_what_is_missing_and_has_bands_of_several_seeds(tmp_path):
    for seed in (1, 2):
        record(tmp_path, "swa_start", 1, seed, accuracy=10.0 * seed)
    ((figure, table),) = fig15_swa_start.figures(load(fig15_swa_start.DRAWS, tmp_path)).values()
    left, right = figure.axes
    assert drawn(left).keys() == {"SWA from epoch 2", "SGD"}
    assert drawn(left)["SWA from epoch 2"][1] == [16.0, 17.0, 18.0]
    assert len(left.collections) == 2
    assert (list(right.lines), right.get_legend()) == ([], None)
    assert not_run_panels(figure) == {"SWA over Lookahead (not in the paper)": "python train.py experiment=swa_start"}
    assert "Mean and one standard deviation over seeds. Not run yet: SWA over SGD from the first epoch, " in words(
        figure
    )
    assert "SWA over Lookahead from the first epoch, SWA over Lookahead from a later one." in words(figure)
    assert table["seeds"].tolist() == [2, 2]


def test_at_the_paper_s_scale_figure_15_counts_epochs_as_the_paper_does(tmp_path):
    record(tmp_path, "swa_start", 0, scale="paper")
    record(tmp_path, "swa_start", 1, scale="paper")
    runs = load(fig15_swa_start.DRAWS, tmp_path)
    for run in runs:
        run.history["epoch"] += 8
        run.summary.update(epochs=225, samples=225 * 50_000)
    ((figure, _),) = fig15_swa_start.figures(runs).values()
    curves = drawn(figure.axes[0])
    assert figure.get_suptitle() == "Figure 15, CIFAR-100"
    assert curves["SWA from epoch 1"][0] == [9, 10, 11, 12]
    assert curves["SWA from epoch 10"][0] == [10, 11, 12]
    assert (
        "PreResNet-110, 50,000 images, 225 epochs; the rate falls to 0.5 of its first value by nine tenths of epoch 126"
        in (words(figure))
    )


def test_figure_16_has_the_weights_before_averaging_on_the_left_and_the_average_on_the_right(tmp_path):
    for number, accuracy in enumerate((10.0, 20.0, 30.0, 40.0)):  # WRN: SGD and Lookahead; PreResNet: the same
        record(tmp_path, "swa_inner_loop", number, accuracy=accuracy)
    ((name, (figure, table)),) = fig16_swa_inner_loop.figures(load(fig16_swa_inner_loop.DRAWS, tmp_path)).items()
    assert name == "fig16_swa_inner_loop"
    assert figure.get_suptitle() == "Figure 16, CIFAR-100: smoke scale, a trial of the code alone"
    blue, purple = (COLORS["sgd"], "-"), (COLORS["la_sgd"], "-")
    assert [drawn(axes) for axes in figure.axes] == [
        {
            "SGD": (EPOCHS, [5.0, 5.5, 6.0, 6.5], *blue),
            "Lookahead": (EPOCHS, [10.0, 10.5, 11.0, 11.5], *purple),
        },
        {"SWA over SGD": ([4], [13.0], *blue), "SWA over Lookahead": ([4], [23.0], *purple)},
        {
            "SGD": (EPOCHS, [15.0, 15.5, 16.0, 16.5], *blue),
            "Lookahead": (EPOCHS, [20.0, 20.5, 21.0, 21.5], *purple),
        },
        {"SWA over SGD": ([3, 4], [32.0, 33.0], *blue), "SWA over Lookahead": ([3, 4], [42.0, 43.0], *purple)},
    ]
    assert [axes.get_title() for axes in figure.axes] == [
        f"{network}: {what}"
        for network in ("WRN-10-1", "PreResNet-11")
        for what in ("throughout training", "the SWA network")
    ]
    assert {axes.get_ylabel() for axes in figure.axes} == {"test accuracy (%)"}
    assert all(axes.get_legend() is not None for axes in figure.axes)
    assert "WRN-10-1 for WRN-28-10, 72 of 50,000 images, 4 of 300 epochs" in words(figure)
    assert "PreResNet-11 for PreResNet-110, 72 of 50,000 images, 4 of 225 epochs" in words(figure)
    assert "from epoch 4 (WRN-10-1), 3 (PreResNet-11) on. The paper has WRN-28-10 alone. Smoke scale" in words(figure)
    assert list(table.index[:4]) == [
        f"WRN-10-1, {what}" for what in ("SGD", "SWA over SGD", "Lookahead", "SWA over Lookahead")
    ]
    assert table["test accuracy (%)"].tolist() == ["6.5", "13", "11.5", "23", "16.5", "33", "21.5", "43"]


def test_figure_16_of_one_network_has_empty_panels_for_the_other_and_names_the_rest(tmp_path):
    for seed in (1, 2):
        record(tmp_path, "swa_inner_loop", 1, seed)
    ((figure, table),) = fig16_swa_inner_loop.figures(load(fig16_swa_inner_loop.DRAWS, tmp_path)).values()
    assert [drawn(axes).keys() for axes in figure.axes] == [{"Lookahead"}, {"SWA over Lookahead"}, set(), set()]
    assert not_run_panels(figure) == dict.fromkeys(
        ["PreResNet-110: throughout training", "PreResNet-110: the SWA network"],
        "python train.py experiment=swa_inner_loop",
    )
    assert (
        "Mean and one standard deviation over seeds. Not run yet: SWA over SGD with WRN-28-10, SWA over SGD with "
        "PreResNet-110, SWA over Lookahead with PreResNet-110." in words(figure)
    )
    assert table["seeds"].tolist() == [2, 2]


@pytest.mark.parametrize("module", [fig15_swa_start, fig16_swa_inner_loop])
def test_what_has_not_run_is_said_with_the_command(module, tmp_path):
    with pytest.raises(NotRunYet, match=rf"python train\.py experiment={module.DRAWS[0].experiment}, then"):
        load(module.DRAWS, tmp_path)
