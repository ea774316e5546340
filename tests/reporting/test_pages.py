"""Pages in three formats: numbers by hand in Markdown, CSV and LaTeX, and what is written where nothing has run."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess

import pandas as pd
import pytest

from experiments.engine.composition import experiments
from scripts.reporting import modules, pages
from scripts.reporting.cells import Number, csv_text, measured, quoted
from scripts.reporting.draws import Draws
from scripts.reporting.headers import Header, header
from scripts.reporting.latex import escaped, latex_text
from scripts.reporting.series import spread
from scripts.reporting.tables import searches_cifar, table1, table2, table3, table5
from tests.helpers.pages import rows_of, trained, trained_on_imagenet, trained_on_text

PAGES = [name for name in modules.names("tables") if hasattr(modules.module("tables", name), "page")]
FOLDER = modules.REPOSITORY / "results" / "tables"


def cells_of(page):
    return list(csv.reader(io.StringIO(page.csv())))


def test_a_number_is_printed_as_markdown():
    number = Number("95.20", "0.04")
    assert [str(each) for each in (number, Number("1"), Number(words="not run yet"), Number())] == [
        "95.20 ± 0.04",
        "1",
        "not run yet",
        "-",
    ]
    assert str(Number("95.20", "0.04", bold=True, mark="†")) == "**95.20 ± 0.04** †"
    assert str(Number("95.20", mark="*")) == r"95.20 \*"


def test_a_spread_is_a_number_with_its_deviation_or_says_why_there_is_none():
    assert measured(spread([20.0, 22.0])) == Number("21.00", "1.41")
    assert measured(spread([20.0]), digits=0) == Number("20")
    assert measured(spread([20.0, None])) == Number(words="not finite")
    assert [quoted("24.6"), quoted("around 27", "*"), quoted(None)] == [
        Number("24.6"),
        Number(words="around 27", mark="*"),
        Number(),
    ]


def test_csv_has_numbers_deviations_and_notes_in_columns_of_their_own():
    rows = [
        {"name": "a, b", "x": Number("+0.70", "0.10"), "n": 1234, "y": Number("1"), "t": "-"},
        {"name": "c", "x": Number(words="not run yet", mark="†"), "n": 2, "y": Number(), "t": "2"},
    ]
    assert csv_text(rows) == (
        'name,x,"x, deviation","x, note",n,y,t\n"a, b",0.70,0.10,,1234,1,\nc,,,not run yet †,2,,2\n'
    )


def test_several_tables_are_one_csv_with_the_name_of_each_in_its_first_column():
    page = pages.Page(
        "title", [("one", [{"a": "1", "x": Number("2")}]), ("two", [{"b": "3", "x": Number()}])], ["words", ""]
    )
    assert page.csv() == "table,a,x,b\none,1,2,\ntwo,,,3\n"
    assert str(page) == (
        "# title\n\n## one\n\n| a | x |\n| --- | --- |\n| 1 | 2 |\n\n"
        "## two\n\n| b | x |\n| --- | --- |\n| 3 | - |\n\nwords\n"
    )


def test_latex_by_hand():
    rows = [
        {"a & b": "50 %", "α": Number("95.20", "0.04", mark="*")},
        {"a & b": "test_2016 #1", "α": Number("-0.10", bold=True, mark="†")},
        {"a & b": "c", "α": Number(words="not run yet", mark="‡")},
    ]
    assert latex_text("Title ± α", [("Lookahead: {2} of 3", rows)]) == (
        "% Title ± α\n% Needs \\usepackage{booktabs}.\n\n"
        "\\begin{tabular}{lr}\n\\toprule\n\\multicolumn{2}{l}{Lookahead: \\{2\\} of 3} \\\\\n\\midrule\n"
        "a \\& b & $\\alpha$ \\\\\n\\midrule\n"
        "50 \\% & $95.20 \\pm 0.04^{*}$ \\\\\n"
        "test\\_2016 \\#1 & $\\mathbf{-0.10}^{\\dagger}$ \\\\\n"
        "c & not run yet$^{\\ddagger}$ \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    )


def test_no_character_is_a_command_in_latex():
    assert escaped('\\ ~ ^ & % $ # _ { } < > | " [ *') == (
        r"\textbackslash{} \textasciitilde{} \textasciicircum{} \& \% \$ \# \_ \{ \} $<$ $>$ $|$ '' {[} {*}"
    )
    assert escaped("± α β √ † ‡") == r"$\pm$ $\alpha$ $\beta$ $\surd$ $\dagger$ $\ddagger$"
    with pytest.raises(ValueError, match=r"'λ' in 'a λ' has no LaTeX"):
        escaped("a λ")


def test_table_1_has_the_same_numbers_in_csv_and_latex():
    runs = [trained("sgd", value, seed, "cifar100", scale="proxy") for seed, value in ((1, 20.0), (2, 22.0))]
    page = table1.page(runs)
    found = pd.read_csv(io.StringIO(page.csv())).set_index(["data set", "optimizer"])
    here = "here, at proxy scale"
    sgd = found.loc[("CIFAR-100", "SGD")]
    names = ["the paper", "the paper, deviation", "the reproduction", here, f"{here}, deviation", "seeds here"]
    assert sgd[names].tolist() == [78.24, 0.18, 78.16, 21.0, 1.41, 2]
    polyak = found.loc[("CIFAR-10", "Polyak")]
    assert (polyak["the paper, note"], polyak[f"{here}, note"]) == ("*", "not run yet")
    assert polyak[[here, "seeds here"]].isna().all()
    latex = page.latex()
    assert r"CIFAR-100 & SGD & $78.24 \pm 0.18$ & $78.16$ & $21.00 \pm 1.41$ & $2$ \\" in latex
    assert r"CIFAR-10 & Polyak & $95.26 \pm 0.04^{*}$ & $95.14 \pm 0.14$ & not run yet & - \\" in latex


def test_table_2_has_the_same_numbers_in_csv_and_latex():
    page = table2.page([trained_on_imagenet(top1=(75.0, 76.5)), trained_on_imagenet("sgd", top1=(74.5, 75.0))])
    assert cells_of(page)[1] == [
        *("ResNet-50", "50", "top 1", "75.13", "74.43", "0.70"),
        *("75.00", "", "74.50", "", "0.50", "1"),  # with a column of notes each, as of ResNet-152 nothing has run
    ]
    assert (
        r"ResNet-50 & 60 & top 1 & $75.49$ & $75.15$ & $+0.34$ & $76.50$ & $75.00$ & $+1.50$ & $1$ \\" in page.latex()
    )


def test_table_3_has_the_same_numbers_in_csv_and_latex():
    page = table3.page([trained_on_text("adam", (80.0, value), seed) for seed, value in ((1, 62), (2, 64))])
    assert cells_of(page)[8] == ["Adam", "validation", "61.64", "63.88", "", "63.00", "1.41", "", "2"]
    assert r"Adam & validation & $61.64$ & $63.88$ & - & $63.00 \pm 1.41$ & $2$ \\" in page.latex()


def test_table_5_has_the_same_numbers_in_csv_and_latex():
    runs = [trained(task="cifar100", k=5, alpha=0.8, accuracy=value, seed=seed) for seed, value in ((1, 77), (2, 79))]
    page = table5.page(runs)
    assert cells_of(page)[2] == ["k = 5, α = 0.8", "78.27", "0.04", "78.00", "1.41", "", "2"]
    assert r"k = 5, $\alpha$ = 0.8 & $78.27 \pm 0.04$ & $78.00 \pm 1.41$ & $2$ \\" in page.latex()


def test_a_search_s_grids_are_one_csv_and_tables_of_their_own_in_latex():
    page = searches_cifar.page(
        [trained("sgd", 93.0, lr=0.05, weight_decay=0.001), trained("sgd", 91.0, lr=0.1, weight_decay=0.001)]
    )
    found = pd.read_csv(io.StringIO(page.csv()))
    assert len(found) == 6 + 5 + 5 + 2
    chosen = found[(found["learning rate"] == 0.05) & found["table"].str.startswith("SGD: 2 of 18")].iloc[0]
    assert (chosen["weight decay 0.001"], chosen["weight decay 0.001, note"]) == (93.0, "†")
    assert page.latex().count(r"\begin{tabular}") == 4
    assert r"0.05 & not run yet & $\mathbf{93.00}^{\dagger}$ & not run yet \\" in page.latex()


@pytest.mark.parametrize("name", PAGES)
def test_where_nothing_has_run_a_page_has_the_published_numbers_the_command_and_the_cost(name):
    module = modules.module("tables", name)
    page = pages.not_run(module.page([]), module.DRAWS)
    text = str(page)
    assert any("not run yet" in row for row in rows_of(text))
    assert re.search(
        r"Nothing of this has run yet\.\n\n- command: `python (train\.py experiment=|scripts/status\.py )", text
    )
    assert text.count("- cost: ") == len({draws.experiment for draws in module.DRAWS})
    assert "  " not in text
    assert "nan" not in text
    assert len(page.csv().splitlines()) == 1 + sum(len(rows) for _, rows in page.sections)
    assert page.latex().count("\\toprule") == len(page.sections)


def test_table_5_of_which_nothing_has_run_by_hand():
    assert rows_of(str(table5.page([])))[:3] == [
        ["setting", "the paper", "here", "seeds here"],
        ["k = 5, α = 0.5", "78.24 ± 0.02", "not run yet", "-"],
        ["k = 5, α = 0.8", "78.27 ± 0.04", "not run yet", "-"],
    ]
    assert "- command: `python train.py experiment=k_alpha`\n- cost: 12 runs" in str(
        pages.not_run(table5.page([]), table5.DRAWS)
    )


@pytest.mark.parametrize("experiment", sorted(experiments()))
def test_every_experiment_says_what_it_costs(experiment):
    found = header(experiment)
    assert "Command" not in found.cost
    assert "#" not in found.cost


def test_headers_by_hand():
    assert header("demo") == Header("about a minute on 2 CPU cores.", "python train.py experiment=demo tracker=none")
    assert header("loss_surface").cost.endswith("with a grid of 11 x 11: four minutes on one CPU core.")


def test_a_page_is_three_files_and_what_was_not_run_is_taken_away(tmp_path):
    page = pages.page_of("title", [{"a": Number("1")}], "words")
    path = pages.write(pages.not_run(page, (Draws("demo"),)), tmp_path, "table1@not_run")
    assert path.name == "table1@not_run.md"
    pages.write(page, tmp_path, "table1@proxy")
    pages.remove_not_run(tmp_path, "table1")
    assert sorted(each.name for each in tmp_path.iterdir()) == [f"table1@proxy.{end}" for end in ("csv", "md", "tex")]
    assert (tmp_path / "table1@proxy.csv").read_text() == "a\n1\n"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_latex_compiles_the_tables_in_results(tmp_path):
    tables = sorted(FOLDER.glob("*.tex"))
    names = [f"t{number}.tex" for number, _ in enumerate(tables)]
    for name, path in zip(names, tables, strict=True):
        shutil.copy(path, tmp_path / name)
    body = "\n\n".join(rf"\input{{{name}}}" for name in names)
    (tmp_path / "all.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}\tiny {body}\end{{document}}"
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert len(tables) >= 15


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_each_page_in_results_has_its_csv_and_latex(path):
    latex = path.with_name(f"{path.stem}.tex").read_text(encoding="utf-8")
    _, _, below = latex.partition("\n")  # the comment with the title
    assert below.isascii()
    found = pd.read_csv(path.with_name(f"{path.stem}.csv"))
    for column in found:
        if column.endswith((", deviation", "seeds here")):
            assert found[column].dropna().map(lambda value: isinstance(value, int | float)).all()
    assert not any("±" in str(cell) for column in found for cell in found[column])
