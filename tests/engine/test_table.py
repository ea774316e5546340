"""Tables that rows are appended to and that can be cut back, byte by byte."""

from __future__ import annotations

import os

import pytest

from experiments.engine.errors import RunFolderError
from experiments.engine.table import Table


def test_a_table_is_cut_back_to_where_it_was_also_in_the_middle_of_a_row(tmp_path):
    table = Table(tmp_path / "t.csv")
    table.append({"step": 1, "loss": 0.1})
    state = table.state_dict()
    table.append({"step": 2, "loss": 1 / 3})
    with table.path.open("a") as file:
        file.write("3,0.")  # the process was killed here
    resumed = Table(tmp_path / "t.csv")
    resumed.load_state_dict(state)
    resumed.append({"step": 2, "loss": 1 / 3})
    assert table.path.read_text() == f"step,loss\n1,0.1\n2,{1 / 3!r}\n"


def test_a_row_has_left_the_process_when_the_disk_is_asked_to_keep_it(tmp_path, monkeypatch):
    seen, fsync = [], os.fsync

    def looking(descriptor):
        seen.append((tmp_path / "t.csv").read_text())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", looking)
    Table(tmp_path / "t.csv").append({"step": 1})
    assert seen == ["step\n1\n"]


def test_a_table_refuses_a_row_of_other_columns(tmp_path):
    table = Table(tmp_path / "t.csv")
    table.append({"step": 1, "loss": 0.1})
    with pytest.raises(ValueError, match="has the columns"):
        table.append({"step": 2, "accuracy": 0.1})
    assert table.path.read_text() == "step,loss\n1,0.1\n"


def test_a_table_shorter_than_the_checkpoint_knows_is_damaged_and_left_alone(tmp_path):
    table = Table(tmp_path / "t.csv")
    table.append({"step": 1})
    with pytest.raises(RunFolderError, match="is damaged"):
        table.load_state_dict({"bytes": 1000})
    assert table.path.read_text() == "step\n1\n"


def test_a_table_that_has_no_rows_yet_is_cut_back_to_no_file(tmp_path):
    table = Table(tmp_path / "t.csv")
    assert table.state_dict() == {"bytes": 0}
    table.load_state_dict({"bytes": 0})  # there is none
    table.append({"step": 1})
    assert table.state_dict() == {"bytes": len("step\n1\n")}
    table.load_state_dict({"bytes": 0})
    assert not table.path.exists()
    table.append({"epoch": 1})  # other columns than before
    assert table.path.read_text() == "epoch\n1\n"
    with pytest.raises(RunFolderError, match=r"t\.csv is damaged: 0 bytes, the checkpoint knows 5"):
        Table(tmp_path / "none" / "t.csv").load_state_dict({"bytes": 5})


def test_a_table_as_long_as_the_checkpoint_knows_goes_on_below_its_last_row(tmp_path):
    table = Table(tmp_path / "t.csv")
    table.append({"α": 1, "text": "a,b"})
    resumed = Table(table.path)
    resumed.load_state_dict(table.state_dict())
    assert resumed.columns == ["α", "text"]
    resumed.append({"α": 0.1 + 0.2, "text": ""})
    assert table.path.read_bytes() == 'α,text\n1,"a,b"\n0.30000000000000004,\n'.encode()
    assert table.columns == ["α", "text"]
