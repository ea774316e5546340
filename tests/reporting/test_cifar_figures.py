"""Figures 2, 8, 9, 10, 13 and 14, from runs made by hand."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd
import pytest

from scripts import figures, tables
from scripts.reporting.figures import (
    fig02_adaptive_alpha,
    fig08_inner_optimizers,
    fig09_k_alpha,
    fig10_inner_and_outer_loop,
    fig13_inner_states,
    fig14_accuracy_curves,
)
from tests.helpers import pages
from tests.helpers.made_records import every_update
from tests.helpers.pages import labels, not_run_panels, only
from tests.helpers.recorded import setting_of, write_record

trained = partial(pages.trained, epochs=2)


def test_figure_9_has_a_curve_per_k_and_alpha_beside_sgd_and_names_what_is_missing():
    runs = [trained(task="cifar100", k=k, alpha=alpha, accuracy=70 + k) for k, alpha in ((10, 0.5), (5, 0.8))]
    name, figure, table, caption = only(fig09_k_alpha.figures([*runs, trained("sgd", task="cifar100", accuracy=60)]))
    assert name == "fig09_k_alpha"
    assert labels(figure.axes[0]) == ["SGD", "k=5, α=0.8", "k=10, α=0.5"]
    assert [line.get_ydata()[-1] for line in figure.axes[1].lines] == [60, 75, 80]
    assert "Not run yet: k=5 with α=0.5, k=10 with α=0.8." in caption
    assert table["validation accuracy (%)"].tolist() == ["60", "75", "80"]
    assert figure.get_suptitle() == "Figure 9, CIFAR-100"
    assert len({line.get_color() for line in figure.axes[0].lines}) == 3
    caption = only(fig09_k_alpha.figures(runs))[3]
    assert "k=10 with α=0.8, SGD." in caption


def test_figure_13_has_a_curve_per_policy_beside_sgd():
    runs = [trained(inner_state=policy) for policy in ("reset", "maintain", "interpolate")]
    name, figure, _, caption = only(fig13_inner_states.figures([*runs, trained("sgd")]))
    assert name == "fig13_inner_states"
    assert sorted(labels(figure.axes[0])) == ["SGD", "interpolate", "maintain", "reset"]
    assert "Not run yet" not in caption
    assert "Not run yet: interpolate, SGD." in only(fig13_inner_states.figures(runs[:2]))[3]


def test_figure_14_is_the_accuracy_on_cifar_10():
    name, figure, table, caption = only(fig14_accuracy_curves.figures([trained("sgd", 95.0), trained("polyak", 95.5)]))
    assert name == "fig14_accuracy_curves"
    axes, _ = figure.axes
    assert labels(axes) == ["SGD", "Polyak"]
    assert not_run_panels(figure) == {"ImageNet": "python train.py experiment=table2_imagenet"}
    assert axes.get_ylabel() == "validation accuracy (%)"
    assert "Not run yet: Adam on CIFAR-10, Lookahead on CIFAR-10, ImageNet." in caption
    assert "second pass" not in caption  # of a loss that is not drawn
    assert table["validation accuracy (%)"].tolist() == ["95", "95.5"]


def test_figure_8_has_rates_on_the_left_momenta_on_the_right_and_shares_what_belongs_to_both():
    runs = [
        trained("sgd", lr=0.05, momentum=0.9, loss=0.1),
        trained("sgd", lr=0.3, momentum=0.9, loss=0.2),
        trained("sgd", lr=0.05, momentum=0.5, loss=0.3),
        trained(lr=0.1, momentum=0.9, loss=0.4),
        trained(lr=0.3, momentum=0.9, loss=0.5),
        trained(lr=0.1, momentum=0, loss=0.6),
    ]
    name, figure, table, caption = only(fig08_inner_optimizers.figures(runs))
    left, right = figure.axes
    assert name == "fig08_inner_optimizers"
    assert labels(left) == ["0.05 (SGD)", "0.3 (SGD)", "0.1", "0.3"]
    assert [line.get_ydata()[-1] for line in left.lines] == [0.1, 0.2, 0.4, 0.5]
    assert labels(right) == ["0.5 (SGD)", "0.9 (SGD)", "0", "0.9"]
    assert [line.get_ydata()[-1] for line in right.lines] == [0.3, 0.1, 0.6, 0.4]
    assert {(line.get_label().endswith("(SGD)"), line.get_linestyle()) for line in left.lines} == {(1, "--"), (0, "-")}
    by_value = {line.get_label().split()[0]: line.get_color() for line in left.lines}
    assert len(set(by_value.values())) == 3
    assert left.lines[1].get_color() == left.lines[3].get_color()  # both at 0.3
    assert "learning rate of SGD at 0.01, SGD at 0.03, SGD at 0.1, SGD at 0.2, Lookahead at 0.01" in caption
    assert "momentum of SGD at 0, SGD at 0.95, SGD at 0.99, Lookahead at 0.5" in caption
    assert table.index[0] == "SGD, rate 0.05, momentum 0.5"


def test_figure_8_with_rates_alone_leaves_the_other_panel_empty():
    figure = only(fig08_inner_optimizers.figures([trained(lr=0.01, momentum=0.9)]))[1]
    assert [len(axes.lines) for axes in figure.axes] == [1, 0]
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes] == [("epoch", "training loss")] * 2


def test_figure_2_has_a_panel_per_rate():
    names = ("la_adamw", "la_adam_adaptive", "adamw")
    runs = [trained(name, lr=lr, loss=lr) for lr in (1e-3, 3e-3) for name in names]
    name, figure, table, caption = only(fig02_adaptive_alpha.figures(runs))
    assert name == "fig02_adaptive_alpha"
    for axes, rate in zip(figure.axes, (1e-3, 3e-3), strict=True):
        assert labels(axes) == ["Adam alone", "fixed α = 0.5", "adaptive α"]
        assert [line.get_ydata()[-1] for line in axes.lines] == [rate] * 3
        assert f"{rate:g}" in axes.get_title()
    assert "Not run yet" not in caption
    assert table.index.tolist()[0] == "Adam alone, rate 0.001"
    assert "Not run yet: Adam alone at 0.003, adaptive α at 0.003." in only(fig02_adaptive_alpha.figures(runs[:4]))[3]


@pytest.mark.parametrize("high", [1e-3, 3e-3])
def test_figure_2_has_one_scale_for_both_panels_whichever_needs_it(high):
    losses = {1e-3: [2.0, 1.9], 3e-3: [2.0, 1.9]} | {high: [20.0, 0.1]}
    runs = [trained("la_adamw", lr=lr) for lr in losses]
    for run, loss in zip(runs, losses.values(), strict=True):
        run.history["train/loss"] = loss
    figure = only(fig02_adaptive_alpha.figures(runs))[1]
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log"]


def watched(tmp_path, k, alpha, seed=1):
    """Return a run whose fast weights lose a point per update, and whose synchronizations give it back."""
    folder = tmp_path / f"k{k}"
    folder.mkdir(parents=True)
    every_update(k).to_csv(folder / "every_update.csv", index=False)
    run = trained(k=k, alpha=alpha, seed=seed)
    run.config.probe = {"start": 64}
    run.config.task.train_sample = 5000
    return type(run)(run.config, run.summary, run.history, folder)


def test_figure_10_shows_fast_and_slow_weights_after_every_update(tmp_path):
    runs = [watched(tmp_path, 10, 0.5), watched(tmp_path, 4, 0.8)]
    name, figure, table, caption = only(fig10_inner_and_outer_loop.figures(runs))
    assert name == "fig10_inner_and_outer_loop"
    assert len(figure.axes) == 6
    assert figure.get_suptitle() == "Figure 10, CIFAR-10"
    assert [axes.get_title() for axes in figure.axes[:2]] == ["k = 4, α = 0.8", "k = 10, α = 0.5"]
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == list(fig10_inner_and_outer_loop.ROWS.values())
    fast, slow, after = figure.axes[0].lines
    # The fourth update ends at 88; there the synchronization puts the slow weights in their place.
    assert fast.get_xdata().tolist()[:6] == [1, 2, 3, 4, 4, 5]
    assert fast.get_ydata().tolist()[:6] == [91, 90, 89, 88, 92, 91]
    assert set(slow.get_ydata()) == {92}
    assert after.get_xdata().tolist() == [4, 8, 12]
    assert table.iloc[0].tolist() == ["k = 4, α = 0.8", -4.0, 4.0, 2]
    assert table.iloc[1]["loops"] == 0
    assert "from epoch 65 on. A dot" in caption
    assert "Training: the first 5,000 images, without augmentation." in caption


def test_figure_10_tells_seeds_apart_and_the_paper_s_epoch_where_it_is_another(tmp_path):
    runs = [watched(tmp_path / str(seed), 4, 0.8, seed) for seed in (1, 2)]
    runs[0].config.probe.start = 9
    _, figure, table, caption = only(fig10_inner_and_outer_loop.figures(runs))
    titles = ["k = 4, α = 0.8, seed 1", "k = 4, α = 0.8, seed 2"]
    assert [axes.get_title() for axes in figure.axes[:2]] == table["k and α"].tolist() == titles
    assert "from epoch 10 on (paper: 65)." in caption


def test_figure_10_counts_the_loops_of_which_it_saw_the_beginning_alone():
    table = pd.DataFrame(
        {
            "synchronized": [False, True, False, True, False, True, False],
            "fast/val/accuracy": [80.0, 70, 45, 40, 47, 46, 30],
            "slow/val/accuracy": [50.0, 50, 50, 52, 52, 51, 51],
        }
    )
    # 50 to 40 and 52 to 46; 40 to 52 and 46 to 51.
    assert fig10_inner_and_outer_loop.changes_of(table, "val/accuracy") == {
        "inner loop": -8.0,
        "synchronization": 8.5,
        "loops": 2,
    }
    none = fig10_inner_and_outer_loop.changes_of(table.iloc[:3], "val/accuracy")
    assert none["loops"] == 0
    assert math.isnan(none["inner loop"])
    assert math.isnan(none["synchronization"])


def test_what_is_missing_is_told_with_the_command_that_prints_it(tmp_path, capsys):
    runs, out = tmp_path / "runs", tmp_path / "out"
    history = {"epoch": [1], "step": [5], "train/loss": [4.0], "val/accuracy": [5.0]}
    write_record(runs, setting_of("k_alpha", "scale=smoke", where={"optim.k": 10, "optim.alpha": 0.8}), 1, history)
    assert figures.main(["fig09", "--runs", str(runs), "--out", str(out)]) == 0
    told = "14 of 15 runs are missing; python scripts/status.py --commands fig09_k_alpha scale=smoke prints how"
    assert told in capsys.readouterr().out
    assert (out / "fig09_k_alpha@smoke.png").exists()
    assert tables.main(["table5", "--runs", str(runs), "--out", str(out)]) == 0
    assert "status.py --commands table5 scale=smoke" in capsys.readouterr().out
