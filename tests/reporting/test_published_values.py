"""The published numbers as tables: what stands in results/ is what the files there give, and some rows by hand."""

from __future__ import annotations

import csv
import io

import pytest

from scripts.reporting import published, published_values

PAPER, INDEPENDENT = published.FOLDERS


def rows_of(folder):
    return list(csv.DictReader(io.StringIO(published_values.values_of(folder))))


@pytest.mark.parametrize("folder", published.FOLDERS, ids=lambda folder: folder.name)
def test_the_values_in_results_are_those_of_the_files_there(folder):
    assert (folder / "values.csv").read_text(encoding="utf-8") == published_values.values_of(folder)


@pytest.mark.parametrize("folder", published.FOLDERS, ids=lambda folder: folder.name)
def test_each_value_is_a_number_or_a_note_of_something_with_a_source(folder):
    for row in rows_of(folder):
        assert all(row[name] for name in ("where", "task", "metric", "source")), row
        assert row["address"].startswith("https://")
        assert row["value"] or row["note"]
        for name in ("value", "deviation", "seeds"):
            float(row[name] or 0)


def test_every_number_of_the_paper_s_tables_has_a_row():
    counts = {}
    for row in rows_of(PAPER):
        counts[row["where"]] = counts.get(row["where"], 0) + 1
    # Table 2 has four rows of two, Table 3 five of three but for one cell, Table 4 four of two.
    tables = {"Table 1": 8, "Table 2": 8, "Table 3": 14, "Table 4": 8, "Table 5": 5, "Table 6": 3}
    assert counts == {**tables, "Section 2": 2, "Section 5.2": 2 + 5, "Section 5.3": 1, "Appendix C.4": 1}
    assert len(rows_of(INDEPENDENT)) == 11 + 2 + 18 + 15 + 6 + 2 + 5 + 3


def test_values_by_hand():
    paper, independent = rows_of(PAPER), rows_of(INDEPENDENT)
    (row,) = (row for row in paper if row["setting"] == "k=5,alpha=0.8")
    assert list(row.values())[:8] == [
        "Table 5",
        "cifar100",
        "la_sgd",
        "k=5,alpha=0.8",
        "val/accuracy",
        "78.27",
        "0.04",
        "3",
    ]
    assert (row["note"], row["source"]) == ("", "Zhang et al., NeurIPS 2019, Table 5")
    (row,) = (row for row in paper if "network=resnet152,epoch=49" in row["setting"])
    assert (row["where"], row["optim"], row["value"]) == ("Section 5.2", "la_sgd", "77")
    (row,) = (row for row in paper if row["where"] == "Appendix C.4")
    assert (row["value"], row["note"], row["setting"]) == ("", "around 27", "updates=250000")
    (row,) = (row for row in paper if row["task"] == "cifar10" and row["optim"] == "polyak")
    assert row["note"] == "read in one source alone, a quotation"
    (row,) = (row for row in independent if row["setting"] == "lr=0.01,k=10,alpha=0.5" and "test" in row["metric"])
    assert (row["where"], row["task"], row["optim"], row["value"]) == ("Table 3", "ptb", "la_adam", "60.92")
    (row,) = (row for row in independent if row["optim"] == "slrla" and row["task"] == "imagenet")
    assert (row["where"], row["setting"], row["value"]) == ("Table 2", "network=ResNet-18", "70.47")


def test_a_name_is_found_in_either_folder_and_in_one_alone(tmp_path, monkeypatch):
    assert published.published("table1")["where"] == published.published("reproduction")["where"] == "Table 1"
    assert published.where_published(table1="a", swa="b") == (
        "[results/paper](../paper/table1.yaml) has a. [results/independent](../independent/swa.yaml) has b."
    )
    with pytest.raises(ValueError, match=r"one file nothing\.yaml is read, not 0, of .*paper and .*independent"):
        published.published("nothing")
    folders = tmp_path / "paper", tmp_path / "independent"
    for folder in folders:
        folder.mkdir()
        (folder / "a.yaml").write_text("metric: val/accuracy\n")
    monkeypatch.setattr(published, "FOLDERS", folders)
    with pytest.raises(ValueError, match=r"one file a\.yaml is read, not 2"):
        published.published("a")


def test_each_stated_number_stands_in_the_paper_s_words_beside_it():
    for row in published.published("stated")["rows"]:
        assert row["value"].replace(" ", "") in row["words"].replace("single", "1").replace(" ", "")
        assert row["where"].startswith("Section")
