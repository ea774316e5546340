"""Archives: downloads that go on where they were cut, checksums, and members that are written nowhere else."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.engine.files import NoSpaceLeft
from experiments.translation import archives
from experiments.translation.archives import Archive, extract, provide
from tests.helpers.web import Web, serving

CONTENT = bytes(range(256)) * 20
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def web(monkeypatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "*")
    with serving({"a.tgz": CONTENT}) as served:
        yield served


def archive(web: Web, checksum: str = SHA256, size: int | None = len(CONTENT)) -> Archive:
    return Archive(f"{web.url}/a.tgz", checksum, size)


@pytest.mark.parametrize("checksum", [SHA256, f"md5:{hashlib.md5(CONTENT).hexdigest()}"])
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_an_archive_is_downloaded_once(web, tmp_path, checksum, size):
    told: list[int] = []
    folder = tmp_path / "new" / "raw"
    path = provide(archive(web, checksum, size), folder, told.append)
    assert path == folder / "a.tgz"
    assert path.read_bytes() == CONTENT
    assert os.listdir(folder) == ["a.tgz"]
    assert (told[0], told[-1]) == (0, len(CONTENT))
    assert provide(archive(web, checksum, size), folder) == path
    assert web.asked == [("a.tgz", None)]


def test_a_download_goes_on_where_it_was_stopped(web, tmp_path):
    (tmp_path / "a.tgz.part").write_bytes(CONTENT[:1000])
    told: list[int] = []
    assert provide(archive(web), tmp_path, told.append).read_bytes() == CONTENT
    assert web.asked == [("a.tgz", "bytes=1000-")]
    assert (told[0], told[-1]) == (1000, len(CONTENT))
    assert os.listdir(tmp_path) == ["a.tgz"]


def test_a_connection_that_breaks_off_is_made_again_as_long_as_something_comes(web, tmp_path):
    web.cuts["a.tgz"] = [100, 1, 2000]
    assert provide(archive(web), tmp_path).read_bytes() == CONTENT
    assert web.asked == [("a.tgz", None), ("a.tgz", "bytes=100-"), ("a.tgz", "bytes=101-"), ("a.tgz", "bytes=2101-")]


def test_a_download_that_fails_says_what_it_keeps_and_goes_on_from_it(web, tmp_path):
    web.cuts["a.tgz"] = [1500, 0]
    message = rf"the download of {web.url}/a\.tgz failed \(.+\); 1,500 bytes are kept in {tmp_path}/a\.tgz\.part: start"
    with pytest.raises(ConnectionError, match=f"^{message}"):
        provide(archive(web), tmp_path)
    assert (tmp_path / "a.tgz.part").read_bytes() == CONTENT[:1500]
    assert provide(archive(web), tmp_path).read_bytes() == CONTENT
    assert web.asked[2:] == [("a.tgz", "bytes=1500-")]


def test_a_server_that_knows_no_ranges_is_asked_for_all(web, tmp_path):
    web.knows_ranges = False
    (tmp_path / "a.tgz.part").write_bytes(b"others" * 3000)  # longer than the whole
    assert provide(archive(web), tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_whole_needs_nothing_more(web, tmp_path):
    (tmp_path / "a.tgz.part").write_bytes(CONTENT)
    assert provide(archive(web), tmp_path).read_bytes() == CONTENT
    assert not (tmp_path / "a.tgz.part").exists()


def test_a_download_with_another_checksum_is_deleted_and_named(web, tmp_path):
    web.files["a.tgz"] = CONTENT[:-1] + b"x"
    message = (
        rf"the download of {web.url}/a\.tgz has another SHA256 than is published, and was deleted; start again, or"
    )
    with pytest.raises(ValueError, match=f"^{message}"):
        provide(archive(web), tmp_path)
    assert os.listdir(tmp_path) == []
    web.files["a.tgz"] = CONTENT + b"x"
    with pytest.raises(ValueError, match=r"has 5,121 bytes in place of 5,120, and was deleted"):
        provide(archive(web), tmp_path)


@pytest.mark.parametrize(
    ("content", "size", "message"),
    [
        (CONTENT[:-7], len(CONTENT), "has 5,113 bytes in place of 5,120"),
        (CONTENT[:-7], None, "has another SHA256 than is published"),
        (CONTENT[1:] + b"x", len(CONTENT), "has another SHA256 than is published"),
    ],
)
def test_an_altered_archive_is_named_and_never_replaced(web, tmp_path, content, size, message):
    path = tmp_path / "a.tgz"
    path.write_bytes(content)
    expected = rf"^{path} {message}; move it away, to have it downloaded from {web.url}/a\.tgz$"
    with pytest.raises(ValueError, match=expected):
        provide(archive(web, size=size), tmp_path)
    assert path.read_bytes() == content
    assert web.asked == []


def test_what_the_server_refuses_is_named(web, tmp_path):
    del web.files["a.tgz"]
    with pytest.raises(ConnectionError, match=rf"^{web.url}/a\.tgz: the server answers 404 Not Found$"):
        provide(archive(web), tmp_path)


def test_no_network_is_one_clear_line(tmp_path):
    with pytest.raises(ConnectionError, match=r"failed \(.*refused\); 0 bytes are kept in .*a\.tgz\.part: start again"):
        provide(Archive("http://127.0.0.1:9/a.tgz", SHA256), tmp_path)


def test_a_full_disk_is_one_clear_line_and_keeps_what_came(web, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "PIECE", 1000)
    opened = Path.open

    class Full:
        def __init__(self, file):
            self.file, self.left = file, 2500

        def write(self, piece):
            if not self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = self.file.write(piece[: self.left])  # as a disk does that is nearly full
            self.left -= written
            return written

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    def open_full(path, mode="r", *arguments, **settings):
        file = opened(path, mode, *arguments, **settings)
        return Full(file) if path.suffix == ".part" else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        with pytest.raises(NoSpaceLeft, match=rf"^no space left to write {tmp_path}/a\.tgz\.part; make room"):
            provide(archive(web), tmp_path)
    assert (tmp_path / "a.tgz.part").read_bytes() == CONTENT[:2500]
    assert provide(archive(web), tmp_path).read_bytes() == CONTENT


def packed(path: Path, members: dict[str, bytes | None]) -> Path:
    """Write a tar archive, whose members of None are folders."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.DIRTYPE
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content or b""))
    return path


def test_members_are_written_to_their_paths_and_nothing_else_is(tmp_path):
    members = {"./in/a.en": b"one\n", "../../evil": b"x", "/tmp/evil": b"y", "in/a.de": b"eins\n", "in/more": b"z"}
    path = packed(tmp_path / "a.tgz", members)
    texts = tmp_path / "texts"
    texts.mkdir()
    extract(path, {"in/a.de": texts / "x.de", "in/a.en": texts / "x.en"})
    assert {file.name: file.read_bytes() for file in texts.iterdir()} == {"x.en": b"one\n", "x.de": b"eins\n"}
    assert sorted(os.listdir(tmp_path)) == ["a.tgz", "texts"]


def test_members_that_are_missing_or_no_files_are_named(tmp_path):
    path = packed(tmp_path / "a.tgz", {"in": None, "in/a": b"1"})
    with pytest.raises(ValueError, match=rf"^{path} has no in/b, in/c$"):
        extract(path, {"in/a": tmp_path / "a", "in/b": tmp_path / "b", "in/c": tmp_path / "c"})
    with pytest.raises(ValueError, match=rf"^{path} has in, which is no file$"):
        extract(path, {"in": tmp_path / "b"})


def test_truncated_archives_and_other_files_are_named_and_leave_nothing_half_written(tmp_path):
    content = os.urandom(300_000)
    whole = packed(tmp_path / "a.tgz", {"a": b"1", "b": content}).read_bytes()
    path = tmp_path / "cut.tgz"
    for part in (whole[:200_000], b"no archive", b"", gzip.compress(b"no tar"), whole[:-50_000] + b"\0" * 50_000):
        path.write_bytes(part)
        with pytest.raises(
            ValueError, match=rf"^{path} cannot be unpacked \(.+\): it is truncated, or no tar archive$"
        ):
            extract(path, {"b": tmp_path / "b"})
    assert sorted(os.listdir(tmp_path)) == ["a.tgz", "cut.tgz"]
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "none.tgz"))):
        extract(tmp_path / "none.tgz", {"b": tmp_path / "b"})


def test_a_full_disk_while_a_member_is_written_is_named(tmp_path):
    path = packed(tmp_path / "a.tgz", {"a": b"1"})
    with pytest.raises(OSError, match="No such file or directory"):
        extract(path, {"a": tmp_path / "nowhere" / "a"})
