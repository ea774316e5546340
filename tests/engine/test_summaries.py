"""What stands in summary.json beside a number, byte by byte, and the parts of a record read alone."""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import subprocess
from importlib import metadata

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.engine import records
from experiments.engine.errors import RunFolderError
from experiments.engine.records import DamagedRecord, Table, final, read_arrays, read_table, write_summary

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)


def test_final_metrics_in_words_are_those_of_validation_with_four_digits():
    found = {"train/loss": 0.1, "val/loss": 0.123456, "val/accuracy": 97.0, "val/perplexity": None, "test/loss": 2.0}
    assert final({"final": found}) == "val/loss 0.1235, val/accuracy 97, val/perplexity not finite"
    assert final({"final": {}}) == ""


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


def test_the_device_is_the_processor_with_the_cores_that_this_process_may_use(tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: A CPU @ 2: GHz\n\nprocessor\t: 1\nmodel name\t: Another\n")
    monkeypatch.setattr(records, "Path", lambda path: {"/proc/cpuinfo": cpuinfo}[path])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 8} if pid == 0 else set(), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert records.device_name(CPU) == "A CPU @ 2: GHz (3 cores)"
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    cpuinfo.write_text("processor\t: 0\nBogoMIPS\t: 48.00\n")  # as on ARM
    assert records.device_name(CPU) == "aarch64 (3 cores)"
    cpuinfo.unlink()  # as on macOS
    monkeypatch.delattr(os, "sched_getaffinity")
    assert records.device_name(CPU) == "aarch64 (64 cores)"
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert records.device_name(CPU) == "arm (64 cores)"


def test_of_an_accelerator_its_own_name_and_memory_are_recorded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, number {device.index}")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1000 + device.index)
    assert records.device_name(CUDA) == "a GPU, number 1"
    assert records.peak_memory(CUDA) == 1001


def test_macos_counts_the_peak_memory_in_bytes_and_linux_in_kibibytes(monkeypatch):
    import resource

    class Usage:
        ru_maxrss = 3000

    monkeypatch.setattr(resource, "getrusage", lambda who: {resource.RUSAGE_SELF: Usage}[who])
    found = {}
    for system in ("Darwin", "Linux"):
        monkeypatch.setattr(platform, "system", lambda system=system: system)
        found[system] = records.peak_memory(CPU)
    assert found == {"Darwin": 3000, "Linux": 3000 * 1024}


def test_versions_are_those_that_are_installed(monkeypatch):
    known = {"torch": "2.11", "hydra-core": "1.3", "numpy": "2.0"}

    def version(package):
        if package not in known:
            raise metadata.PackageNotFoundError(package)
        return known[package]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(platform, "python_version", lambda: "3.13")
    assert records.versions() == {"python": "3.13", **known, "torchvision": "not installed"}


def test_a_commit_that_is_given_is_taken_and_without_git_it_is_unknown(monkeypatch):
    def no_git(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    assert records.commit("abc") == "abc"
    assert records.commit("") == records.commit() == "unknown"


def test_code_that_its_checkout_does_not_track_has_no_commit(tmp_path, monkeypatch):
    file = tmp_path / "a" / "b" / "records.py"
    file.parent.mkdir(parents=True)
    file.write_text("code\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "tracked").write_text("x")
    user = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", tmp_path, "add", "tracked"], check=True)
    subprocess.run(["git", "-C", tmp_path, *user, "commit", "-qm", "one"], check=True)
    monkeypatch.setattr(records, "__file__", str(file))
    assert records.commit() == "unknown"


def test_what_git_is_asked_takes_no_lock_and_prints_nothing(monkeypatch, capfd):
    asked, run = [], subprocess.run

    def noted(command, **options):
        asked.append(options["env"]["GIT_OPTIONAL_LOCKS"])
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", noted)
    monkeypatch.setenv("GIT_OPTIONAL_LOCKS", "1")
    records.commit()
    assert asked
    assert set(asked) == {"0"}  # else git status may stop what a user does in the same checkout
    assert capfd.readouterr() == ("", "")


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
