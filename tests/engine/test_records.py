"""Tables that can be cut back, what a summary says, and progress."""

from __future__ import annotations

import json
import os

import pytest
import torch

from experiments.engine import records
from experiments.engine.errors import RunFolderError
from experiments.engine.progress import Progress
from tests.helpers.running import run_in


def test_a_table_is_cut_back_to_where_it_was_also_in_the_middle_of_a_row(tmp_path):
    table = records.Table(tmp_path / "t.csv")
    table.append({"step": 1, "loss": 0.1})
    state = table.state_dict()
    table.append({"step": 2, "loss": 1 / 3})
    with table.path.open("a") as file:
        file.write("3,0.")  # the process was killed here
    resumed = records.Table(tmp_path / "t.csv")
    resumed.load_state_dict(state)
    resumed.append({"step": 2, "loss": 1 / 3})
    assert table.path.read_text() == f"step,loss\n1,0.1\n2,{1 / 3!r}\n"


def test_a_row_has_left_the_process_when_the_disk_is_asked_to_keep_it(tmp_path, monkeypatch):
    seen, fsync = [], os.fsync

    def looking(descriptor):
        seen.append((tmp_path / "t.csv").read_text())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", looking)
    records.Table(tmp_path / "t.csv").append({"step": 1})
    assert seen == ["step\n1\n"]


def test_the_peak_memory_is_the_kernels_in_bytes():
    status = records.Path("/proc/self/status").read_text()
    kibibytes = int(status.partition("VmHWM:")[2].split()[0])
    assert records.peak_memory(torch.device("cpu")) == pytest.approx(1024 * kibibytes, rel=5e-4)  # both grow by pages


def test_a_table_refuses_a_row_of_other_columns(tmp_path):
    table = records.Table(tmp_path / "t.csv")
    table.append({"step": 1, "loss": 0.1})
    with pytest.raises(ValueError, match="has the columns"):
        table.append({"step": 2, "accuracy": 0.1})
    assert table.path.read_text() == "step,loss\n1,0.1\n"


def test_a_table_shorter_than_the_checkpoint_knows_is_damaged_and_left_alone(tmp_path):
    table = records.Table(tmp_path / "t.csv")
    table.append({"step": 1})
    with pytest.raises(RunFolderError, match="is damaged"):
        table.load_state_dict({"bytes": 1000})
    assert table.path.read_text() == "step\n1\n"


def test_the_summary_says_what_a_number_needs_beside_it(tmp_path):
    run_in(tmp_path, "task=digits", "scale=smoke", "optim=la_sgd", "seed=4", "runtime.commit=abc")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["schema"] == 2
    assert (summary["status"], summary["seed"], summary["commit"], summary["scale"]) == ("done", 4, "abc", "smoke")
    assert summary["parameters"] == 24058
    assert summary["versions"]["torch"].startswith("2.")
    assert "cores" in summary["device"]
    assert set(summary["final"]) == {"train/running_loss", "train/loss", "train/accuracy", "val/loss", "val/accuracy"}
    assert (summary["epochs"], summary["steps"], summary["samples"]) == (2, 14, 400)


def test_the_bar_shows_loss_rate_and_time_left(capfd):
    progress = Progress("bar", total_steps=10, done_steps=2, name="digits sgd")
    progress.bar.mininterval = 0
    progress.step(3, loss=0.5, samples_per_second=1234.0)
    progress.bar.refresh()
    shown = capfd.readouterr().err
    progress.close()
    for part in ("digits sgd", "5.00/10.0", "loss=0.5000", "samples/s=1,234", "<"):
        assert part in shown
