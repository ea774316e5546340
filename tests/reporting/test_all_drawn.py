"""Every figure and every table that there is, made from small records: drawn whole, or without a bad record."""

from __future__ import annotations

import re

import pytest

from experiments.engine.composition import root_of
from scripts import figures, tables
from scripts.reporting import modules, style
from scripts.reporting.panels import NOT_MEASURED, NOT_RUN
from tests.helpers.made_records import SCALE, final_value, made_settings, make_records, rename_metrics

ALL = [(kind, name) for kind in ("figures", "tables") for name in modules.names(kind)]
TRAINED = [which for which in ALL if root_of(modules.module(*which).DRAWS[0].experiment) == "train"]
WITHOUT_FINALS = ("fig01_loss_surface", "fig10_inner_and_outer_loop")  # whose tables are of other arrays
ONE_RECORD = ("fig01_loss_surface",)
SAID_IN_THE_CELL = ("nmt_250k", "search_multi30k", "search_nmt")  # of a setting of which no record has it


def test_the_mean_and_the_deviation_of_the_made_numbers_by_hand():
    values = [final_value(3, seed) for seed in (1, 2)]
    assert values == [13, 15]
    assert (sum(values) / 2, (((13 - 14) ** 2 + (15 - 14) ** 2) / (2 - 1)) ** 0.5) == (14, 2**0.5)


@pytest.fixture
def make(tmp_path, monkeypatch, capsys):
    """Return a function that makes a figure or table from tmp_path/runs: the exit status, and the lines of errors."""

    def made(kind, name):
        module = modules.module(kind, name)
        if hasattr(module, "DOCUMENT"):
            document = tmp_path / "out" / f"{name}@{SCALE}.md"
            document.parent.mkdir(exist_ok=True)
            document.write_text(f"<!-- {name}: begin -->\n<!-- {name}: end -->\n")
            monkeypatch.setattr(module, "DOCUMENT", str(document))
        capsys.readouterr()  # what was said before
        program = figures if kind == "figures" else tables
        status = program.main(
            [name, f"scale={SCALE}", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
        )
        return status, capsys.readouterr().err.splitlines()

    return made


def rows_of(path):
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]


def cells_of(kind, name, number, seeds):
    """Return how the cell of a setting stands in a row, and behind it the seeds, as an expression."""
    values = [final_value(number, seed) for seed in seeds]
    mean, several = f"{sum(values) / len(values):.0f}", len(seeds) > 1
    cell = mean + (" ± 1.4" if several else "")
    if name == "adaptive_alpha":  # which has means alone
        cell = mean
    elif kind == "tables":
        cell = rf"\**{mean}\.00+" + (r" ± 1\.41" if several else r"\**(?: [†‡])?")
    counted = rf"(\|.*)?\| ([12] and )?{len(seeds)}( and [12])? \|$" if several or kind == "figures" else r"\|"
    return rf"\| {cell} {counted}"


def assert_values_stand(kind, name, path, settings):
    """Check that each setting, by its number and seeds, has a row with its mean, deviation and seeds."""
    rows = rows_of(path)
    for number, seeds in settings.items():
        pattern = cells_of(kind, name, number, seeds)
        assert any(re.search(pattern, row) for row in rows), (number, pattern, rows)


def seeds_by_number(kind, name):
    return {number: seeds for number, (_, seeds) in enumerate(made_settings(modules.module(kind, name).DRAWS))}


@pytest.mark.parametrize("name", modules.names("figures"))
def test_every_figure_is_drawn_whole_with_the_values_of_its_records(name, make, tmp_path, monkeypatch):
    module = modules.module("figures", name)
    make_records(tmp_path / "runs", module.DRAWS)
    made, drawn = module.figures, {}
    monkeypatch.setattr(module, "figures", lambda found: drawn.update(made(found)) or drawn)
    assert make("figures", name) == (0, [])
    assert name in drawn
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{picture}@{SCALE}.{end}" for picture in drawn for end in ("png", "pdf", "md")
    }
    count = len(list((tmp_path / "runs").glob("*/seed-*")))
    for picture, (figure, _) in drawn.items():
        words = {text.get_text() for axes in figure.axes for text in axes.texts}
        assert not words & {NOT_RUN, NOT_MEASURED}, picture
        assert all(axes.has_data() for axes in figure.axes), picture
        path = tmp_path / "out" / f"{picture}@{SCALE}.md"
        assert re.search(rf"^- runs: {count} of \d+$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert "Not run yet" not in path.read_text(encoding="utf-8")
        if ("figures", name) in TRAINED and name not in WITHOUT_FINALS:
            assert_values_stand("figures", name, path, seeds_by_number("figures", name))


@pytest.mark.parametrize("name", modules.names("tables"))
def test_every_table_is_written_with_the_values_of_its_records(name, make, tmp_path):
    make_records(tmp_path / "runs", modules.module("tables", name).DRAWS)
    assert make("tables", name) == (0, [])
    (path,) = (tmp_path / "out").glob("*.md")
    assert path.name == f"{name}@{SCALE}.md"
    assert len(rows_of(path)) > 2  # a heading, and something below it
    if ("tables", name) in TRAINED:
        assert_values_stand("tables", name, path, seeds_by_number("tables", name))


@pytest.mark.parametrize(("kind", "name"), [which for which in TRAINED if which[1] not in ONE_RECORD])
def test_a_record_without_what_is_shown_is_left_out_of_it_and_told(kind, name, make, tmp_path, monkeypatch):
    monkeypatch.setattr(style, "save", lambda figure, path: (path, path))  # which takes longest
    draws = modules.module(kind, name).DRAWS
    make_records(tmp_path / "runs", draws)
    settings = seeds_by_number(kind, name)
    number, seeds = settings.popitem()
    setting = made_settings(draws)[number][0]
    bad = tmp_path / "runs" / setting.name / f"seed-{seeds[-1]}"
    rename_metrics(bad)
    status, lines = make(kind, name)
    path = tmp_path / "out" / f"{name}@{SCALE}.md"
    text = path.read_text(encoding="utf-8")
    if name in SAID_IN_THE_CELL:
        assert (status, lines) == (0, [])
        assert f"| {NOT_MEASURED} |" in text
    else:
        (line,) = lines
        assert status == 1
        assert re.search(rf"^error: [a-z0-9_/]+ was not recorded in {re.escape(str(bad))}", line), line
        assert re.search(rf"[Ll]eft out.* `{re.escape(f'{setting.name}/{bad.name}')}`", text)
    if name not in WITHOUT_FINALS:
        others = {number: seeds[:-1]} if len(seeds) > 1 else {}
        assert_values_stand(kind, name, path, settings | others)
