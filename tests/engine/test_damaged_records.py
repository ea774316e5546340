"""A record is read where its files agree, and one that is damaged is named in one line."""

from __future__ import annotations

import json
import math
import shutil

import pytest
from omegaconf import OmegaConf

from experiments.engine import records
from experiments.engine.records import DamagedRecord, read_config, read_record, read_summary
from tests.helpers.running import run_in


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "seed-1"
    run_in(folder, "task=digits", "scale=smoke", "optim=sgd", "runtime.commit=abc")
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "seed-1")


def edit(folder, **changes):
    path = folder / "summary.json"
    summary = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in summary.items() if value is not ...}))


def test_a_record_that_agrees_is_read_with_every_digit(copy):
    record = read_record(copy)
    assert (record.folder, record.config.task.name, record.summary["status"]) == (copy, "digits", "done")
    assert list(record.history["epoch"]) == [1, 2]
    assert record.history["val/loss"].iloc[-1] == record.summary["final"]["val/loss"]
    edit(copy, schema=1, files=...)  # as it was written before
    assert read_record(copy).summary["schema"] == 1


@pytest.mark.parametrize("schema", [1, 2])
def test_a_history_that_was_cut_anywhere_but_behind_its_last_digit_is_refused(copy, schema):
    path = copy / "history.csv"
    text = path.read_bytes()
    if schema == 1:
        edit(copy, schema=1, files=...)
    last_row = text.rindex(b"\n", 0, len(text) - 1) + 1
    last_value = text.rindex(b",") + 1
    for length in (0, 1, 20, last_row - 1, last_row, last_row + 1, last_value - 8, last_value - 1, last_value):
        path.write_bytes(text[:length])
        with pytest.raises(DamagedRecord, match=rf"^{path} is damaged \(.*\); move it away, then run or collect it"):
            read_record(copy)


def test_a_history_that_was_changed_in_the_middle_is_refused(copy):
    path = copy / "history.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace("0", "1"), lines[2], ""]))
    with pytest.raises(DamagedRecord, match=r"history\.csv is damaged \(its content is not what summary\.json tells\)"):
        read_record(copy)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("", "no rows"),
        ("1,7,2.5\n1,7,2.5\n2,14,1.5\n", "its steps do not grow"),
        ("2,14,1.5\n1,7,2.5\n", "its steps do not grow"),
        ("1,7,2.5\n", "its last row has epoch 1, summary.json has 2"),
        ("1,7,2.5\n2,14,2.5\n", "its last row has val/loss 2.5, summary.json has 1.5"),
        ("1,7,2.5\n2,13,1.5\n", "its last row has step 13, summary.json has 14"),
        ("1,7,2.5\n3,14,1.5\n", "its last row has epoch 3, summary.json has 2"),
        ("1,7,2.5\n2,14,\n", "its last row has val/loss nan, summary.json has 1.5"),
        ("1,7,2.5\n2,14,inf\n", "its last row has val/loss inf, summary.json has 1.5"),
    ],
)
def test_rows_lead_to_what_the_summary_tells(tmp_path, rows, reason):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    final = {"val/loss": 1.5, "test/loss": 1.25}  # a final split has no column
    summary = {"status": "done", "seed": 1, "epochs": 2, "steps": 14, "samples": 20, "final": final, "commit": "abc"}
    (tmp_path / "history.csv").write_text("epoch,step,val/loss,samples\n1,7,,10\n2,14,1.5,20\n")
    records.write_summary(tmp_path, summary)
    assert math.isnan(read_record(tmp_path).history["val/loss"][0])  # not measured at every evaluation
    (tmp_path / "history.csv").write_text("epoch,step,val/loss,samples\n" + rows.replace("\n", ",20\n"))
    records.write_summary(tmp_path, summary)
    with pytest.raises(DamagedRecord, match=reason):
        read_record(tmp_path)


def test_the_final_values_of_a_run_that_kept_its_best_weights_are_of_their_row(tmp_path):
    run_in(
        tmp_path, "task=digits", "scale=smoke", "optim=sgd", "runtime.commit=abc", "epochs=4", "optim.lr=1",
        "keep={metric: val/loss, mode: min}",
    )  # fmt: skip
    record = read_record(tmp_path)
    best = record.history["val/loss"].argmin()
    assert record.summary["kept"]["step"] == record.history["step"][best]
    assert record.summary["final"]["val/loss"] == record.history["val/loss"][best]
    edit(tmp_path, kept={"epoch": 1, "step": 5})
    with pytest.raises(DamagedRecord, match="it has no row of step 5, whose weights were kept"):
        read_record(tmp_path)
    edit(tmp_path, kept=record.summary["kept"], final={**record.summary["final"], "val/loss": -1.0})
    with pytest.raises(DamagedRecord, match=r"its row of step \d+ has val/loss .*, summary\.json has -1"):
        read_record(tmp_path)


def test_a_summary_without_a_metric_of_the_history_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    summary = {"status": "done", "seed": 1, "epochs": 1, "steps": 7, "samples": 10, "final": {}, "commit": "abc"}
    (tmp_path / "history.csv").write_text("epoch,step,samples,val/loss\n1,7,10,1.5\n")
    records.write_summary(tmp_path, summary)
    with pytest.raises(DamagedRecord, match=r"summary\.json has no final val/loss"):
        read_record(tmp_path)
    (tmp_path / "history.csv").write_text(
        "epoch,step,samples,val/loss\n1,6,9,1.5\n1,7,10,\n"
    )  # not measured at the end
    records.write_summary(tmp_path, summary)
    assert len(read_record(tmp_path).history) == 2


def test_a_diverged_run_may_have_gone_on_after_its_last_row_and_have_none(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    summary = {"status": "diverged", "seed": 1, "epochs": 1, "steps": 9, "samples": 13, "commit": "abc"}
    records.write_summary(tmp_path, {**summary, "final": {}})
    assert read_record(tmp_path).history is None
    (tmp_path / "history.csv").write_text("epoch,step,val/loss\n1,7,nan\n")
    records.write_summary(tmp_path, {**summary, "final": {"val/loss": math.nan}})
    assert read_summary(tmp_path)["final"] == {"val/loss": None}
    assert len(read_record(tmp_path).history) == 1
    (tmp_path / "history.csv").write_text("epoch,step,val/loss\n1,7,1.5\n")
    records.write_summary(tmp_path, {**summary, "final": {"val/loss": math.nan}})
    with pytest.raises(DamagedRecord, match=r"its last row has val/loss 1\.5, summary\.json has None"):
        read_record(tmp_path)


def test_the_digests_cover_tables_and_arrays_and_no_weights(tmp_path):
    for name in ("claims.csv", "curves.npz", "weights-last.npz", "trajectory.npz", ".history.csv.tmp", "notes.txt"):
        (tmp_path / name).write_text("content")
    summary = {"status": "done", "seed": 1, "analysis": "x", "final": {}, "commit": "abc"}
    records.write_summary(tmp_path, summary)
    # The first 16 digits of `printf content | sha256sum`
    assert read_summary(tmp_path)["files"] == {"claims.csv": "ed7002b439e9ac84", "curves.npz": "ed7002b439e9ac84"}
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    records.write_summary(tmp_path, summary)
    assert read_record(tmp_path).history is None
    (tmp_path / "config.yaml").write_text("seed: 1\noptim: sgd\n")
    with pytest.raises(DamagedRecord, match=r"config\.yaml is damaged \(its content is not"):
        read_record(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    (tmp_path / "curves.npz").unlink()
    with pytest.raises(DamagedRecord, match=r"curves\.npz is missing; run or collect it again"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is damaged (Expecting value: line 1 column 1 (char 0)); move it away"),
        (b'{"schema": 2, "sta', "is damaged (Unterminated string"),
        (b"\xff\xfe", "is damaged ('utf-8' codec can't decode"),
        (b"[]", "is damaged (no schema)"),
        (b"{}", "is damaged (no schema)"),
        (b'{"schema": 2, "seed": 1, "final": {}, "commit": "a"}', "is damaged (no status)"),
        (b'{"schema": 2, "status": "done", "final": {}, "commit": "a"}', "is damaged (no seed)"),
        (b'{"schema": 3, "status": "done"}', "has schema 3, not 1 and 2; use the code it is of"),
    ],
)
def test_a_summary_that_cannot_be_read_is_named(copy, content, reason):
    path = copy / "summary.json"
    path.write_bytes(content)
    for read in (read_summary, read_record):
        with pytest.raises(DamagedRecord) as raised:
            read(copy)
        assert str(raised.value).startswith(f"{path} {reason}")
        assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"task: x\n", b"seed:", b"a: [1\n", b"\xff\xfe", b"a: ${b\n"])
def test_a_configuration_that_cannot_be_read_is_named(copy, content):
    path = copy / "config.yaml"
    path.write_bytes(content)
    for read in (read_config, read_record):
        with pytest.raises(DamagedRecord) as raised:
            read(copy)
        assert str(raised.value).startswith(f"{path} is damaged (")
        assert len(str(raised.value).splitlines()) == 1


def test_what_is_missing_is_named(copy):
    assert read_summary(copy.parent) is None
    with pytest.raises(DamagedRecord, match=r"summary\.json is missing; the run is not over"):
        read_record(copy.parent)
    (copy / "history.csv").rename(copy / "moved")
    with pytest.raises(DamagedRecord, match=r"history\.csv is missing"):
        read_record(copy)
    edit(copy, schema=1, files=...)
    with pytest.raises(DamagedRecord, match=r"history\.csv is missing"):
        read_record(copy)
    (copy / "config.yaml").unlink()
    with pytest.raises(DamagedRecord, match=r"config\.yaml is missing"):
        read_record(copy)


def test_a_summary_beside_the_configuration_of_another_seed_is_refused(copy):
    edit(copy, seed=2)
    with pytest.raises(DamagedRecord, match=r"config\.yaml has seed 1, summary\.json has 2"):
        read_record(copy)


def test_every_record_of_the_repository_is_read():
    root = records.Path(records.__file__).resolve().parents[2] / "results" / "runs"
    folders = [path.parent for path in root.rglob("summary.json")]
    assert len(folders) >= 20
    for folder in folders:
        record = read_record(folder)
        assert (record.history is None) == ("analysis" in record.summary)
        assert isinstance(OmegaConf.to_container(record.config), dict)
