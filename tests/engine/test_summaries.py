"""What stands in summary.json beside a number, byte by byte, and the parts of a record read alone."""

from __future__ import annotations

import errno
import json
import math

import numpy as np
import pandas as pd
import pytest

from experiments.engine import records
from experiments.engine.records import DamagedRecord, final, read_arrays, read_table, write_summary


def test_final_metrics_in_words_are_those_of_validation_and_of_the_final_splits_with_four_digits():
    found = {"train/running_loss": 0.2, "train/loss": 0.1, "val/loss": 0.123456, "val/accuracy": 97.0}
    found |= {"val/perplexity": None, "lookahead/alpha": 0.5, "test/loss": 2.0}
    validation = "val/loss 0.1235, val/accuracy 97, val/perplexity not finite"
    for config in ({}, {"evaluation": {}}, {"evaluation": {"final_splits": []}}):  # an analysis's, an older one's
        assert final({"final": found}, config) == validation
    assert final({"final": found}, {"evaluation": {"final_splits": ["test"]}}) == f"{validation}, test/loss 2"
    assert final({"final": found}, {"evaluation": {"final_splits": ["train"]}}) == f"train/loss 0.1, {validation}"
    # What a split test_bleu measures is of the same test set.
    assert final({"final": found}, {"evaluation": {"final_splits": ["test_bleu"]}}) == f"{validation}, test/loss 2"
    assert final({"final": {}}, {}) == ""


def test_the_text_of_a_summary_by_hand(tmp_path):
    (tmp_path / "b.csv").write_text("content")
    (tmp_path / "a.npz").write_text("content")
    write_summary(tmp_path, {"status": "done", "final": {"val/loss": 1.5, "val/accuracy": math.inf}})
    assert (tmp_path / "summary.json").read_text() == (
        '{\n  "schema": 2,\n  "status": "done",\n  "final": {\n    "val/loss": 1.5,\n    "val/accuracy": null\n  },\n'
        '  "files": {\n    "a.npz": "ed7002b439e9ac84",\n    "b.csv": "ed7002b439e9ac84"\n  }\n}\n'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):  # rather than a file that json cannot read
        write_summary(tmp_path, {"status": "done", "final": {}, "wall_s": math.nan})
    assert json.loads((tmp_path / "summary.json").read_text())["final"]["val/loss"] == 1.5


def test_tables_and_arrays_are_read_to_the_last_bit(tmp_path):
    values = [0.1 + 0.2, 1e-300, 123456789.123456789]
    (tmp_path / "t.csv").write_text("x\n" + "".join(f"{value!r}\n" for value in values))
    assert read_table(tmp_path / "t.csv")["x"].tolist() == values
    np.savez(tmp_path / "a.npz", one=np.array(values), two=np.arange(3))
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == ["one", "two"]
    assert found["one"].tolist() == values


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"text"])
def test_arrays_that_cannot_be_read_are_named_in_one_line(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(DamagedRecord, match=rf"^{path} is damaged \(.+\); move it away, then run or collect it again$"):
        read_arrays(path)


def test_a_reason_without_words_is_the_kind_of_error(tmp_path):
    with pytest.raises(DamagedRecord, match=r"a\.npz is damaged \(EOFError\)"), records._readable(tmp_path / "a.npz"):
        raise EOFError
    with pytest.raises(DamagedRecord, match=r"a\.npz is damaged \(two lines\)"), records._readable(tmp_path / "a.npz"):
        raise ValueError("two\n  lines\n")
    told = DamagedRecord("is of another version")
    with pytest.raises(DamagedRecord) as raised, records._readable(tmp_path / "a.npz"):
        raise told
    assert raised.value is told
    unreadable = r"a\.npz cannot be read \(Permission denied\)"  # the file may be whole
    with pytest.raises(DamagedRecord, match=unreadable), records._readable(tmp_path / "a.npz"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_history_without_samples_or_a_summary_without_them_is_compared_in_what_both_have():
    summary = {"status": "done", "epochs": 2, "steps": 14, "samples": 20, "final": {"val/loss": 1.5}}
    history = pd.DataFrame({"step": [7, 14], "val/loss": [2.5, 1.5]})
    records.check_history(history, summary)
    del summary["epochs"], summary["samples"]
    records.check_history(history.assign(epoch=[1, 2], samples=[10, 20]), summary)
    with pytest.raises(ValueError, match=r"its last row has step 14, summary\.json has 13"):
        records.check_history(history, {**summary, "steps": 13})
    # What diverged may have gone on after its last row; what it measured there is final all the same.
    records.check_history(history, {**summary, "steps": 15, "status": "diverged"})
