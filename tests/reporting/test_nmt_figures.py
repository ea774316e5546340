"""Figure 7b and its stand-in on Multi30k, and what is said of runs on pairs of sentences and of their rates."""

from __future__ import annotations

import pytest

from scripts.reporting.figures import fig07_multi30k_loss, fig07b_nmt_loss
from scripts.reporting.style import COLORS, TABLE4_LABELS
from scripts.reporting.tables import table4
from scripts.reporting.trained import what_was_trained
from scripts.reporting.translation import greatest_rate
from tests.helpers.pages import all_of_table_4, labels, only, trained_on_pairs

NAMES = list(TABLE4_LABELS)
ADAM, AROUND, WITHOUT, ADAFACTOR = TABLE4_LABELS.values()
SETS = ("newstest2013", "newstest2014")


def test_figure_7b_has_both_losses_over_updates():
    name, figure, table, caption = only(fig07b_nmt_loss.figures(all_of_table_4()))
    assert name == "fig07b_nmt_loss"
    left, right = figure.axes
    assert labels(left) == labels(right) == [ADAM, AROUND, WITHOUT, ADAFACTOR]
    assert (left.get_ylabel(), right.get_ylabel()) == ("training loss", "validation loss")
    assert left.get_xlabel() == right.get_xlabel() == "updates"
    assert [list(line.get_xdata()) for line in left.lines] == [[2500, 25_000, 50_000]] * 4
    assert [line.get_ydata().tolist() for line in left.lines] == [[5 + p / 10, 3, 2 + p / 10] for p in range(4)]
    assert [line.get_ydata()[1] for line in right.lines] == [2] * 4
    assert [line.get_linestyle() for line in left.lines] == ["-", "-", "--", "-."]
    assert [line.get_color() for line in left.lines] == [COLORS[name] for name in NAMES]
    assert right.get_legend() is not None
    assert figure.get_suptitle() == "Figure 7b, WMT14 English-German"
    assert table.columns.tolist() == ["training loss", "validation loss", *(f"BLEU, {name}" for name in SETS), "seeds"]
    assert table.loc[AROUND].tolist() == ["2.1", "1.1", "24.1", "25.1", 1]
    assert caption.startswith(
        "Transformer of 6 + 6 layers of width 512, with 60,500,000 parameters, 4,500,000 training pairs, "
        "32,000 subwords, 50,000 updates. The training loss is the mean of the updates since the point before, at the "
        "weights as they are trained (Lookahead's fast ones), with dropout and smoothed labels, less its least "
        "possible value"
    )
    assert "Not run yet" not in caption


def test_figure_7b_of_several_seeds_has_bands_and_names_what_is_missing():
    runs = [trained_on_pairs("adam", seed=seed, scale="short", steps=(100, 500, 2500)) for seed in (1, 2)]
    _, figure, _, caption = only(fig07b_nmt_loss.figures(runs))
    assert len(figure.axes[0].collections) == len(figure.axes[1].collections) == 1
    assert "2,500 of 50,000 updates" in caption
    assert f"over seeds. Not run yet: {AROUND}, {WITHOUT}, {ADAFACTOR}. Short scale" in caption
    assert "slow weights" not in caption
    assert figure.get_suptitle() == "Figure 7b, WMT14 English-German: short scale (fewer epochs than the paper)"


def test_the_stand_in_s_figure_names_itself_one():
    run = trained_on_pairs("adam", task="multi30k", model=(4, 128), steps=(10, 20, 30))
    run.history.drop(columns="val/loss", inplace=True)
    del run.summary["final"]["test/bleu"], run.summary["final"]["val/loss"]
    name, figure, table, caption = only(fig07_multi30k_loss.figures([run]))
    assert name == "fig07_multi30k_loss"
    assert figure.get_suptitle() == "A stand-in for Figure 7b: Multi30k English-German"
    assert caption.startswith("A stand-in on data that the paper does not have, for machines on which WMT14 is too ")
    assert "nothing of it is a result of the paper. Transformer of 4 + 4 layers of width 128, with" in caption
    assert " 30 updates. " in caption
    assert [axes.get_ylabel() for axes in figure.axes] == ["training loss"]
    assert table.columns.tolist() == ["training loss", "BLEU, validation", "seeds"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model": (2, 64), "steps": (1, 2, 50)}, "of 2 + 2 layers of width 64 for 6 + 6 of 512, with"),
        ({"model": (6, 256)}, "of 6 + 6 layers of width 256 for 6 + 6 of 512, with"),
        ({"steps": (1, 2, 250_000)}, "32,000 subwords, 250,000 updates"),
        ({"steps": (1, 2, 49_999)}, "32,000 subwords, 49,999 of 50,000 updates"),
        ({"task": "multi30k", "model": (4, 128)}, "of 4 + 4 layers of width 128, with"),
        ({"task": "multi30k", "steps": (1, 2, 3)}, "subwords, 3 updates"),
    ],
)
def test_what_was_trained_says_what_is_smaller_than_the_paper_s(values, expected):
    assert expected in what_was_trained(trained_on_pairs(**values))


def test_pairs_that_were_dropped_are_counted():
    run = trained_on_pairs("adam")
    run.summary["data"] |= {"train pairs dropped, empty": 1000, "train pairs dropped, too long": 234}
    assert "4,500,000 training pairs, 1,234 more dropped as empty or too long, 32,000 sub" in what_was_trained(run)


def test_a_record_without_counts_of_its_data_has_no_words_of_them():
    run = trained_on_pairs("adam")
    del run.summary["data"]
    assert "60,500,000 parameters, 32,000 subwords" in what_was_trained(run)
    assert "with its usual tokenization, and, as intl, with that of mteval-v14" in str(table4.page([run]))


def test_greatest_rates_are_those_of_the_recipe_worked_by_hand():
    # 2 / sqrt(512 x 10,000); 0.04 / 100; 1 / 100.
    expected = {"adam": 8.8388e-4, "la_adam": 4e-4, "la_adam_no_warmup": 4e-4, "adafactor": 1e-2}
    found = {name: greatest_rate(trained_on_pairs(name)) for name in NAMES}
    assert found == pytest.approx(expected, rel=1e-4)
    assert greatest_rate(trained_on_pairs("la_adam", warmup=2500)) == pytest.approx(8e-4)
