"""The index of results/runs/: a row for each record, whatever became of it."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from experiments.engine.records import write_summary
from scripts import collect
from scripts.reporting import index
from scripts.reporting.loading import NotRunYet
from scripts.reporting.modules import RECORDS
from scripts.status import main as status
from tests.helpers.recorded import load, setting_of, write_record

HISTORY = "epoch,step,samples,train/loss,val/loss,val/accuracy\n1,7,90,2.5,2.25,31.5\n2,14,180,1.25,0.1,62.5\n"
FINAL = {"train/loss": 1.25, "val/loss": 0.1, "val/accuracy": 62.5}
SUMMARY = {
    **{"status": "done", "reason": None, "task": "digits", "optim": "sgd", "scale": "smoke", "seed": 1},
    **{"epochs": 2, "steps": 14, "samples": 180, "final": FINAL, "wall_s": 3.25, "device": "a machine, with 2 cores"},
    **{"commit": "abc", "commits": ["abc"], "versions": {"python": "3.11.7", "torch": "2.12.1", "numpy": "2"}},
}


def a_record(records, name="digits-sgd@smoke", seed=1, config="task: {name: digits}\n", **changes):
    folder = records / name / f"seed-{seed}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"seed: {seed}\n{config}")
    (folder / "history.csv").write_text(HISTORY)
    write_summary(folder, {**SUMMARY, "seed": seed, **changes})
    return folder


def read(records):
    with (records / index.NAME).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_index_that_is_kept_is_what_the_records_give():
    assert (RECORDS / index.NAME).read_bytes().decode() == index.text(index.rows(RECORDS))
    recorded = {str(path.parent.relative_to(RECORDS)) for path in RECORDS.rglob("config.yaml")}
    assert {row["folder"] for row in read(RECORDS)} == recorded


def test_a_row_tells_what_the_record_does(tmp_path, capsys):
    a_record(tmp_path, "digits-sgd,lr=0.3,k=10@smoke,bf16", config="precision: bf16\n")
    assert collect.main(["--index", "--to", str(tmp_path)]) == 0
    assert capsys.readouterr() == ("", "")
    header, row = (tmp_path / index.NAME).read_text().splitlines()
    assert header == (
        "folder,task,optim,settings,scale,precision,seed,status,reason,"
        "train/loss,val/loss,val/accuracy,val/top5_accuracy,val/perplexity,val/bleu,"
        "test/loss,test/accuracy,test/perplexity,test/bleu,"
        "epochs,steps,samples,wall_s,device,commit,python,torch"
    )
    assert row == (
        '"digits-sgd,lr=0.3,k=10@smoke,bf16/seed-1",digits,sgd,"lr=0.3,k=10",smoke,bf16,1,done,,'
        '1.25,0.1,62.5,,,,,,,,2,14,180,3.25,"a machine, with 2 cores",abc,3.11.7,2.12.1'
    )


def test_rows_are_sorted_by_name_and_then_by_the_number_of_the_seed(tmp_path):
    for name, seed in [("b", 2), ("b", 10), ("a@smoke", 1), ("b", 1)]:
        a_record(tmp_path, name, seed)
    assert [row["folder"] for row in index.rows(tmp_path)] == ["a@smoke/seed-1", "b/seed-1", "b/seed-2", "b/seed-10"]


def test_what_did_not_end_well_is_listed_with_its_status(tmp_path, capsys):
    a_record(tmp_path, "diverged", status="diverged", reason="the loss is nan")
    history = a_record(tmp_path, "infinite") / "history.csv"
    history.write_text(HISTORY.replace("0.1,62.5", "inf,nan"))
    write_summary(
        history.parent, {**SUMMARY, "final": {**FINAL, "val/loss": float("inf"), "val/accuracy": float("nan")}}
    )
    (a_record(tmp_path, "unfinished") / "summary.json").unlink()
    a_record(tmp_path, "several", commits=["one", "abc"])
    rows = {row["folder"]: row for row in index.rows(tmp_path)}
    assert [rows["diverged/seed-1"][key] for key in ("status", "reason")] == ["diverged", "the loss is nan"]
    infinite = rows["infinite/seed-1"]
    assert [infinite[key] for key in ("status", "reason")] == ["done", "not finite: val/loss, val/accuracy"]
    assert [infinite[key] for key in ("train/loss", "val/loss", "val/accuracy")] == [1.25, "nan", "nan"]
    assert rows["unfinished/seed-1"]["status"] == "not finished"
    assert rows["several/seed-1"]["commit"] == "one abc"
    assert index.write(tmp_path) == []
    assert capsys.readouterr().out == ""


def test_an_early_record_and_an_analysis_lack_what_they_lack(tmp_path):
    early = a_record(tmp_path, "early")
    summary = {key: value for key, value in SUMMARY.items() if key not in ("commits", "versions", "wall_s")}
    (early / "summary.json").write_text(json.dumps({**summary, "schema": 1}))
    analysis = tmp_path / "rates" / "seed-1"
    analysis.mkdir(parents=True)
    (analysis / "config.yaml").write_text("seed: 1\nanalysis: {name: momentum_rates}\n")
    about = {"status": "done", "seed": 1, "commit": "abc", "analysis": "momentum_rates"}
    write_summary(analysis, {**about, "final": {"a claim/holds": 1.0}})
    one, other = index.rows(tmp_path)
    assert (one["commit"], one["precision"], "python" in one, "wall_s" in one) == ("abc", "fp32", False, False)
    assert (other["task"], other["optim"], other["precision"], "a claim/holds" in other) == (
        *("momentum_rates", None, None, False),
    )


def test_a_damaged_record_is_named_and_listed_and_the_rest_goes_on(tmp_path, capsys):
    for name in ("first", "other", "third"):
        a_record(tmp_path, name)
    (tmp_path / "first" / "seed-1" / "history.csv").write_text("x\n1\n")
    (tmp_path / "other" / "seed-1" / "config.yaml").unlink()
    assert collect.main(["--index", "--to", str(tmp_path)]) == 1
    shown = capsys.readouterr().out.splitlines()
    why = "first/seed-1/history.csv is damaged (its content is not what summary.json tells); move it away, then run"
    assert shown[0].startswith(f"{tmp_path}/first/seed-1: listed as damaged: {why}")
    assert shown[1].startswith(f"{tmp_path}/other/seed-1: listed as damaged: other/seed-1/config.yaml is missing; run")
    assert len(shown) == 2
    first, other, third = read(tmp_path)
    assert [row["status"] for row in (first, other, third)] == ["damaged", "damaged", "done"]
    assert first["reason"].startswith(why)
    assert (first["folder"], first["task"], first["val/loss"]) == ("first/seed-1", "", "")


@pytest.mark.parametrize("versions", [["3.11"], "3.11"])
def test_versions_that_are_none_are_damaged(versions, tmp_path):
    a_record(tmp_path, versions=versions)
    (row,) = index.rows(tmp_path)
    assert row["status"] == "damaged"
    assert "versions is" in row["reason"]


def test_collecting_writes_the_index_and_says_what_is_damaged_beside_it_without_failing(tmp_path, capsys):
    outputs, to = tmp_path / "outputs", tmp_path / "records"
    a_record(outputs, "one")
    damaged = a_record(to, "damaged") / "history.csv"
    damaged.write_text("x\n1\n")
    (to / ".collect-torn" / "seed-1").mkdir(parents=True)  # of a process that was killed
    (to / "one" / ".replaced-seed-1").mkdir(parents=True)
    (to / "one" / "notes.txt").write_text("no record\n")
    assert collect.main([str(outputs), "--to", str(to)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{outputs}/one/seed-1: collected"
    assert shown[1].startswith(f"{to}/damaged/seed-1: listed as damaged: ")
    assert shown[2] == "1 collected, 0 collected before, 0 skipped, 0 refused"
    assert [(row["folder"], row["status"]) for row in read(to)] == [
        *[("damaged/seed-1", "damaged"), ("one/seed-1", "done")],
    ]
    before = (to / index.NAME).stat().st_mtime_ns
    assert collect.main([str(outputs), "--to", str(to)]) == 0
    assert (to / index.NAME).stat().st_mtime_ns == before  # nothing changed, nothing was written
    shutil.rmtree(to / "damaged")
    assert collect.main(["--index", "--to", str(to)]) == 0
    assert [row["folder"] for row in read(to)] == ["one/seed-1"]


def test_there_is_no_index_of_nothing(tmp_path, capsys):
    assert collect.main(["--index", "--to", str(tmp_path / "nowhere")]) == 0
    assert not (tmp_path / "nowhere").exists()


def test_what_reads_the_records_passes_over_their_index(tmp_path, capsys):
    from scripts.reporting.draws import Draws

    draws = [Draws("demo", optim="sgd")]
    index.write(tmp_path)
    assert (tmp_path / index.NAME).read_text().count("\n") == 1
    with pytest.raises(NotRunYet):
        load(draws, tmp_path)
    write_record(tmp_path, setting_of("demo", optim="sgd"))
    index.write(tmp_path)
    (run,) = load(draws, tmp_path)
    assert run.folder.parent.parent == tmp_path
    assert status(["demo", "--records", str(tmp_path), "--outputs", str(tmp_path / "outputs")]) == 0
    assert collect.run_folders(tmp_path) == [run.folder]
