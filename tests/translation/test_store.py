"""Stores: pairs come back from their files, which appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.engine.files import NoSpaceLeft
from experiments.translation import store as stores
from experiments.translation.store import (
    DamagedStore,
    StoreWriter,
    TokenPairs,
    one_at_a_time,
    read_store,
    token_dtype,
    writing,
)
from experiments.translation.subwords import Subwords

SOURCES = [[4, 5, 2], [6, 2], [7, 8, 9, 2]]
TARGETS = [[9, 2], [8, 7, 6, 5, 2], [4, 2]]


@pytest.fixture(scope="module")
def subwords() -> Subwords:
    return Subwords.learn(["a bc de", "cab"], 12)


def written(folder: Path, subwords: Subwords, made_of: dict | None = None) -> Path:
    with writing(folder, subwords) as writer:
        writer.add("train", SOURCES[:2], TARGETS[:2])
        writer.add("train", SOURCES[2:], TARGETS[2:])
        writer.add("val", SOURCES[:1], TARGETS[:1])
        writer.lines("val", ["a b", ""], ["ü\u2028c", "d"])
        writer.add("test", SOURCES[1:], TARGETS[1:])
        writer.lines("test", ["e"], ["f"])
        writer.finish({"train pairs": 3}, made_of or {})
    return folder


def rows(pairs: TokenPairs) -> list[tuple[list[int], list[int]]]:
    return [tuple(side.tolist() for side in pairs.pair(number)) for number in range(len(pairs))]


def in_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_pairs_in_memory_have_their_rows_starts_and_lengths():
    pairs = TokenPairs.of(SOURCES, TARGETS)
    assert len(pairs) == 3
    assert pairs.source.tolist() == [4, 5, 2, 6, 2, 7, 8, 9, 2]
    assert pairs.target.tolist() == [9, 2, 8, 7, 6, 5, 2, 4, 2]
    assert pairs.source_starts.tolist() == [0, 3, 5, 9]
    assert pairs.target_starts.tolist() == [0, 2, 7, 9]
    assert [array.tolist() for array in pairs.lengths()] == [[3, 2, 4], [2, 5, 2]]
    assert [array.dtype for array in pairs.lengths()] == [np.int32, np.int32]
    assert (pairs.source.dtype, pairs.source_starts.dtype) == (np.uint16, np.int64)
    assert rows(pairs) == list(zip(SOURCES, TARGETS, strict=True))
    assert len(TokenPairs.of([], [])) == 0


def test_as_many_targets_as_sources_are_needed():
    with pytest.raises(ValueError, match=r"^3 sources cannot be paired with 2 targets$"):
        TokenPairs.of(SOURCES, TARGETS[:2])


def test_numbers_get_a_type_that_holds_them():
    assert token_dtype(65_536) == np.uint16
    assert token_dtype(65_537) == np.uint32
    assert token_dtype(1 << 32) == np.uint32
    with pytest.raises(ValueError, match=r"^vocabulary=4294967297 is not possible; .* at most 4294967296 subwords$"):
        token_dtype((1 << 32) + 1)
    assert TokenPairs.of([[65_535]], [[3]]).target.dtype == np.uint16
    large = TokenPairs.of([[3]], [[65_536]])
    assert (large.source.dtype, large.target.tolist()) == (np.uint32, [65_536])


def test_the_first_pairs_are_those():
    first = TokenPairs.of(SOURCES, TARGETS).first(2)
    assert rows(first) == list(zip(SOURCES[:2], TARGETS[:2], strict=True))
    assert first.source.tolist() == [4, 5, 2, 6, 2]
    assert first.digest() == TokenPairs.of(SOURCES[:2], TARGETS[:2]).digest()


def test_digests_tell_numbers_and_bounds_apart():
    digests = {
        TokenPairs.of(sources, targets).digest()
        for sources, targets in (
            (SOURCES, TARGETS),
            (TARGETS, SOURCES),
            ([[4, 5], [2, 6, 2], SOURCES[2]], TARGETS),
            (SOURCES, [[9, 2, 8], [7, 6, 5, 2], [4, 2]]),
            ([[4, 5, 2], [6, 3], SOURCES[2]], TARGETS),
        )
    }
    assert len(digests) == 5


def test_a_store_gives_back_what_was_written_into_it(tmp_path, subwords):
    store = read_store(written(tmp_path / "store", subwords, {"texts": {"a": "1"}}))
    assert store.subwords == subwords
    assert rows(store.pairs["train"]) == list(zip(SOURCES, TARGETS, strict=True))
    assert rows(store.pairs["val"]) == [(SOURCES[0], TARGETS[0])]
    assert rows(store.pairs["test"]) == list(zip(SOURCES[1:], TARGETS[1:], strict=True))
    assert store.pairs["train"].digest() == TokenPairs.of(SOURCES, TARGETS).digest()
    assert store.lines == {
        ("val", "source"): ["a b", ""],
        ("val", "target"): ["ü\u2028c", "d"],
        ("test", "source"): ["e"],
        ("test", "target"): ["f"],
    }
    assert store.counts == {"train pairs": 3}
    assert store.made_of == {"texts": {"a": "1"}}


def test_numbers_are_mapped_and_cannot_be_written(tmp_path, subwords):
    pairs = read_store(written(tmp_path / "store", subwords)).pairs["train"]
    assert isinstance(pairs.source.base, np.memmap)
    assert not pairs.source.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        pairs.source[0] = 1


def test_nothing_but_the_store_is_left_and_it_has_the_mode_of_the_umask(tmp_path, subwords):
    before = os.umask(0o027)
    try:
        folder = written(tmp_path / "store", subwords)
    finally:
        os.umask(before)
    assert os.listdir(tmp_path) == ["store"]
    assert folder.stat().st_mode & 0o777 == 0o750
    assert (folder / "store.json").stat().st_mode & 0o777 == 0o640


def test_a_store_takes_the_place_of_one_that_lies_there(tmp_path, subwords):
    folder = written(tmp_path / "store", subwords, {"made": 1})
    (folder / "more").write_text("")
    written(folder, subwords, {"made": 2})
    assert read_store(folder).made_of == {"made": 2}
    assert os.listdir(tmp_path) == ["store"]
    assert not (folder / "more").exists()


def test_a_failure_leaves_the_folder_as_it_was(tmp_path, subwords):
    folder = written(tmp_path / "store", subwords)
    before = in_folder(folder)

    def fail() -> None:
        with writing(folder, subwords) as writer:
            writer.add("train", SOURCES, TARGETS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert in_folder(folder) == before
    assert os.listdir(tmp_path) == ["store"]


def test_what_a_killed_process_left_goes_after_a_day(tmp_path, subwords):
    for name, hours in {".store-old": 25, ".store-new": 23, ".stores": 25}.items():
        written(tmp_path / name, subwords)
        changed = time.time() - 3600 * hours
        os.utime(tmp_path / name, (changed, changed))
    written(tmp_path / "store", subwords)
    assert sorted(os.listdir(tmp_path)) == [".store-new", ".stores", "store"]


def test_a_full_disk_is_one_clear_line_that_names_the_store(tmp_path, subwords, monkeypatch):
    def full(array):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stores, "memoryview", full, raising=False)
    with pytest.raises(NoSpaceLeft, match=rf"^no space left to write {tmp_path}/store; make room"):
        written(tmp_path / "store", subwords)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, subwords):
    with pytest.raises(OSError, match="No such file or directory"):
        written(tmp_path / "nowhere" / "store", subwords)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        written(tmp_path / "file" / "store", subwords)


def test_a_missing_store_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"^{tmp_path}/store is missing$"):
        read_store(tmp_path / "store")


@pytest.mark.parametrize("content", [None, b"", b'{"format": 1', b"[]", b"1", b'{"format": 1, "files": {}}', b"\xff"])
def test_a_half_written_store_is_told_by_its_last_file(tmp_path, subwords, content):
    folder = written(tmp_path / "store", subwords)
    if content is None:
        (folder / "store.json").unlink()
    else:
        (folder / "store.json").write_bytes(content)
    with pytest.raises(DamagedStore, match=rf"^{folder}/store\.json is missing, or not whole$"):
        read_store(folder)


@pytest.mark.parametrize("name", ["subwords.model", "train.source.tokens", "val.target.starts", "test.source.txt"])
def test_files_that_are_cut_or_gone_are_named(tmp_path, subwords, name):
    folder = written(tmp_path / "store", subwords)
    size = (folder / name).stat().st_size
    os.truncate(folder / name, size - 1)
    with pytest.raises(DamagedStore, match=rf"^{folder}/{name} has {size - 1} bytes in place of {size}$"):
        read_store(folder)
    (folder / name).unlink()
    with pytest.raises(DamagedStore, match=rf"^{folder}/{name} is missing$"):
        read_store(folder)


def test_a_store_of_another_format_is_told(tmp_path, subwords):
    folder = written(tmp_path / "store", subwords)
    contents = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps(contents | {"format": 99}))
    with pytest.raises(DamagedStore, match=rf"^{folder} is a store of format 99, not 1$"):
        read_store(folder)


def test_a_store_of_other_subwords_is_refused(tmp_path, subwords):
    folder = written(tmp_path / "store", subwords)
    contents = json.loads((folder / "store.json").read_text())
    other = Subwords.learn(["a bc de", "bca"], 12)
    other.save(folder / "subwords.model")
    contents["files"]["subwords.model"] = len(other.model)
    (folder / "store.json").write_text(json.dumps(contents))
    message = rf"^{folder} is a store of other subwords \({subwords.digest}\) than its subwords\.model has "
    with pytest.raises(ValueError, match=rf"{message}\({other.digest}\)") as caught:
        read_store(folder)
    assert not isinstance(caught.value, DamagedStore)  # which would be made anew without a word


def test_vocabularies_above_65536_are_written_with_four_bytes(tmp_path, subwords):
    class Large:
        size, digest, model = 70_000, subwords.digest, subwords.model
        save = subwords.save

    with writing(tmp_path / "store", Large()) as writer:
        for split in ("train", "val", "test"):
            writer.add(split, [[69_999, 2]], [[2]])
        writer.finish({}, {})
    assert rows(read_store(tmp_path / "store").pairs["val"]) == [([69_999, 2], [2])]


def test_an_error_within_a_store_being_written_closes_its_files(tmp_path, subwords):
    writer = StoreWriter(tmp_path, subwords)
    writer.add("train", SOURCES, TARGETS)
    files = list(writer._files.values())
    writer.close()
    assert len(files) == 4
    assert all(file.closed for file in files)


def test_one_process_at_a_time_has_a_folder(tmp_path):
    import fcntl

    def free() -> bool:
        descriptor = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    with one_at_a_time(tmp_path):
        assert not free()
    assert free()
