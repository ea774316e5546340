"""Figures 6 and 14, Table 2 and the search of C.2: ImageNet's runs, beside what the paper has."""

from __future__ import annotations

import itertools
from functools import partial

import pandas as pd
import pytest

from experiments.engine.experiment import SCALES, settings
from scripts.reporting import imagenet, trained
from scripts.reporting.figures import fig06_imagenet_loss, fig14_accuracy_curves
from scripts.reporting.published import published
from scripts.reporting.series import series
from scripts.reporting.tables import search_imagenet, table2
from tests.helpers.pages import grid_of, labels, not_run_panels, only, points_of, rows_of, trained_on_imagenet
from tests.helpers.pages import trained as trained_on_cifar
from tests.helpers.recorded import a_run, load, setting_of, write_record

TASKS = ("imagenet", "imagenet_aggressive")
conventional = partial(trained_on_imagenet, task="imagenet", epochs=(60, 90))


def all_of_resnet50():
    return [make(name) for name in ("sgd", "la_sgd") for make in (conventional, trained_on_imagenet)]


def test_figure_6_has_a_panel_per_network_and_a_curve_per_optimizer_and_schedule():
    runs = [*all_of_resnet50(), trained_on_imagenet(network="resnet152")]
    name, figure, table, caption = only(fig06_imagenet_loss.figures(runs))
    assert name == "fig06_imagenet_loss"
    small, large = figure.axes
    assert labels(small) == ["SGD", "SGD*", "Lookahead", "Lookahead*"]
    assert labels(large) == ["Lookahead*"]
    assert (small.get_title(), large.get_title()) == ("ResNet-50", "ResNet-152")
    assert [line.get_linestyle() for line in small.lines] == ["-", "--", "-", "--"]
    assert len({line.get_color() for line in small.lines}) == 2
    assert list(small.lines[0].get_xdata()) == [60, 90]
    assert list(small.lines[1].get_ydata()) == [1.5, 1.0]
    assert small.get_ylabel() == "running training loss"
    assert figure.get_suptitle() == "Figure 6, ImageNet"
    assert table.index.tolist()[-1] == "ResNet-152, Lookahead*"
    assert table["running training loss"].tolist() == ["1"] * 5
    assert "Not run yet: SGD with ResNet-152, Lookahead with ResNet-152, SGD* with ResNet-152." in caption
    assert "ResNet-50, 1,281,167 images, 90 epochs; ResNet-50, 1,281,167 images, 60 epochs; ResNet-152," in caption
    falls = "The rate falls to a tenth after epoch 30 and 60 (the conventional schedule); 30, 48 and 58 (*, the"
    assert falls in caption
    assert "The loss is the mean of an epoch's updates, at the fast weights, on augmented images." in caption
    assert "second pass" not in caption


def test_figure_6_has_an_empty_panel_for_the_network_that_was_not_run():
    figure = only(fig06_imagenet_loss.figures(all_of_resnet50()))[1]
    assert [axes.get_title() for axes in figure.axes] == ["ResNet-50", "ResNet-152"]
    assert not_run_panels(figure) == {"ResNet-152": "python train.py experiment=imagenet_resnet152"}


def test_figure_6_at_a_smaller_scale_has_one_network_for_both_and_says_so():
    make = partial(trained_on_imagenet, network="ResNet", scale="proxy", epochs=(25, 30), size=32)
    _, figure, table, caption = only(fig06_imagenet_loss.figures([make("sgd"), make()]))
    (axes,) = figure.axes
    assert axes.get_title() == ""
    assert table.index.tolist() == [f"ResNet-10 of a quarter of the width, {name}*" for name in ("SGD", "Lookahead")]
    assert "ResNet-10 of a quarter of the width for ResNet-50, 1,281,167 images of 32 x 32 pixels, 30 of 60" in caption
    assert "Not run yet: SGD, Lookahead. A proxy" in caption
    assert figure.get_suptitle() == "Figure 6, ImageNet: a proxy, not the paper's experiment"


def test_figure_14_has_imagenet_beside_cifar_10():
    runs = [trained_on_cifar("sgd", 95.0), *all_of_resnet50()]
    _, figure, table, caption = only(fig14_accuracy_curves.figures(runs))
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("CIFAR-10", "ImageNet")
    assert labels(left) == ["SGD"]
    assert labels(right) == ["SGD", "SGD*", "Lookahead", "Lookahead*"]
    assert [line.get_ydata()[-1] for line in (*left.lines, *right.lines)] == [95, 75, 75, 75, 75]
    assert table.index.tolist()[:2] == ["CIFAR-10, SGD", "ImageNet, SGD"]
    assert "Not run yet: Polyak on CIFAR-10, Adam on CIFAR-10, Lookahead on CIFAR-10. Full scale" in caption
    assert "CIFAR-10: ResNet-18, 50,000 images, 200 epochs; ImageNet: ResNet-50, 1,281,167 images, 90" in caption
    assert figure.get_suptitle() == "Figure 14, CIFAR-10 and ImageNet"


def test_figure_14_with_one_half_names_the_other():
    _, figure, _, caption = only(fig14_accuracy_curves.figures([trained_on_cifar("sgd")]))
    assert not_run_panels(figure) == {"ImageNet": "python train.py experiment=table2_imagenet"}
    assert "Lookahead on CIFAR-10, ImageNet." in caption
    assert "The rate falls" not in caption
    _, figure, _, caption = only(fig14_accuracy_curves.figures([conventional()]))
    assert figure.get_suptitle() == "Figure 14, ImageNet"
    assert "Not run yet: CIFAR-10, SGD on ImageNet, SGD* on ImageNet, Lookahead* on ImageNet." in caption
    assert "after epoch 30 and 60 (the conventional schedule). " in caption


HEADINGS = ["network", "epoch", "accuracy", "Lookahead, the paper", "SGD, the paper", "lead, the paper"]
NONE = ["not run yet", "not run yet", "-", "-"]


def test_table_2_has_the_paper_s_rows_ours_after_the_same_epochs_and_both_leads():
    make = trained_on_imagenet
    runs = [make(top1=(74.0, 75.0)), make(top1=(76.0, 77.0), seed=2), make("sgd", (74.5, 76.5))]
    assert rows_of(str(table2.page(runs)))[:7] == [
        [*HEADINGS, "Lookahead, here", "SGD, here", "lead, here", "seeds here"],
        ["ResNet-50", "50", "top 1", "75.13", "74.43", "+0.70", "75.00 ± 1.41", "74.50", "+0.50", "2 and 1"],
        ["ResNet-50", "50", "top 5", "92.22", "92.15", "+0.07", "85.00 ± 1.41", "84.50", "+0.50", "2 and 1"],
        ["ResNet-50", "60", "top 1", "75.49", "75.15", "+0.34", "76.00 ± 1.41", "76.50", "-0.50", "2 and 1"],
        ["ResNet-50", "60", "top 5", "92.53", "92.56", "-0.03", "86.00 ± 1.41", "86.50", "-0.50", "2 and 1"],
        ["ResNet-152", "49", "top 1", "77", "-", "-", *NONE],
        ["ResNet-152", "60", "top 1", "77.96", "-", "-", *NONE],
    ]


def test_table_2_tells_networks_and_schedules_apart():
    runs = [trained_on_imagenet(network="resnet152", epochs=(49, 60)), conventional("sgd", (70.0, 76.0))]
    page = str(table2.page(runs))
    rows = rows_of(page)
    assert all(row[6:] == NONE for row in rows[1:5])
    assert [row[6:] for row in rows[5:7]] == [["70.00", "not run yet", "-", "1"], ["75.00", "not run yet", "-", "1"]]
    assert "How the conventional schedule ends here; the paper has curves of it alone:" in page
    assert rows[7:9] == [
        ["network", "optimizer", "top 1", "top 5", "seeds"],
        ["ResNet-50", "SGD", "76.00", "86.00", "1"],
    ]
    assert rows[9:] == [
        ["data set", "network", "SGD", "Lookahead", "SLRLA"],
        ["ImageNet", "ResNet-18", "70.23", "70.30", "70.47"],
    ]
    assert "conventional schedule ends" not in str(table2.page(runs[:1]))
    assert "smaller network" not in page


def test_table_2_of_a_proxy_reads_the_same_part_of_the_run_and_names_its_epoch():
    run = trained_on_imagenet(network="ResNet", scale="proxy", epochs=(25, 30), size=32)
    page = str(table2.page([run]))
    rows = rows_of(page)
    assert [row[1] for row in rows[1:7]] == ["50 (here 25)"] * 2 + ["60 (here 30)"] * 2 + ["49", "60"]
    assert rows[0][6] == "Lookahead, here, at proxy scale"
    assert [row[6] for row in rows[1:7]] == ["70.00", "80.00", "75.00", "85.00", "not run yet", "not run yet"]
    assert "A smaller network stands for ResNet-50; ResNet-152 has none of its own" in page
    assert "**Rows of one column compare" in page


def test_table_2_says_that_a_run_diverged_and_which_epoch_was_not_measured():
    runs = [trained_on_imagenet(seed=seed) for seed in (1, 2)]
    runs[1].summary["status"] = "diverged"
    (row, *_) = rows_of(str(table2.page([*runs, trained_on_imagenet("sgd")])))[1:]
    assert row[6:] == ["diverged (1 of 2)", "70.00", "-", "2 and 1"]
    with pytest.raises(ValueError, match="val/accuracy was not measured after epoch 50 in somewhere"):
        str(table2.page([trained_on_imagenet(epochs=(40, 60))]))
    (group,) = series([trained_on_imagenet()])
    with pytest.raises(ValueError, match="val/nothing was not recorded in somewhere"):
        group.after("val/nothing", 50)


@pytest.mark.parametrize("scale", SCALES)
def test_the_epochs_of_table_2_lie_behind_the_cut_that_comes_before_them_at_every_scale(scale):
    config = setting_of("table2_imagenet", f"scale={scale}", task=TASKS[1], optim="sgd").values
    run = a_run(epochs=config["epochs"])
    _, second, third = config["schedule"]["milestones"]
    middle, end = (table2.epoch_here(epoch, 60, run) for epoch in (50, 60))
    assert end == config["epochs"]
    assert second < table2.epoch_here(49, 60, run) <= middle < end
    assert middle <= third


def test_the_paper_s_lead_and_its_text_are_those_that_were_read():
    rows = published("table2")["rows"]
    assert len(rows) == 6
    assert {row["network"] for row in rows} == set(trained.IMAGENET.networks)


def test_the_search_of_c2_is_one_row_per_rate_with_the_choice_of_the_recipe():
    runs = [conventional("sgd", (60.0, top1), lr=lr, weight_decay=1e-4) for lr, top1 in ((0.1, 76.0), (0.2, 76.5))]
    page = str(search_imagenet.page(runs))
    assert page.startswith(
        "# Appendix C.2's search, ImageNet: final validation accuracy (%)\n\n## SGD: 2 of 6 run here"
    )
    assert rows_of(page)[1:] == [
        ["0.01", "not run yet"],
        ["0.02", "not run yet"],
        ["0.05", "not run yet"],
        ["0.1", "76.00 †"],
        ["0.2", "**76.50**"],
        ["0.3", "not run yet"],
    ]
    assert "with which of its two schedules it searched (here: the conventional one) nor with how many seeds" in page
    assert "test set" not in page
    assert "(../paper/search_imagenet.yaml)" in page


@pytest.mark.slow
def test_the_rates_of_the_search_are_the_paper_s_and_its_choice_is_table_2_s_run():
    (search,) = published("search_imagenet")["searches"]
    found = settings("search_imagenet_sgd", ["scale=paper"])
    assert points_of(found, search) == grid_of(search)
    assert {(each.values["task"]["name"], each.values["optim"]["name"]) for each in found} == {("imagenet", "sgd")}
    chosen = setting_of("table2_imagenet", "scale=paper", task="imagenet", optim="sgd")
    assert [chosen.values["optim"]["lr"], chosen.values["optim"]["weight_decay"]] == search["chosen"]
    assert chosen.name in {each.name for each in found}


@pytest.mark.slow
def test_recorded_runs_of_both_schedules_are_found_and_drawn(tmp_path):
    history = {"epoch": [5, 6, 9], "step": [1, 2, 3], "train/running_loss": [3.0, 2.0, 1.0]}
    history |= {"val/accuracy": [10.0, 20.0, 30.0], "val/top5_accuracy": [50.0, 60.0, 70.0]}
    for task, name in itertools.product(TASKS, ("la_sgd", "sgd")):
        rows = history if task == TASKS[0] else pd.DataFrame(history)[:2].to_dict("list")
        write_record(tmp_path, setting_of("table2_imagenet", "scale=smoke", task=task, optim=name), 1, rows)
    runs = load(imagenet.DRAWS, tmp_path)
    assert len(runs) == 4  # the smaller network of ResNet-152 has the same runs
    _, figure, _, caption = only(fig06_imagenet_loss.figures(runs))
    assert labels(figure.axes[0]) == ["SGD", "SGD*", "Lookahead", "Lookahead*"]
    assert "Not run yet" not in caption
    assert [row[6] for row in rows_of(str(table2.page(runs)))[1:5]] == ["10.00", "50.00", "20.00", "60.00"]
