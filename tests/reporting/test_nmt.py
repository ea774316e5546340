"""Table 4, its stand-in on Multi30k, and 250,000 updates: the published numbers and ours; what diverged."""

from __future__ import annotations

import math

import pytest

from experiments.engine.experiment import settings
from scripts.reporting import modules, translation_tables
from scripts.reporting.figures import fig07_multi30k_loss, fig07b_nmt_loss
from scripts.reporting.published import published
from scripts.reporting.style import LABELS, TABLE4_LABELS
from scripts.reporting.tables import nmt_250k, table4, table4_multi30k
from scripts.reporting.translation import BLEU
from tests.helpers.pages import all_of_table_4, labels, only, rows_of, trained_on_pairs
from tests.helpers.recorded import load, write_record

NAMES = list(TABLE4_LABELS)
ADAM, AROUND, WITHOUT, ADAFACTOR = TABLE4_LABELS.values()
SETS = ("newstest2013", "newstest2014")
NONE, NO_NUMBER = "not run yet", "-"


def diverged(run, epochs=1):
    """Return a run that diverged in the epoch after so many, without a history where there is none."""
    run.summary.update(status="diverged", epochs=epochs, final={})
    return type(run)(run.config, run.summary, run.history if epochs else None, run.folder)


def table_below(page, text):
    """Return the rows of the first table below a text."""
    return rows_of(page[page.index(text) :].split("\n\n", 2)[1])


def test_beginnings_of_names_stay_unambiguous():
    assert modules.full_names("figures", ["fig07b", "fig07_multi30k"]) == ["fig07b_nmt_loss", "fig07_multi30k_loss"]
    assert modules.full_names("tables", ["table4", "table4_m"]) == ["table4", "table4_multi30k"]


def test_table_4_has_the_paper_s_rows_and_ours_of_both_kinds_of_bleu():
    runs = [trained_on_pairs("adam", (24.5, value), seed) for seed, value in ((1, 25.0), (2, 27.0))]
    page = str(table4.page([*runs, trained_on_pairs("la_adam", (24.7, 26.5))]))
    assert page.startswith("# Table 4: BLEU on WMT14 English-German\n")
    assert rows_of(page)[:9] == [
        ["optimizer", "BLEU on", "the paper", "Joey NMT", "here", "here, intl", "seeds here"],
        [ADAM, "newstest2013", "24.6", "24.36", "24.50 ± 0.00", "25.00 ± 0.00", "2"],
        [ADAM, "newstest2014", "24.6", "24.38", "26.00 ± 1.41", "26.50 ± 1.41", "2"],
        [AROUND, "newstest2013", "24.68", "-", "24.70", "25.20", "1"],
        [AROUND, "newstest2014", "24.70", "-", "26.50", "27.00", "1"],
        [WITHOUT, "newstest2013", "24.3", "-", NONE, NONE, "-"],
        [WITHOUT, "newstest2014", "24.4", "-", NONE, NONE, "-"],
        [ADAFACTOR, "newstest2013", "24.17", "-", NONE, NONE, "-"],
        [ADAFACTOR, "newstest2014", "24.51", "-", NONE, NONE, "-"],
    ]
    assert "over seeds. BLEU is that of the last weights: no checkpoints are averaged. Transformer of 6 + 6" in page
    assert "50,000 updates; full scale; fp32; 1 to 2 seeds per setting; one process" in page
    assert "usual tokenization (`nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0`), and, as intl" in page
    assert "own has (`nrefs:1|case:mixed|eff:no|tok:intl|smooth:exp|version:2.6.0`). The paper does not say" in page
    assert (
        "Adam with a constant of 2 over √512: up to a rate of 0.000884 in 10,000 updates; Lookahead around Adam with a "
        "constant of 0.04: up to a rate of 0.0004 in 10,000 updates, k = 10, α = 0.5. Then the rate falls with the "
        "inverse square root of the updates. Lookahead is evaluated on its slow weights."
    ) in page


def test_rates_without_warm_up_and_at_shorter_scales_and_adafactor_s_in_words():
    runs = [trained_on_pairs("la_adam_no_warmup"), trained_on_pairs("adafactor")]
    for run in runs:
        run.config.schedule.time = 0.05
    page = str(table4.page(runs))
    assert f"{WITHOUT} with a constant of 0.04: a rate of 0.0004 for 500 updates, k = 10, α = 0.5; Adafactor " in page
    assert (
        "with a constant of 1: up to a rate of 0.01 relative to each parameter's size in 500 updates. Then the" in page
    )


def test_both_signatures_are_shown_where_records_have_two():
    runs = [trained_on_pairs("adam"), trained_on_pairs("adam", seed=2)]
    runs[1].summary["data"]["signature of bleu"] = "another"
    assert "tok:13a|smooth:exp|version:2.6.0` and `another`), and, as intl" in str(table4.page(runs))


def test_table_4_has_what_is_above_adam_s_bleu():
    page = str(table4.page(all_of_table_4()))
    assert table_below(page, "By how much BLEU is above Adam's:") == [
        ["optimizer", "BLEU on", "the paper", "here"],
        [AROUND, "newstest2013", "+0.08", "+0.10"],
        [AROUND, "newstest2014", "+0.10", "+0.10"],
        [WITHOUT, "newstest2013", "-0.30", "+0.20"],
        [WITHOUT, "newstest2014", "-0.20", "+0.20"],
        [ADAFACTOR, "newstest2013", "-0.43", "+0.30"],
        [ADAFACTOR, "newstest2014", "-0.09", "+0.30"],
    ]
    alone = table_below(str(table4.page([trained_on_pairs("la_adam")])), "By how much BLEU is above Adam's:")
    assert [row[3] for row in alone[1:]] == [NO_NUMBER] * 6


def test_table_4_has_the_largest_differences_at_the_end():
    page = str(table4.page(all_of_table_4()))
    assert table_below(page, 'Section 5.4: "All the methods converge to similar training loss and BLEU score') == [
        ["at the end", "the paper", "here"],
        ["training loss", "-", f"0.300 ({ADAM}: 2.000, {ADAFACTOR}: 2.300)"],
        ["validation loss", "-", f"0.300 ({ADAM}: 1.000, {ADAFACTOR}: 1.300)"],
        [
            "BLEU on newstest2013",
            f"0.51 ({ADAFACTOR}: 24.17, {AROUND}: 24.68)",
            f"0.30 ({ADAM}: 24.00, {ADAFACTOR}: 24.30)",
        ],
        [
            "BLEU on newstest2014",
            f"0.30 ({WITHOUT}: 24.40, {AROUND}: 24.70)",
            f"0.30 ({ADAM}: 25.00, {ADAFACTOR}: 25.30)",
        ],
    ]
    alone = str(table4.page([trained_on_pairs("adam")]))
    assert "converge to similar" not in alone
    assert "early stage" not in alone


def test_differences_are_of_finite_values_alone():
    found = translation_tables.largest_difference({"a": 2.0, "b": math.nan, "c": 1.25}, 2)
    assert found == "0.75 (c: 1.25, a: 2.00)"
    assert translation_tables.largest_difference({"a": 2.0, "b": math.nan}, 2) == NO_NUMBER


def test_training_losses_stand_side_by_side_after_shares_of_the_updates():
    steps = tuple(range(1000, 51_000, 1000))
    found = {
        "adam": [6 - step / 10_000 for step in steps],
        "la_adam": [5.8 - step / 12_500 for step in steps],  # lower until update 10,000
    }
    page = str(table4.page([trained_on_pairs(name, loss=tuple(loss), steps=steps) for name, loss in found.items()]))
    assert table_below(page, "Section 5.4: Lookahead speeds up") == [
        ["optimizer", *(f"{step:,} updates" for step in (2000, 5000, 12_000, 25_000, 50_000))],
        [ADAM, "5.800", "5.500", "**4.800**", "**3.500**", "**1.000**"],
        [AROUND, "**5.640**", "**5.400**", "4.840", "3.800", "1.800"],
    ]


def test_training_losses_are_compared_where_all_runs_have_a_point_and_over_seeds():
    runs = [trained_on_pairs("adam", seed=seed, loss=(5.0, 3.0, 1 + seed)) for seed in (1, 2)]
    runs += [trained_on_pairs("la_adam", loss=(4.0, 2.0), steps=(20_000, 50_000))]
    assert table_below(str(table4.page(runs)), "Section 5.4: Lookahead speeds up") == [
        ["optimizer", "50,000 updates"],
        [ADAM, "2.500 ± 0.707"],
        [AROUND, "**2.000**"],
    ]


def test_what_diverged_says_so_in_every_page_and_picture():
    runs = [trained_on_pairs("adam"), trained_on_pairs("la_adam"), diverged(trained_on_pairs("la_adam_no_warmup"))]
    page = str(table4.page(runs))
    assert rows_of(page)[5][4:] == ["diverged", "diverged", "1"]
    assert table_below(page, "By how much")[3][3] == NO_NUMBER
    early = table_below(page, "Section 5.4: Lookahead speeds up")
    assert early[3] == [WITHOUT, "diverged", "diverged", "diverged"]
    assert table_below(page, 'Section 5.4: "All')[1] == ["training loss", NO_NUMBER, "0.000"]  # of the other two
    alone = diverged(trained_on_pairs("adam"), epochs=0)
    _, figure, _, caption = only(fig07b_nmt_loss.figures([alone]))
    assert labels(figure.axes[0]) == ["Adam, diverged"]
    assert caption.startswith("Transformer, which diverged in its first epoch. ")
    assert rows_of(str(table4.page([alone])))[1][4:] == ["diverged", "diverged", "1"]


def test_what_was_not_measured_says_so():
    run = trained_on_pairs("adam")
    del run.summary["final"]["test/bleu_intl"]
    assert rows_of(str(table4.page([run])))[2][4:] == ["24.00", "not measured", "1"]


def test_other_scales_warn_and_name_themselves():
    page = str(table4.page([trained_on_pairs("adam", scale="short", steps=(100, 500, 2500))]))
    assert rows_of(page)[0][4:6] == ["here, at short scale", "here, at short scale, intl"]
    assert "**Rows of one column compare; columns of different scales do not compare.**" in page


def test_table_4_has_independent_numbers_with_their_kind_of_bleu():
    page = str(table4.page([trained_on_pairs("adam")]))
    rows = table_below(page, "What others measured with the same model and Adam")
    assert rows[0] == ["model", "trained", *SETS, "BLEU", "source"]
    assert [row[2:4] for row in rows[1:]] == [["24.36", "24.38"], ["-", "27.3"], ["25.8", "-"], ["-", "25.03"]]
    assert rows[1][4:] == [
        "sacreBLEU, 13a, case kept",
        "[Joey NMT's README](https://github.com/joeynmt/joeynmt#wmt14-ende--deen)",
    ]


def test_the_stand_in_of_table_4_is_named_as_such_and_has_no_number_of_the_paper():
    page = str(table4_multi30k.page(all_of_table_4(task="multi30k", model=(4, 128))))
    assert page.startswith("# A stand-in for Table 4: BLEU on Multi30k English-German\n")
    assert "**A stand-in on data that the paper does not have, for machines on which WMT14 is too much: nothing" in page
    assert rows_of(page)[:3] == [
        ["optimizer", "BLEU on", "here", "here, intl", "seeds here"],
        [ADAM, "validation", "24.00", "24.50", "1"],
        [ADAM, "test_2016_flickr", "25.00", "25.50", "1"],
    ]
    assert table_below(page, "By how much")[0] == ["optimizer", "BLEU on", "here"]
    assert table_below(page, 'Section 5.4: "All')[0] == ["at the end", "here"]
    others = table_below(page, "What others measured")
    assert others[0] == ["model", "trained", "test_2016_flickr", "BLEU", "source"]
    assert [row[2] for row in others[1:]] == ["41.02", r"38.4 \*", "38.7 and 39.5"]
    assert "\n\n\\*: not read in its source.\n" in page
    assert "24.68" not in page


def test_losses_are_those_at_the_end_whichever_weights_were_kept():
    losses = {"adam": (5.0, 3.0, 3.5), "la_adam": (5.0, 3.0, 3.25)}
    runs = [trained_on_pairs(name, task="multi30k", loss=loss) for name, loss in losses.items()]
    page = str(table4_multi30k.page(runs))
    assert "BLEU is that of the weights that are best on validation; losses are those at the end." in page
    assert [row[1] for row in table_below(page, 'Section 5.4: "All')[1:3]] == [
        f"0.250 ({AROUND}: 3.250, {ADAM}: 3.500)",
        f"0.250 ({AROUND}: 2.250, {ADAM}: 2.500)",
    ]
    _, _, table, _ = only(fig07_multi30k_loss.figures(runs))
    assert table.loc[ADAM].tolist()[:2] == ["3.5", "2.5"]
    assert runs[0].summary["final"]["val/loss"] == 2.0


def test_250_000_updates_stand_beside_around_27():
    page = str(nmt_250k.page([trained_on_pairs("la_adam", (26.0, 27.1), steps=(1, 2, 250_000))]))
    assert page.startswith("# Appendix C.4: BLEU on WMT14 English-German after 250,000 updates\n")
    assert rows_of(page)[3:5] == [
        [AROUND, "newstest2013", "-", "26.00", "26.50", "1"],
        [AROUND, "newstest2014", "around 27", "27.10", "27.60", "1"],
    ]
    assert rows_of(page)[2][2:4] == ["around 27", NONE]
    assert 'after 250k steps "they can all reach around 27 BLEU on Newstest2014". Table 4 (`make table4`)' in page


def test_the_published_numbers_are_those_that_were_read():
    paper = published("table4")
    assert paper["metrics"] == BLEU
    assert [row["optim"] for row in paper["rows"]] == NAMES
    for name in ("bleu_wmt14", "bleu_multi30k"):
        for row in published(name)["rows"]:
            assert {"model", "trained", "test", "bleu", "source", "address", "read", "verified"} <= set(row)
            assert row["verified"] == (row["read"] is not None)
            assert row["address"].startswith("https://")


def test_table_4_s_names_are_of_optimizers_that_the_others_know():
    assert set(TABLE4_LABELS) <= set(LABELS)


@pytest.mark.slow
@pytest.mark.parametrize(("table", "experiment"), [(table4, "table4_wmt14"), (table4_multi30k, "table4_multi30k")])
def test_recorded_runs_of_each_row_are_found_and_drawn(table, experiment, tmp_path):
    found = {each.values["optim"]["name"]: each for each in settings(experiment, ["scale=smoke"])}
    assert set(found) == set(NAMES)
    source = trained_on_pairs("adam")
    history, rest = (
        source.history.to_dict("list"),
        {key: source.summary[key] for key in ("final", "data", "parameters")},
    )
    for setting in found.values():
        write_record(tmp_path, setting, 1, history, **rest)
    runs = load(table.DRAWS, tmp_path)
    assert len(runs) == 4
    page = str(table.page(runs))
    assert NONE not in page
    assert f"{WITHOUT} with a constant of" in page
