"""Usual files are known by their checksums, and a download brings all that are missing or changes nothing."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

from experiments.engine import downloads
from experiments.engine.downloads import provide, staging
from tests.helpers.downloads import delivering, in_folder, write

URL = "https://example.org/files"
FILES = {"a": b"of a", "b": b"of b", "c": b"of c"}
CHECKSUMS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
WORDS = {"otherwise": "do otherwise", "by_hand": "do it by hand"}


@pytest.fixture
def timeout_put_back():
    before = socket.getdefaulttimeout()
    yield
    socket.setdefaulttimeout(before)


@pytest.mark.parametrize(("packed", "ending"), [(False, ""), (True, ".gz")])
def test_only_what_is_missing_is_downloaded(packed, ending, tmp_path, monkeypatch, timeout_put_back):
    asked = delivering(monkeypatch, FILES, packed)
    folder = write(tmp_path / "files", {"b": FILES["b"]})
    socket.setdefaulttimeout(7.5)
    provide(folder, URL, CHECKSUMS, packed=packed, **WORDS)
    assert in_folder(folder) == FILES
    assert sorted(os.listdir(folder)) == ["a", "b", "c"]
    assert asked == [f"{URL}/a{ending}", f"{URL}/c{ending}"]
    assert socket.getdefaulttimeout() == 7.5


def test_folders_that_there_were_not_are_made_and_whole_files_ask_for_nothing(tmp_path, monkeypatch):
    asked = delivering(monkeypatch, FILES)
    folder = tmp_path / "new" / "files"
    for _ in range(2):
        provide(folder, URL, CHECKSUMS, **WORDS)
    assert in_folder(folder) == FILES
    assert len(asked) == 3


def test_an_altered_file_is_named_and_never_replaced(tmp_path, monkeypatch):
    asked = delivering(monkeypatch, FILES)
    folder = write(tmp_path / "files", {"b": b"mine"})
    what = r"its checksum differs\); move it away, to have it downloaded, or do otherwise"
    with pytest.raises(ValueError, match=rf"^{folder}/b is not the usual file \({what}$"):
        provide(folder, URL, CHECKSUMS, **WORDS)
    assert in_folder(folder) == {"b": b"mine"}
    assert asked == []


def test_a_folder_in_a_file_s_place_is_named(tmp_path, offline):
    folder = write(tmp_path / "files", {"a": FILES["a"]})
    (folder / "b").mkdir()
    with pytest.raises(ValueError, match=rf"^{folder}/b cannot be read \(Is a directory\)$"):
        provide(folder, URL, CHECKSUMS, **WORDS)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(("packed", "ending"), [(False, ""), (True, ".gz")])
def test_a_download_of_other_files_changes_nothing(packed, ending, there, tmp_path, monkeypatch, timeout_put_back):
    delivering(monkeypatch, FILES | {"c": b"<html>moved</html>"}, packed)
    folder = tmp_path / "files"
    if there:
        write(folder, {"b": FILES["b"]})
    socket.setdefaulttimeout(7.5)
    with pytest.raises(FileNotFoundError) as caught:
        provide(folder, URL, CHECKSUMS, packed=packed, **WORDS)
    assert str(caught.value) == (
        f"{folder}/a is missing, and the download failed ({URL}/c{ending} is not the usual file any more: its checksum "
        "differs); do it by hand"
    )
    assert (os.listdir(folder) == ["b"]) if there else not folder.exists()
    assert socket.getdefaulttimeout() == 7.5


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("no\n network"), "no network"),
        (RuntimeError("File not found"), "File not found"),
        (EOFError(), "EOFError"),
        (downloads.http.client.IncompleteRead(b""), "IncompleteRead(0 bytes read)"),
    ],
)
def test_what_a_download_raises_is_one_line_that_names_the_first_missing_file(error, reason, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(downloads, "download_url", fail)
    folder = write(tmp_path / "files", {"a": FILES["a"]})
    with pytest.raises(FileNotFoundError) as caught:
        provide(folder, URL, CHECKSUMS, **WORDS)
    assert str(caught.value) == f"{folder}/b is missing, and the download failed ({reason}); do it by hand"
    assert os.listdir(folder) == ["a"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>not found</html>", "Not a gzipped file (b'<h')"),
        (b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 9, "Error -3 while decompressing data: invalid block type"),
    ],
)
def test_what_is_no_archive_is_one_line(content, reason, tmp_path, monkeypatch):
    def deliver(url: str, root: str, filename: str) -> None:
        (Path(root) / filename).write_bytes(content)

    monkeypatch.setattr(downloads, "download_url", deliver)
    with pytest.raises(FileNotFoundError) as caught:
        provide(tmp_path, URL, CHECKSUMS, packed=True, **WORDS)
    assert str(caught.value) == f"{tmp_path}/a is missing, and the download failed ({reason}); do it by hand"


def test_a_folder_that_cannot_be_made_still_names_the_missing_file(tmp_path, offline):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(FileNotFoundError, match=rf"^{tmp_path}/file/files/a is missing, and the download failed \("):
        provide(tmp_path / "file" / "files", URL, CHECKSUMS, **WORDS)


def test_a_stop_leaves_neither_files_nor_the_timeout(tmp_path, timeout_put_back):
    socket.setdefaulttimeout(7.5)

    def stopped() -> None:
        with staging(tmp_path) as folder:
            (folder / "half").write_bytes(b"half")
            assert folder.parent == tmp_path
            assert socket.getdefaulttimeout() == 30
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert os.listdir(tmp_path) == []
    assert socket.getdefaulttimeout() == 7.5
