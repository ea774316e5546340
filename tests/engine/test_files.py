"""Files appear whole, in UTF-8, with the umask's mode; a full disk is named, and nothing is left on it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from experiments.engine.checkpoint import Checkpoints
from experiments.engine.files import NoSpaceLeft, named_errors, replace_file, replace_text
from experiments.engine.records import write_summary
from experiments.engine.table import Table
from tests.helpers.running import history, run_in

TENSORS = {"w": torch.zeros(200, 500)}  # 400 kB
LARGE = np.random.default_rng(0).random(50_000)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 200 kB, or a skipped test where nothing can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def into(path, write):
    with path.open("wb") as file:
        write(file)


WRITERS = {
    "text": lambda path: path.write_text("x" * 400_000),
    "torch": lambda path: into(path, lambda file: torch.save(TENSORS, file)),
    "torch by path": lambda path: torch.save(TENSORS, path),
    "safetensors": lambda path: safetensors.torch.save_file(TENSORS, str(path)),
    "numpy": lambda path: into(path, lambda file: np.savez_compressed(file, large=LARGE)),
    "pandas": lambda path: pd.DataFrame({"large": LARGE}).to_csv(path),
}


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "torch by path"])
def test_a_full_disk_is_named_whatever_writes_and_nothing_is_left(name, small_disk):
    path = small_disk / "file"
    with pytest.raises(NoSpaceLeft, match=rf"no space left to write {path}; make room"):
        replace_file(path, WRITERS[name])
    assert list(small_disk.iterdir()) == []
    replace_text(path, "as before")
    with pytest.raises(NoSpaceLeft):
        replace_file(path, WRITERS[name])
    assert path.read_text() == "as before"
    assert list(small_disk.iterdir()) == [path]


def test_a_run_on_a_full_disk_says_so_and_goes_on_once_there_is_room(small_disk, tmp_path):
    smoke = ("task=digits", "scale=smoke", "optim=la_sgd", "runtime.commit=abc")
    folder = small_disk / "run"
    with pytest.raises(NoSpaceLeft, match=r"no space left to write .*checkpoints"):
        run_in(folder, *smoke)
    left = {path.name for path in small_disk.rglob("*") if path.is_file() and path.suffix != ".pt"}
    assert left == {"config.yaml", "history.csv"}
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert run_in(folder, *smoke)["status"] == "done"
    run_in(tmp_path / "whole", *smoke)
    assert history(folder) == history(tmp_path / "whole")


def test_checkpoints_and_tables_on_a_full_disk_leave_what_was_whole(small_disk):
    checkpoints = Checkpoints(small_disk / "checkpoints")
    checkpoints.save(1, {"value": torch.tensor(1)})
    with pytest.raises(NoSpaceLeft):
        checkpoints.save(2, TENSORS)
    assert checkpoints.load() == {"value": torch.tensor(1)}
    assert len(list(checkpoints.folder.iterdir())) == 1
    table = Table(small_disk / "history.csv")
    table.append({"step": "1"})
    state = table.state_dict()
    with pytest.raises(NoSpaceLeft, match=r"history\.csv"):
        table.append({"step": "x" * 400_000})
    table.load_state_dict(state)
    assert table.path.read_text() == "step\n1\n"
    (small_disk / "filler").write_bytes(b"x" * os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize)
    with pytest.raises(NoSpaceLeft, match=r"summary\.json"):
        write_summary(small_disk, {"status": "done", "final": {f"x{i}": 1.0 for i in range(1000)}})
    assert not (small_disk / "summary.json").exists()


@pytest.mark.parametrize(
    "hidden",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_recognized_behind_other_errors(tmp_path, hidden):
    def write(path):
        path.write_text("half")
        try:
            raise hidden
        finally:
            raise RuntimeError("unexpected pos 33152 vs 33048")

    with pytest.raises(NoSpaceLeft, match=r"no space left to write") as raised:
        replace_file(tmp_path / "file", write)
    assert isinstance(raised.value, OSError)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_keep_their_kind_and_get_the_name_of_the_file(tmp_path):
    with pytest.raises(PermissionError, match="Not permitted: 'here'"), named_errors("here"):
        raise OSError(errno.EACCES, "Not permitted")
    with pytest.raises(FileNotFoundError, match="other"), named_errors("here"):
        (tmp_path / "other").open()
    with pytest.raises(ZeroDivisionError), named_errors("here"):
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "file", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
@pytest.mark.parametrize("name", WRITERS)
def test_every_file_has_the_mode_that_the_umask_gives(name, mask, tmp_path):
    before = os.umask(mask)
    try:
        assert mode(replace_file(tmp_path / "file", WRITERS[name])) == 0o666 & ~mask
    finally:
        os.umask(before)


def test_all_files_of_a_run_have_one_mode(tmp_path):
    run_in(tmp_path, "task=digits", "scale=smoke", "optim=sgd", "runtime.commit=abc")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"weights.safetensors", "config.yaml", "history.csv", "summary.json"} < {path.name for path in files}
    umask = os.umask(0)
    os.umask(umask)
    assert {mode(path) for path in files} == {0o666 & ~umask}


def test_a_file_is_named_once_its_content_is_known_and_a_torn_one_is_replaced(tmp_path):
    (tmp_path / ".file.tmp").write_text("torn, of a process that was killed")
    path = replace_file(tmp_path / "file", lambda new: new.write_text("abc"), name=lambda new: new.read_text())
    assert path == tmp_path / "abc"
    assert [file.name for file in tmp_path.iterdir()] == ["abc"]


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path):
    target, link = tmp_path / "disk" / "file", tmp_path / "link"
    target.parent.mkdir()
    target.write_text("old")
    link.symlink_to(target)
    replace_text(link, "new α")
    assert link.is_symlink()
    assert target.read_bytes() == "new α".encode()
    assert len(list(tmp_path.iterdir())) == 2
