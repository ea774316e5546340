"""What a figure says of its runs, claims as rows, filters and Markdown, by hand on values written here."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from experiments.engine.processes import Processes
from experiments.engine.run import _values
from scripts.reporting import captions, claims, markdown, style
from scripts.reporting.curves import draw_curves
from scripts.reporting.draws import Draws, value_of
from scripts.reporting.loading import load_each
from scripts.reporting.records import Run, analysis_run, difference
from scripts.reporting.series import Spread, final_table, series, spread
from tests.helpers.line import line_trainer
from tests.helpers.recorded import a_run


def analysis(seed=None, scale="paper", device="a machine", name="rates", folder="there"):
    own = {"name": name} | ({} if seed is None else {"seed": seed})
    config = OmegaConf.create({"seed": seed or 1, "scale": scale, "analysis": own})
    return Run(config, {"scale": scale, "seed": seed or 1, "device": device, "commit": "abc"}, folder=folder)


def test_an_analysis_is_computed_in_float64_and_only_what_is_sampled_has_seeds():
    assert captions.provenance([analysis()]) == "computed in float64 on a machine"
    assert captions.provenance([analysis(4)]) == "one seed (4); computed in float64 on a machine"
    reduced = "smoke scale, a trial of the code alone; computed in float64 on a machine, another"
    assert captions.provenance([analysis(scale="smoke"), analysis(scale="smoke", device="another")]) == reduced


@pytest.mark.parametrize(
    ("ranks", "pieces", "expected"),
    [
        (1, 1, "one process"),
        (2, 1, "2 processes"),
        (1, 3, "one process with 3 micro-batches each"),
        (4, 2, "4 processes with 2 micro-batches each"),
    ],
)
def test_a_caption_says_by_how_many_processes_as_a_run_s_summary_has_it(ranks, pieces, expected):
    run = a_run()
    run.summary.update(ranks=ranks, micro_batches=pieces)
    assert captions.provenance([run]).endswith(f"; {expected} on a machine")


def test_processes_are_found_in_the_summary_that_a_run_writes(tmp_path):
    trainer = line_trainer(tmp_path, runtime__micro_batches=3)
    trainer.processes = Processes(0, 2)
    run = Run(trainer.config, _values(trainer, "done"))
    assert captions._processes([run]) == "2 processes with 3 micro-batches each"


def test_seeds_are_counted_by_setting():
    def seeds(*runs):
        return captions._seeds([a_run(seed, optim__lr=rate) for seed, rate in runs])

    assert seeds((3, 0.1), (1, 0.1), (3, 0.2), (1, 0.2)) == "seeds 1, 3"
    assert seeds((2, 0.1), (2, 0.2)) == "one seed (2)"
    assert seeds((1, 0.1), (2, 0.2)) == "one seed (1, 2)"
    assert seeds((1, 0.1), (2, 0.1), (3, 0.1), (1, 0.2)) == "1 to 3 seeds per setting"


def test_a_caption_stands_below_the_figure_in_lines_of_its_width():
    figure = Figure(figsize=(5, 3))
    captions.caption(figure, "What is shown.", "What was chosen.", runs=[a_run()])
    text = figure.get_supxlabel()
    expected = "What is shown. What was chosen. Full scale; fp32; one seed (1); one process on a machine."
    assert text.replace("\n", " ") == expected
    assert max(map(len, text.splitlines())) <= 85 < len(expected)
    label = figure._supxlabel
    assert (label.get_fontsize(), label.get_horizontalalignment(), label.get_position()[0]) == (7, "left", 0.01)


@pytest.fixture
def table(tmp_path):
    rows = pd.DataFrame(
        {
            "claim": ["faster", "slower", "faster"],
            "changed": ["", "", "analysis.model.condition=7"],
            "holds": [0.5, 1.0, 0.25],
            "empty": [math.nan] * 3,
            "note": ["a", None, "b"],
        }
    )
    rows.to_csv(tmp_path / "claims.csv", index=False)
    return Run(OmegaConf.create({}), {}, folder=tmp_path)


def test_claims_are_those_that_are_drawn_or_those_that_are_named(table):
    drawn = claims.claims_of(table)
    assert drawn["claim"].tolist() == ["faster", "slower"]
    assert drawn.columns.tolist() == ["claim", "changed", "holds", "note"]
    named = claims.claims_of(table, "faster")
    assert (named.index.tolist(), named["holds"].tolist()) == ([0, 1], [0.5, 0.25])
    assert claims.changed_labels(named) == ["as drawn", "condition=7"]
    columns = {"holds": "share", "none": "nothing"}
    assert claims.changed(named, columns) == [
        {"changed": "as drawn", "share": 0.5, "nothing": "-"},
        {"changed": "condition=7", "share": 0.25, "nothing": "-"},
    ]
    assert claims.picked(named, {"claim": "c"}) == [{"c": "faster"}, {"c": "faster"}]


def test_values_of_a_row_are_whole_where_they_are():
    found = [claims.readable(value) for value in ("x", None, math.nan, 2.0, np.int64(3), 2.5)]
    assert found == ["x", "-", "-", 2, 3, 2.5]
    assert [type(value) for value in found[3:]] == [int, int, float]


def test_shares_are_rows_of_dots_in_percent_the_first_on_top():
    axes = Figure().subplots()
    claims.draw_shares(axes, ["as drawn", "k=7"], {"holds": pd.Series([0.5, 1.0]), "ties": pd.Series([0.0, 0.25])})
    first, second = axes.lines
    np.testing.assert_allclose(first.get_xydata(), [[50, 0], [100, 1]])
    np.testing.assert_allclose(second.get_xydata(), [[0, 0], [25, 1]])
    assert [(line.get_label(), line.get_marker(), line.get_markersize()) for line in axes.lines] == [
        ("holds", "o", 9), ("ties", "s", 6),
    ]  # fmt: skip
    assert [label.get_text() for label in axes.get_yticklabels()] == ["as drawn", "k=7"]
    assert axes.get_yticks().tolist() == [0, 1]
    assert axes.yaxis_inverted()
    assert axes.get_xlim() == (-3, 103)
    assert axes.get_title() == "with one value changed"


def test_filters_compare_groups_by_name_and_keys_by_value():
    config = {"optim": {"name": "sgd", "lr": 0.1}, "model": {"width": 3}, "epochs": None}
    assert value_of(config, "optim") == "sgd"
    assert value_of(config, "optim.lr") == 0.1
    assert value_of(config, "model") == {"width": 3}
    assert [value_of(config, key) for key in ("none", "optim.lr.x", "optim.none")] == [None] * 3
    assert Draws("x").accepts(config)
    assert Draws("x", optim="sgd", where={"optim.lr": (0.1, 0.2)}).accepts(config)
    assert not Draws("x", optim="sgd", where={"optim.lr": [0.2]}).accepts(config)
    assert not Draws("x", optim="adam", where={"optim.lr": 0.1}).accepts(config)
    assert Draws("x", where={"optim": "adam"}, optim="sgd").where == {"optim": "adam"}
    assert Draws("x", epochs=None).accepts(config)


def test_numbers_in_a_markdown_table():
    cells = [markdown._cell(value) for value in (999.9, 1000.0, -1234.5, 0.0001234, 1234, 7, "1000", None)]
    assert cells == ["1e+03", "1,000", "-1,234", "0.000123", "1,234", "7", "1000", "None"]
    assert markdown.markdown_table([{"a": "x", "b": 1.5}]).splitlines()[1] == "| --- | ---: |"


def test_documents_are_read_and_written_in_utf_8_into_new_folders(tmp_path):
    path = tmp_path / "new" / "folder" / "a.md"
    assert markdown.write_text(path, "α\n") == path
    assert path.read_bytes() == "α\n".encode()
    assert markdown.read_text(path) == "α\n"
    markdown.write_text(path, "b")
    assert markdown.read_text(path) == "b"


def test_an_interval_has_half_of_the_rest_on_each_side():
    found = spread([1.0, 2.0, 3.0, 4.0])
    half = 3.182446305284263 * math.sqrt(5 / 3) / 2  # Student's t of three degrees of freedom at 97.5 %
    assert (found.low, found.high) == (pytest.approx(2.5 - half), pytest.approx(2.5 + half))
    assert Spread(math.inf, None, None, None, 1).text() == "not finite"
    assert spread([math.inf, 1.0]) == Spread(math.inf, None, None, None, 2)


def test_series_have_their_runs_and_values():
    runs = [a_run(1), a_run(2), a_run(1, optim__name="la_sgd")]
    one, two = series(runs)
    assert (one.values, one.seeds, one.runs) == (("sgd",), 2, runs[:2])
    assert (two.values, two.seeds) == (("la_sgd",), 1)
    assert one.final("train/loss") == Spread(1.0, 0.0, 1.0, 1.0, 2)
    assert final_table([two], {"train/loss": "loss"}, ["x"]).loc["x"].tolist() == ["1", 1]


def test_a_curve_without_a_known_name_is_drawn_under_its_own():
    axes = Figure().subplots()
    draw_curves(axes, series([a_run(optim__name="own")]), "train/loss", over="step")
    (line,) = axes.lines
    assert line.get_label() == "own"
    assert axes.get_xlabel() == "updates"
    assert axes.xaxis.get_gridlines()[0].get_visible()
    other = Figure().subplots()
    draw_curves(other, series([a_run(1), a_run(2)]), "train/loss")
    (band,) = other.collections
    assert band.get_alpha() == 0.2
    assert style.LABELS["sgd"] == other.lines[0].get_label()


def test_the_run_of_an_analysis_is_one_and_what_differs_is_said():
    one, other = analysis(), analysis(name="other", folder="elsewhere")
    assert analysis_run([other, one], "rates") is one
    with pytest.raises(ValueError, match=r"^one run of the analysis none is drawn, not 0 of there; give analysis=none"):
        analysis_run([one], "none")
    two = Run(OmegaConf.merge(one.config, {"analysis": {"k": 3}}), {}, folder="second")
    message = r"not 2 of there, second; there is there, second here: analysis\.k None there, 3\.0 here; name the values"
    with pytest.raises(ValueError, match=message):
        analysis_run([one, two], "rates")
    assert difference(one, one) == "there and there have the same setting"


def test_what_has_not_run_is_a_mistake_where_it_was_named(tmp_path):
    assert load_each("a_figure", [Draws("demo")], [tmp_path], ["scale=smoke"], named=False) == []
    with pytest.raises(FileNotFoundError, match=r"python train\.py experiment=demo, then python scripts/collect\.py"):
        load_each("a_figure", [Draws("demo")], [tmp_path, tmp_path / "b"], [], named=True)
    with pytest.raises(FileNotFoundError, match=r"status\.py --commands a_figure scale=smoke prints how to run them"):
        load_each("a_figure", [Draws("demo")], [tmp_path], ["scale=smoke"], named=True)


def test_text_that_is_missing_in_a_table_is_empty_and_a_number_is_not(table):
    table.folder.joinpath("cases.csv").write_text("case,x\n,\n")
    found = table.table("cases")
    assert found["case"].tolist() == [""]
    assert math.isnan(found["x"][0])
    np.savez(table.folder / "a.npz", x=np.arange(2))
    assert table.arrays("a")["x"].tolist() == [0, 1]
