"""Tables from recorded runs: their arithmetic, and that the words around them stay whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from scripts import tables
from scripts.reporting import markdown, modules
from scripts.reporting.tables import adaptive_alpha, damping
from tests.helpers.recorded import a_run, setting_of, write_record

DOCUMENTED = [name for name in modules.names("tables") if hasattr(modules.module("tables", name), "DOCUMENT")]


def run(seed, at_low, at_one, steps=(10, 25), k=5, gradient="last"):
    alpha = {"gradient": gradient, "power": 1.0, "low": 0.5}
    columns = {"epoch": [1, 2], "step": steps, "lookahead/at_low": at_low, "lookahead/at_one": at_one}
    columns |= {"lookahead/alpha_raw": [1.0, 3.0], "train/loss": [1.0, 0.1 * seed], "val/accuracy": [9.0, 90.0 + seed]}
    return a_run(seed, columns, optim__k=k, optim__alpha=alpha)


def test_shares_are_weighted_by_the_synchronizations_of_each_row():
    # 2 synchronizations in the first row, 3 in the second: (2 * 0.5 + 3 * 0) / 5 and (2 * 0.5 + 3 * 1 / 3) / 5.
    found = adaptive_alpha.clipped_shares(run(1, [0.5, 0.0], [0.5, 1 / 3]))
    assert found == pytest.approx({"low": 0.2, "one": 0.4})


def test_a_row_is_the_mean_over_seeds_of_one_choice():
    runs = [run(1, [0.5, 0.0], [0.5, 1 / 3]), run(2, [0.0, 0.0], [1.0, 1.0]), run(3, [1, 1], [0, 0], gradient="fresh")]
    last, fresh = adaptive_alpha.rows(runs)
    assert (last["gradient"], last["at low (%)"], last["between (%)"], last["at 1 (%)"]) == ("last", 10.0, 20.0, 70.0)
    assert (last["seeds"], last["validation accuracy (%)"]) == (2, 91.5)
    assert last["training loss"] == pytest.approx(0.15)
    assert (last["power"], last["low"], last["alpha before clipping, median"]) == ("1", "0.5", 2.0)
    assert (fresh["gradient"], fresh["at low (%)"]) == ("fresh", 100.0)


def test_the_words_around_a_table_and_the_other_tables_stay():
    text = "before\n<!-- a: begin -->\nold\n<!-- a: end -->\nbetween\n<!-- b: begin -->\n<!-- b: end -->\nafter\n"
    assert markdown.with_table(text, "a", "new") == text.replace("old", "new")
    with pytest.raises(ValueError, match=r"<!-- c: begin -->.* once each"):
        markdown.with_table(text, "c", "new")
    for wrong in (text + "<!-- a: end -->", text + "<!-- a: begin -->", "<!-- d: end --><!-- d: begin -->"):
        with pytest.raises(ValueError, match="once each, in this order"):
            markdown.with_table(wrong, "a" if "a:" in wrong else "d", "new")


def test_a_markdown_table_by_hand():
    assert markdown.markdown_table([{"a": 1}]) == "| a |\n| ---: |\n| 1 |"
    rows = [
        {"name": "a", "n": 12_345, "x": 0.123456},
        {"name": "b", "n": "-", "x": 12_345.6},
        {"name": "c", "n": 1, "x": 1000.0},
    ]
    assert markdown.markdown_table(rows).splitlines() == [
        "| name | n | x |",
        "| --- | ---: | ---: |",
        "| a | 12,345 | 0.123 |",
        "| b | - | 12,346 |",
        "| c | 1 | 1,000 |",
    ]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_table_is_written_into_its_document_and_is_what_the_records_give(name, tmp_path, monkeypatch, capsys):
    module = modules.module("tables", name)
    text = (modules.REPOSITORY / module.DOCUMENT).read_text(encoding="utf-8")
    head, rest = text.split(f"<!-- {name}: begin -->")
    copy = tmp_path / "copy.md"
    copy.write_text(
        f"{head}<!-- {name}: begin -->\nanother table\n{rest[rest.index(f'<!-- {name}: end -->') :]}", encoding="utf-8"
    )
    monkeypatch.setattr(module, "DOCUMENT", str(copy))
    assert tables.main([name]) == 0
    assert copy.read_text(encoding="utf-8") == text
    assert capsys.readouterr().out.strip() == f"{name}: {copy}"


def test_bad_names_missing_records_and_documents_end_in_one_line(capsys, tmp_path, monkeypatch):
    assert tables.main(["adaptiv_alpha"]) == 1
    assert "there is no table adaptiv_alpha; did you mean adaptive_alpha?" in capsys.readouterr().err
    assert tables.main(["adaptive_alpha", "--runs", str(tmp_path)]) == 1
    assert "no finished run of adaptive_alpha" in capsys.readouterr().err
    latin = tmp_path / "latin.md"
    latin.write_bytes("α ± é".encode()[:1] + b"\xe9")
    for document, message in ((latin, f"{latin} is not UTF-8"), (tmp_path / "none.md", "none.md")):
        monkeypatch.setattr(damping, "DOCUMENT", str(document))
        assert tables.main(["damping"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_where_no_table_is_named_what_has_not_been_run_is_a_note_and_a_page_in_three_formats(tmp_path, capsys):
    out = tmp_path / "out"
    assert tables.main(["--runs", str(tmp_path), "--out", str(out)]) == 0
    shown = capsys.readouterr()
    notes = [line for line in shown.out.splitlines() if ": not run yet (" in line]
    assert [line.partition(":")[0] for line in notes] == modules.names("tables")
    assert shown.err == ""
    pages = [name for name in modules.names("tables") if name not in DOCUMENTED]
    ends = ("csv", "md", "tex")
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{p}@not_run.{end}" for p in pages for end in ends)
    text = (out / "table6@not_run.md").read_text(encoding="utf-8")
    assert "| Lookahead, reset | 94.91 ± 0.05 | not run yet | - |" in text
    assert "- command: `python train.py experiment=inner_states`\n- cost: 9 runs of 78,200 updates" in text
    assert (out / "table6@not_run.csv").read_text(encoding="utf-8").splitlines()[3] == (
        '"Lookahead, reset",94.91,0.05,,not run yet,'
    )


def of_table_1(root, task):
    setting = setting_of("table1_cifar", "scale=proxy", task=task, optim="sgd")
    return write_record(root, setting, 1, {"epoch": [1, 40], "step": [32, 1280], "val/accuracy": [9.0, 50.0]})


def written(*arguments):
    return list(tables.write_all(*arguments))


def test_what_was_not_run_goes_away_with_the_first_run(tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "out"
    runs.mkdir()
    assert written("table6", [runs], [], False, out) == [out / "table6@not_run.md"]
    of_table_1(runs, "cifar10")
    assert written("table6", [runs], [], False, out) == [out / "table6@proxy.md"]
    assert sorted(path.name for path in out.iterdir()) == [f"table6@proxy.{end}" for end in ("csv", "md", "tex")]


def changed(folder, **values):
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_of_a_wrong_record_it_is_said_of_what_it_is_left_out_and_what_is_not_written(tmp_path, capsys):
    runs, out = tmp_path / "runs", tmp_path / "out"
    of_table_1(runs, "cifar10")
    bad = of_table_1(runs, "cifar100")
    changed(bad, schema=9)
    assert tables.main(["table5", "table1", "table6", "--runs", str(runs), "--out", str(out)]) == 1
    lines = capsys.readouterr().err.splitlines()
    message = f"{bad}/summary.json has schema 9, not 1 and 2; use the code it is of"
    assert lines == [f"error: not written: table5; {message}", f"error: left out of table1; {message}"]
    names = [f"{table}@proxy.{end}" for table in ("table1", "table6") for end in ("csv", "md", "tex")]
    assert sorted(path.name for path in out.iterdir()) == names


def test_a_value_that_is_not_finite_is_said_and_never_a_number(tmp_path, capsys):
    runs, out = tmp_path / "runs", tmp_path / "out"
    folder = of_table_1(runs, "cifar10")
    (folder / "history.csv").write_text("epoch,step,val/accuracy\n1,32,9.0\n40,1280,nan\n")
    changed(folder, final={"val/accuracy": None})
    assert tables.main(["table6", "--runs", str(runs), "--out", str(out)]) == 0
    assert f"note: {folder} ended with val/accuracy not finite" in capsys.readouterr().out
    row = (out / "table6@proxy.csv").read_text(encoding="utf-8").splitlines()[-1]
    assert row == "SGD,,,,not finite,1"


def test_a_table_is_the_same_whatever_the_locale(tmp_path):
    text = (modules.REPOSITORY / damping.DOCUMENT).read_text(encoding="utf-8")
    assert "β" in text
    document = tmp_path / "quadratic.md"
    document.write_text(text, encoding="utf-8")
    script = (
        "import sys; from scripts import tables; from scripts.reporting.tables import damping; "
        f"damping.DOCUMENT = {str(document)!r}; sys.exit(tables.main(['damping']))"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(modules.REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, **plain}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert document.read_text(encoding="utf-8") == text


def test_a_document_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    document = tmp_path / "document.md"
    document.write_text("old")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        markdown.write_text(document, "new")
    assert document.read_text() == "old"
