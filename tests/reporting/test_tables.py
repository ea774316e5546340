"""Tables in docs/ from recorded runs: their arithmetic, and that the words around them stay."""

from __future__ import annotations

import pandas as pd
import pytest
from omegaconf import OmegaConf
from scripts.records import Run

from scripts import tables


def run(seed, at_low, at_one, steps=(10, 25), k=5, gradient="last"):
    config = {"optim": {"k": k, "alpha": {"gradient": gradient, "power": 1.0, "low": 0.5}}}
    columns = {"step": steps, "lookahead/at_low": at_low, "lookahead/at_one": at_one, "lookahead/alpha_raw": [1.0, 3.0]}
    summary = {"seed": seed, "device": "a machine", "final": {"train/loss": 0.1 * seed, "val/accuracy": 90.0 + seed}}
    return Run(OmegaConf.create(config), summary, pd.DataFrame(columns))


def test_shares_are_weighted_by_the_synchronizations_of_each_row():
    # 2 synchronizations in the first row, 3 in the second: (2 * 0.5 + 3 * 0) / 5 and (2 * 0.5 + 3 * 1 / 3) / 5.
    assert tables.clipped_shares(run(1, [0.5, 0.0], [0.5, 1 / 3])) == pytest.approx({"low": 0.2, "one": 0.4})


def test_a_row_is_the_mean_over_seeds_of_one_choice():
    runs = [run(1, [0.5, 0.0], [0.5, 1 / 3]), run(2, [0.0, 0.0], [1.0, 1.0]), run(3, [1, 1], [0, 0], gradient="fresh")]
    last, fresh = tables.adaptive_alpha(runs)
    assert (last["gradient"], last["at low (%)"], last["between (%)"], last["at 1 (%)"]) == ("last", 10.0, 20.0, 70.0)
    assert (last["seeds"], last["validation accuracy (%)"]) == (2, 91.5)
    assert last["training loss"] == pytest.approx(0.15)
    assert (fresh["gradient"], fresh["at low (%)"]) == ("fresh", 100.0)


def test_the_words_around_a_table_and_the_other_tables_stay():
    text = "before\n<!-- a: begin -->\nold\n<!-- a: end -->\nbetween\n<!-- b: begin -->\n<!-- b: end -->\nafter\n"
    assert tables.with_table(text, "a", "new") == text.replace("old", "new")
    with pytest.raises(ValueError, match=r"<!-- c: begin -->.* once each"):
        tables.with_table(text, "c", "new")


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_recorded_tables_are_what_the_records_give(name, tmp_path, monkeypatch):
    document, experiment, rows = tables.TABLES[name]
    text = document.read_text()
    copy = tmp_path / "copy.md"
    copy.write_text(text)
    monkeypatch.setitem(tables.TABLES, name, (copy, experiment, rows))
    assert tables.main([name]) == 0
    assert copy.read_text() == text


def test_bad_names_and_missing_records_end_in_one_line(capsys, tmp_path):
    assert tables.main(["adaptive"]) == 1
    assert "there is no table adaptive" in capsys.readouterr().err
    assert tables.main(["adaptive_alpha", "--runs", str(tmp_path)]) == 1
    assert "no finished run of adaptive_alpha" in capsys.readouterr().err
