"""Reports that no page can be made of, and places where none can be written: one line each, and nothing is changed."""

from __future__ import annotations

import runpy
import sys

import pytest

from scripts import site
from scripts.reporting.modules import REPOSITORY
from tests.helpers.report import REPORT, write_report

FIGURE = "![Figure 1: the surface (proxy)](figures/fig01@proxy.png)"
CLAIM = "| It has one copy | Section 2 | reproduced |"
BAD = {
    "missing picture": ("fig01@proxy", "fig99", ["REPORT.md", "no picture", "results/figures/fig99.png"]),
    "picture elsewhere": ("figures/fig01", "https://example.org/fig01", ["https://example.org/fig01@proxy.png"]),
    "no png": ("figures/fig01@proxy.png", "REPORT.md", ["results/REPORT.md is no whole PNG"]),
    "no words": (FIGURE, "![](figures/fig01@proxy.png)", ["figures/fig01@proxy.png has no words"]),
    "no anchor": ("(#figure-2-fixed-α)", "(#figure-3)", ["#figure-3"]),
    "no title": ("# Ours", "Ours", ["no title"]),
    "no verdicts": ("## Verdicts", "## Judgements", ['"## Verdicts"']),
    "no column": ("| where | verdict |", "| where | judgement |", ['"## Verdicts"', "verdict"]),
    "no verdict": (CLAIM, CLAIM.replace("reproduced", "reproducd"), ['"reproducd"', "did you mean reproduced?"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_report_that_no_page_can_be_made_of_is_one_line_and_the_page_before_stays(name, tmp_path, capsys):
    old, new, said = BAD[name]
    assert old in REPORT
    report, out = write_report(tmp_path, REPORT.replace(old, new, 1)), tmp_path / "report.html"
    out.write_text("before")
    assert site.main(["--report", str(report), "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {report}: ")
    assert [words for words in said if words not in line] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "results"]
    assert out.read_text() == "before"


@pytest.mark.parametrize("cut", [4, 20, 60, -20, -8])
def test_a_picture_that_breaks_off_is_named(cut, tmp_path, capsys):
    report, out = write_report(tmp_path), tmp_path / "report.html"
    picture = report.parent / "figures" / "fig01@proxy.png"
    picture.write_bytes(picture.read_bytes()[:cut])
    assert site.main(["--report", str(report), "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{picture} is no whole PNG" in line
    assert not out.exists()


def test_a_report_or_a_place_that_there_is_not_is_one_line(tmp_path, capsys):
    report = write_report(tmp_path)
    before = report.read_bytes()
    latin = tmp_path / "latin.md"
    latin.write_bytes("# ü".encode("latin-1"))
    cases = {
        ("nowhere.md", "x.html"): "there is no report",
        ("results", "x.html"): "there is no report",
        ("latin.md", "x.html"): "is not UTF-8",
        ("results/REPORT.md", "there/x.html"): f"there is no folder {tmp_path / 'there'}",
        ("results/REPORT.md", "latin.md/x.html"): f"there is no folder {latin}",
        ("results/REPORT.md", "results"): "is a folder; name a file",
        ("results/REPORT.md", "results/REPORT.md"): "is the report itself",
    }
    for (given, out), said in cases.items():
        assert site.main(["--report", str(tmp_path / given), "--out", str(tmp_path / out)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert said in line
    assert report.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latin.md", "results"]


@pytest.mark.usefixtures("signals_put_back")
def test_the_script_ends_with_the_code_of_its_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["site.py", "--report", str(tmp_path / "none.md")])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(REPOSITORY / "scripts" / "site.py"), run_name="__main__")
    assert stop.value.code == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
