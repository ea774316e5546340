"""Figure 7a and Table 3 on Penn Treebank: the paper's numbers and ours; what diverged; and what its experiments run."""

from __future__ import annotations

import itertools

import pytest

from experiments.engine.experiment import settings
from scripts.reporting import penn_treebank
from scripts.reporting.figures import fig07a_ptb_curves
from scripts.reporting.published import published
from scripts.reporting.series import series
from scripts.reporting.style import COLORS, LABELS, TABLE3_LABELS
from scripts.reporting.tables import dispute_ptb, search_ptb, table3
from tests.helpers.pages import grid_of, labels, not_run_panels, only, points_of, rows_of, trained_on_text
from tests.helpers.recorded import load, setting_of, write_record

ORIGINAL = "Perplexity as the code of AWD-LSTM, which the paper used, has it: a little below the exact one"
BEST = "Mean ± one standard deviation over seeds, of the weights that are best on validation."
NEAR = "**Rows of one column compare; columns of different scales do not compare.**"
NONE, NO_NUMBER = "not run yet", "-"


def all_of_table_3():
    return [trained_on_text(name, (80.0, 60.0 + place)) for place, name in enumerate(TABLE3_LABELS)]


def test_figure_7a_has_the_paper_s_panel_and_the_validation_perplexity_beside_it():
    name, figure, table, caption = only(fig07a_ptb_curves.figures(all_of_table_3()))
    assert name == "fig07a_ptb_curves"
    left, right = figure.axes
    assert labels(left) == labels(right) == list(TABLE3_LABELS.values())
    assert (left.get_ylabel(), right.get_ylabel()) == ("training perplexity", "validation perplexity")
    assert left.get_xlabel() == "epoch"
    assert [line.get_ydata().tolist() for line in left.lines] == [[40, 30 + place / 2] for place in range(5)]
    assert [line.get_ydata().tolist() for line in right.lines] == [[80, 60 + place] for place in range(5)]
    assert list(right.lines[0].get_xdata()) == [1, 750]
    assert [line.get_linestyle() for line in right.lines] == ["-", "-", "-", "-", "--"]
    assert [line.get_color() for line in right.lines] == [COLORS[name] for name in TABLE3_LABELS]
    assert right.get_legend() is not None
    assert left.get_yscale() == right.get_yscale() == "linear"
    assert figure.get_suptitle() == "Figure 7a, Penn Treebank"
    assert table.loc["Lookahead (Adam)"].tolist() == ["31.5", "63", "61", 1]
    assert caption.startswith(
        "AWD-LSTM with 24,221,600 parameters, 929,589 training tokens, 750 epochs. Perplexity as the code"
    )
    assert ORIGINAL in caption
    assert "Training perplexity is of a pass over the text without dropout; the paper does not say" in caption
    assert (
        "Polyak is SGD until its averaging is triggered. Averaging had begun at the kept weights in 0 of 1" in caption
    )
    assert "SGD's own. Lookahead is evaluated on its slow weights. Full" in caption
    assert "Not run yet" not in caption


def test_figure_7a_of_a_proxy_names_what_is_missing_and_what_is_smaller_and_falls_on_a_logarithmic_scale():
    runs = [trained_on_text("adam", (800.0, 70.0), seed, "proxy", (1, 4)) for seed in (1, 2)]
    for run in runs:
        run.summary.update(parameters=1_000_000)
        run.config.task.corpus = {"train_tokens": 300_000, "val_tokens": 7000}
    _, figure, _, caption = only(fig07a_ptb_curves.figures(runs))
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}
    assert caption.startswith(
        "AWD-LSTM with 1,000,000 of 24,221,600 parameters, 300,000 of 929,589 training tokens, "
        "7,000 of 73,760 validation tokens, 4 of 750 epochs."
    )
    assert "Mean and one standard deviation over seeds. Not run yet: SGD, Lookahead (SGD), Lookahead (Adam)," in caption
    assert "slow weights" not in caption
    assert len(figure.axes[0].collections) == 1
    assert figure.get_suptitle() == "Figure 7a, Penn Treebank: a proxy, not the paper's experiment"


@pytest.mark.parametrize(
    ("source", "tokens", "words"),
    [
        ("penn_treebank", {"test_tokens": 5}, "929,589 training tokens, 5 of 82,430 test tokens, 2 of"),
        (
            "made",
            {"train_tokens": 1200, "val_tokens": 240, "test_tokens": 250},
            "a text made in code (1,200 training, 240 validation, 250 test tokens) for Penn Treebank, 2 of",
        ),
        ("text_files", {}, "another text for Penn Treebank, 2 of"),
        ("of_mine", {}, "of_mine for Penn Treebank, 2 of"),
    ],
)
def test_a_text_that_is_not_penn_treebank_is_called_what_it_is(source, tokens, words):
    run = trained_on_text("adam", scale="smoke", epochs=(1, 2))
    run.config.task.corpus = {"_target_": f"experiments.language_modeling.corpus.{source}", **tokens}
    _, _, _, caption = only(fig07a_ptb_curves.figures([run]))
    assert caption.startswith(f"AWD-LSTM with 24,221,600 parameters, {words} 750 epochs. Perplexity")
    assert f"parameters, {words} 750 epochs; " in str(table3.page([run]))


def test_figure_7a_without_passes_over_the_training_text_has_an_empty_panel_and_says_so():
    run = trained_on_text("sgd")
    run.history.drop(columns="train/original_perplexity", inplace=True)
    del run.summary["final"]["train/original_perplexity"]
    _, figure, table, caption = only(fig07a_ptb_curves.figures([run]))
    assert labels(figure.axes[1]) == ["SGD"]
    assert not_run_panels(figure, "not measured") == {"": "python train.py experiment=table3_ptb"}
    assert table.columns.tolist() == ["validation perplexity", "test perplexity", "seeds"]
    assert "The training perplexity, the paper's panel, was not measured." in caption
    assert "without dropout" not in caption
    assert rows_of(str(table3.page([run])))[1][5] == "not measured"


def test_table_3_has_the_paper_s_rows_the_reproduction_s_and_ours():
    runs = [trained_on_text("adam", (80.0, value), seed) for seed, value in ((1, 62), (2, 64))]
    page = str(table3.page([*runs, trained_on_text("la_adam", (70.0, 60.0))]))
    assert page.startswith("# Table 3: perplexity on Penn Treebank\n")
    adam, around, polyak = "Adam", "Lookahead (Adam)", "Polyak (NT-ASGD)"
    assert rows_of(page)[:16] == [
        ["optimizer", "perplexity", "the paper", "the reproduction", "AWD-LSTM's code", "here", "seeds here"],
        ["SGD", "training", "43.62", "50.61", "-", NONE, "-"],
        ["SGD", "validation", "66.0", "66.85", "-", NONE, "-"],
        ["SGD", "test", "63.90", "63.96", "-", NONE, "-"],
        ["Lookahead (SGD)", "training", "35.02", "51.45", "-", NONE, "-"],
        ["Lookahead (SGD)", "validation", "65.10", "67.87", "-", NONE, "-"],
        ["Lookahead (SGD)", "test", "63.04", "64.59", "-", NONE, "-"],
        [adam, "training", "33.54", "41.72", "-", "31.50 ± 0.71", "2"],
        [adam, "validation", "61.64", "63.88", "-", "63.00 ± 1.41", "2"],
        [adam, "test", "59.33", "61.14", "-", "61.00 ± 1.41", "2"],
        [around, "training", "31.92", "43.26", "-", "30.00", "1"],
        [around, "validation", "60.28", "63.87", "-", "60.00", "1"],
        [around, "test", "57.72", "60.63", "-", "58.00", "1"],
        [polyak, "training", "-", "-", "-", NONE, "-"],
        [polyak, "validation", "61.18", "-", "61.2", NONE, "-"],
        [polyak, "test", "58.79", "-", "58.8", NONE, "-"],
    ]
    assert f"{BEST} {ORIGINAL}" in page
    assert (
        "AWD-LSTM with 24,221,600 parameters, 929,589 training tokens, 750 epochs; full scale; fp32; 1 to 2 seeds"
        in page
    )
    values = "Adam at a rate of 0.005; Lookahead (Adam) at a rate of 0.005 with k = 5 and α = 0.5."
    assert f"Here: {values} The paper has the grids that it searched, and not which learning rates it chose." in page
    assert "Of k and α the paper says only that 5 or 10, and 0.5 or 0.8, worked best." in page
    assert "Polyak is SGD" not in page
    assert NEAR not in page
    readme = "[AWD-LSTM's README](https://github.com/salesforce/awd-lstm-lm)"
    assert f"Rounded, that row is 61.2 and 58.8, which {readme} has with batch 20 and other dropout" in page


def test_table_3_has_lookahead_s_leads_over_its_inner_optimizers():
    page = str(table3.page([trained_on_text("adam", (80.0, 63.0)), trained_on_text("la_adam", (70.0, 64.0))]))
    assert rows_of(page)[16:23] == [
        ["inner optimizer", "perplexity", "the paper", "the reproduction", "here"],
        ["SGD", "training", "+8.60", "-0.84", "-"],
        ["SGD", "validation", "+0.90", "-1.02", "-"],
        ["SGD", "test", "+0.86", "-0.63", "-"],
        ["Adam", "training", "+1.62", "-1.54", "-0.50"],
        ["Adam", "validation", "+1.36", "+0.01", "-1.00"],
        ["Adam", "test", "+1.61", "+0.51", "-1.00"],
    ]


def test_table_3_has_no_row_of_the_reproduction_at_another_rate_than_ours():
    page = str(table3.page([trained_on_text("adam", lr=0.01), trained_on_text("sgd", lr=10)]))
    assert [row[3] for row in rows_of(page)[1:13]] == [
        *[NO_NUMBER] * 3,
        *["51.45", "67.87", "64.59"],
        *["52.95", "66.26", "63.44"],
        *["43.26", "63.87", "60.63"],
    ]
    assert [row[3] for row in rows_of(page)[17:23]] == [NO_NUMBER] * 6  # no lead of two rates, or of one alone


def test_table_3_has_the_best_epoch_the_perplexity_with_dropout_and_the_exact_ones_besides():
    runs = [trained_on_text("sgd", (60.0, 70.0), kept=1), trained_on_text("sgd", (80.0, 62.0), 2, epochs=(1, 751))]
    page = str(table3.page(runs))
    assert rows_of(page)[23:] == [
        ["optimizer", "best epoch", "training, with dropout", "training, exact", "validation, exact", "test, exact"],
        ["SGD", "376 ± 530", "40.50 ± 0.71", "31.50 ± 0.71", "62.00 ± 1.41", "60.00 ± 1.41"],
    ]


def test_weights_of_the_last_evaluation_stand_for_the_best_where_none_were_kept():
    run = trained_on_text("sgd", (60.0, 70.0))
    del run.summary["kept"]
    (group,) = series([run])
    found = penn_treebank.at_the_best(group)
    assert found.final(penn_treebank.BEST_EPOCH).mean == 750
    assert found.final(penn_treebank.RUNNING_PERPLEXITY).mean == pytest.approx(45)
    assert penn_treebank.BEST_EPOCH not in run.summary["final"]


def diverged(run, epochs=0):
    """Return a run that diverged after so many epochs, without a history where there is none."""
    run.summary.update(status="diverged", epochs=epochs, final={})
    del run.summary["kept"]
    return type(run)(run.config, run.summary, run.history if epochs else None, run.folder)


def test_what_diverged_says_so_in_every_page_and_picture():
    first = diverged(trained_on_text("adam", lr=0.01))
    runs = [trained_on_text("adam", (80.0, 63.0)), trained_on_text("la_adam"), first]
    (row,) = (row for row in rows_of(str(dispute_ptb.page(runs))) if row[:2] == ["0.01", "validation"])
    assert row[5:] == ["diverged", NONE, "-", "1"]
    alone = diverged(trained_on_text("adam"))
    rows = rows_of(str(table3.page([alone])))
    assert rows[8][5:] == ["diverged", "1"]
    assert rows[-1] == ["Adam", *["diverged"] * 5]
    _, figure, _, caption = only(fig07a_ptb_curves.figures([alone]))
    assert labels(figure.axes[1]) == ["Adam, diverged"]
    assert caption.startswith("AWD-LSTM, which diverged in its first epoch. ")
    one_of_two = rows_of(str(table3.page([trained_on_text("adam"), diverged(trained_on_text("adam", seed=2), 1)])))
    assert one_of_two[8][5:] == ["diverged (1 of 2)", "2"]
    rows = rows_of(str(search_ptb.page(runs)))
    assert ["0.01", "diverged"] in rows
    assert ["0.005", "63.00"] in rows  # of one there is no choice


def test_the_published_numbers_are_those_that_were_read():
    paper, reproduction = published("table3"), published("reproduction_ptb")
    assert paper["metrics"] == reproduction["metrics"] == penn_treebank.PERPLEXITY
    assert [row["optim"] for row in paper["rows"]] == list(TABLE3_LABELS)
    assert all(set(row) == {"optim", *penn_treebank.SPLITS} for row in paper["rows"])
    shown = str(table3.page(all_of_table_3())) + str(dispute_ptb.page([trained_on_text()]))
    numbers = [row[split] for each in (paper, reproduction) for row in each["rows"] for split in penn_treebank.SPLITS]
    assert all(number is None or f"| {number} |" in shown for number in numbers)
    assert len(numbers) == 15 + 18


def test_table_3_s_names_are_of_optimizers_that_the_others_know():
    assert set(TABLE3_LABELS) <= set(LABELS)


@pytest.mark.slow
def test_the_experiments_have_the_grids_of_c3_and_the_recipe_s_rates():
    table = {each.values["optim"]["name"]: each for each in settings("table3_ptb", ["scale=paper"])}
    first = {row["optim"]: row["lr"] for row in reversed(published("reproduction_ptb")["rows"])}
    assert {name: table[name].values["optim"]["lr"] for name in first} == first  # its first rows are the recipe's
    for search in published("search_ptb")["searches"]:
        found = [
            each
            for draws in search_ptb.DRAWS
            for each in settings(draws.experiment, ["scale=paper"])
            if each.values["optim"]["name"] == search["optim"]
        ]
        assert points_of(found, search) == grid_of(search)
        assert table[search["optim"]].name in {each.name for each in found}
    dispute = settings("dispute_ptb_adam_rate", ["scale=paper"])
    pairs = {(each.values["optim"]["name"], each.values["optim"]["lr"]) for each in dispute}
    assert pairs == set(itertools.product(dispute_ptb.COMPARED, dispute_ptb.RATES))
    assert {table[name].name for name in dispute_ptb.COMPARED} <= {each.name for each in dispute}


@pytest.mark.slow
def test_recorded_runs_of_each_experiment_are_found(tmp_path):
    history = trained_on_text("sgd", (50.0, 40.0)).history.to_dict("list")
    wanted = setting_of("dispute_ptb_adam_rate", "scale=smoke", optim="adam", where={"optim.lr": 0.01})
    for setting in [setting_of("table3_ptb", "scale=smoke", optim=name) for name in TABLE3_LABELS] + [wanted]:
        write_record(tmp_path, setting, 1, history, parameters=3880)
    found = load(table3.DRAWS, tmp_path)
    assert len(found) == 5
    made = "a text made in code (1,200 training, 240 validation, 240 test tokens) for Penn Treebank"
    assert f"AWD-LSTM with 3,880 of 24,221,600 parameters, {made}, 750 epochs;" in str(table3.page(found))
    assert len(load(dispute_ptb.DRAWS, tmp_path)) == 3
    runs = load(search_ptb.DRAWS, tmp_path)
    assert sorted((run.config.optim.name, run.config.optim.lr) for run in runs) == [
        ("adam", 0.005),
        ("adam", 0.01),
        ("la_adam", 0.005),
        ("la_sgd", 30),
        ("sgd", 30),
    ]
