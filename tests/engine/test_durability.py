"""In which order a file, a checkpoint and a lock reach the disk, and what a killed process leaves to the next."""

from __future__ import annotations

import errno
import hashlib
import os
import stat

import pytest
import torch

from experiments.engine import checkpoint, files
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.errors import RunFolderError
from experiments.engine.files import NoSpaceLeft, digest, named_errors, replace_file, replace_text


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace

    def synced(descriptor):
        calls.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_size))
        fsync(descriptor)

    def replaced(source, target):
        calls.append(("replace", str(source), str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    path = tmp_path / "file"
    assert replace_text(path, "α\nb") == path
    temporary = str(tmp_path / ".file.tmp")
    assert calls == [("fsync", temporary, 4), ("replace", temporary, str(path))]
    assert path.read_bytes() == "α\nb".encode()


def test_a_torn_file_gives_nothing_to_the_one_that_replaces_it(tmp_path):
    torn, secret = tmp_path / ".file.tmp", tmp_path / "secret"
    secret.write_text("of another")
    torn.symlink_to(secret)
    replace_text(tmp_path / "file", "new")
    assert (secret.read_text(), (tmp_path / "file").read_text()) == ("of another", "new")
    assert not (tmp_path / "file").is_symlink()
    torn.write_text("torn")
    torn.chmod(0o600)
    before = os.umask(0o022)
    try:
        replace_text(tmp_path / "file", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_a_write_that_removes_its_own_file_says_what_went_wrong_and_not_what_followed(tmp_path):
    def write(path):
        path.unlink()
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        replace_file(tmp_path / "file", write)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, (1 << 22) - 1, 1 << 22, (1 << 22) + 1, 3 << 22])
def test_a_digest_is_of_the_whole_file(tmp_path, size):
    content = bytes(i * 7 % 251 for i in range(1000)) * (size // 1000 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert digest(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()[:16]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_every_way_in_which_a_disk_is_full_is_named(number):
    with pytest.raises(NoSpaceLeft, match="no space left to write here; make room"), named_errors("here"):
        raise OSError(number, os.strerror(number))


def test_an_error_of_the_system_is_found_behind_its_context_and_without_a_number_it_is_none(tmp_path):
    def hidden():
        try:
            raise PermissionError(errno.EACCES, "Not permitted", "elsewhere")
        except OSError:
            raise RuntimeError("hidden")  # noqa: B904

    with pytest.raises(PermissionError) as raised, named_errors("here"):
        hidden()
    assert (raised.value.filename, raised.value.strerror) == ("here", "Not permitted")
    with pytest.raises(OSError, match=r"^no number$") as raised, named_errors("here"):
        raise OSError("no number")
    assert raised.value.errno is None
    with pytest.raises(IsADirectoryError, match="here") as raised, named_errors("here"):
        raise RuntimeError("I/O error (os error 21)")
    assert raised.value.strerror == os.strerror(errno.EISDIR)
    with pytest.raises(RuntimeError, match="os error none"), named_errors("here"):
        raise RuntimeError("(os error none)")


def test_errors_that_refer_to_each_other_in_a_circle_end():
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert files._system_error(one) is None


def test_a_checkpoint_is_found_by_its_whole_name_and_its_number_grows(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder)
    first = checkpoints.save(391, {"value": 1})
    assert first.name == f"00001-step-00000391.{digest(first)}.pt"
    (folder / f"{first.name}.bak").write_text("a copy")
    (folder / "00009-step-1.pt").write_text("of somebody else")
    first.rename(folder / first.name.replace("00001", "99999"))
    second = checkpoints.save(5, {"value": 2})
    assert second.name.startswith("100000-step-00000005.")  # greater as a number, not as text
    assert [path.name[:6] for path in checkpoints.paths()] == ["100000", "99999-"]
    assert checkpoints.load() == {"value": 2}
    assert checkpoint._serial(second) == 100000


def test_tensors_come_back_on_the_cpu_and_only_plain_values_are_read(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "load", lambda path, **options: asked.append((path, options)) or {"value": 1})
    path = Checkpoints(tmp_path / "c").save(1, {"value": 1})
    assert Checkpoints(tmp_path / "c").load() == {"value": 1}
    assert asked == [(path, {"map_location": "cpu", "weights_only": True})]


def test_what_does_not_fit_is_said_of_the_newest_and_other_errors_pass(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    named = rf"^{tmp_path / 'c'} does not fit this code \(one line\)"  # none is there
    with pytest.raises(RunFolderError, match=named), checkpoints.fitting():
        raise ValueError("one line\nand more")
    path = checkpoints.save(1, {})
    for error, reason in (
        (KeyError("x"), "KeyError: 'x'"),
        (IndexError("list"), "IndexError: list"),
        (TypeError("  kind "), "kind"),
        (AttributeError("no such"), "no such"),
        (RuntimeError("size"), "size"),
    ):
        with pytest.raises(RunFolderError) as raised, checkpoints.fitting():
            raise error
        assert str(raised.value) == (
            f"{path} does not fit this code ({reason}); use the code that wrote it, or move {tmp_path} away to "
            "start again"
        )
    for error in (ZeroDivisionError, OSError, KeyboardInterrupt):
        with pytest.raises(error), checkpoints.fitting():
            raise error
    with pytest.raises(RunFolderError, match=r"^other does not fit"), checkpoints.fitting("other"):
        raise ValueError("x")


def test_of_several_damaged_ones_all_are_passed_over_and_kept_aside(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path / "c")
    one, two = checkpoints.save(1, {"value": 1}), checkpoints.save(2, {"value": 2})
    three = tmp_path / "c" / two.name.replace("00002", "00003")
    three.write_bytes(b"torn")
    two.write_bytes(b"torn")
    assert checkpoints.load() == {"value": 1}
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        one.name,
        two.with_suffix(".damaged").name,
        three.with_suffix(".damaged").name,
    ]
    assert caplog.text.index(three.name) < caplog.text.index(two.name)
