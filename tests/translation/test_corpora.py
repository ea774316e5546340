"""Stores of corpora: made once, and made anew when needed; WMT14's, that was prepared; digests."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from experiments.engine.files import NoSpaceLeft
from experiments.translation import corpora
from experiments.translation.corpora import made, multi30k, store_name, wmt14
from experiments.translation.pairs import write_pairs
from experiments.translation.store import writing
from experiments.translation.subwords import Subwords
from tests.helpers.downloads import write
from tests.helpers.small_pairs import SETTINGS, decoded, learning


def test_a_store_is_made_once(tmp_path, usual, offline, monkeypatch):
    write(tmp_path / "multi30k", usual)
    learned = learning(monkeypatch)
    first = multi30k(tmp_path, **SETTINGS)
    again = multi30k(str(tmp_path), **SETTINGS)
    assert learned == [60]
    assert [first.digest(split) for split in ("train", "val", "test")] == [
        again.digest(split) for split in ("train", "val", "test")
    ]
    multi30k(tmp_path, vocabulary=59, longest=40)
    multi30k(tmp_path, vocabulary=60, longest=39)
    assert learned == [60, 59, 60]


@pytest.mark.parametrize("damage", ["store.json", "train.target.tokens", "subwords.model", "format"])
def test_a_store_that_is_not_whole_is_made_anew(tmp_path, usual, offline, monkeypatch, damage):
    folder = write(tmp_path / "multi30k", usual)
    digest = multi30k(tmp_path, **SETTINGS).digest("train")
    store = folder / "en-de-60-40"
    if damage == "format":
        contents = json.loads((store / "store.json").read_text())
        (store / "store.json").write_text(json.dumps(contents | {"format": 0}))
    elif damage == "train.target.tokens":
        os.truncate(store / damage, 3)
    else:
        (store / damage).unlink()
    learned = learning(monkeypatch)
    assert multi30k(tmp_path, **SETTINGS).digest("train") == digest
    assert learned == [60]
    assert sorted(os.listdir(folder)) == sorted([*usual, "en-de-60-40"])


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path, usual, offline, monkeypatch):
    folder = write(tmp_path / "multi30k", usual)

    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(corpora, "writing", refuse)
        with pytest.raises(ValueError, match=rf"^{folder}/en-de-60-40 cannot be written \(Permission denied\), where"):
            multi30k(tmp_path, **SETTINGS)

    def fill(*_):
        raise NoSpaceLeft("no space left to write it")

    monkeypatch.setattr(corpora, "writing", fill)
    with pytest.raises(NoSpaceLeft, match="no space left"):
        multi30k(tmp_path, **SETTINGS)


def test_a_store_of_other_subwords_is_named_and_kept(tmp_path, usual, offline):
    folder = write(tmp_path / "multi30k", usual)
    multi30k(tmp_path, **SETTINGS)
    store = folder / "en-de-60-40"
    other = Subwords.learn(["other words"] * 2, 20)
    other.save(store / "subwords.model")
    contents = json.loads((store / "store.json").read_text())
    contents["files"]["subwords.model"] = len(other.model)
    (store / "store.json").write_text(json.dumps(contents))
    with pytest.raises(ValueError, match=rf"^{store} is a store of other subwords \("):
        multi30k(tmp_path, **SETTINGS)
    assert (store / "subwords.model").read_bytes() == other.model


def _in_a_process(folder: Path, texts: dict[str, str], begin, results) -> None:
    corpora.MULTI30K = texts
    learned = corpora.learned
    count = []
    corpora.learned = lambda lines, vocabulary: count.append(1) or learned(lines, vocabulary)
    begin.wait()
    results.put((multi30k(folder, **SETTINGS).digest("train"), len(count)))


def test_processes_that_need_a_store_at_once_make_one(tmp_path, usual, offline):
    write(tmp_path / "multi30k", usual)
    context = multiprocessing.get_context("fork")
    begin, results = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=_in_a_process, args=(tmp_path, dict(corpora.MULTI30K), begin, results)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert len({digest for digest, _ in found}) == 1
    assert sum(count for _, count in found) == 1


def wmt_store(folder: Path, vocabulary: int = 60, longest: int = 40) -> Path:
    pairs = [(f"a dog {number}", f"ein Hund {number}") for number in range(10)]
    subwords = Subwords.learn([line for pair in pairs for line in pair], vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / store_name("en", "de", vocabulary, longest), subwords) as writer:
        writer.finish(write_pairs(writer, {"train": pairs, "val": pairs[:3], "test": pairs[3:]}, longest), {})
    return folder / store_name("en", "de", vocabulary, longest)


def test_wmt14_is_read_from_the_store_that_was_prepared(tmp_path):
    wmt_store(tmp_path / "wmt14", 40)
    corpus = wmt14(tmp_path, vocabulary=40, longest=40)
    assert (len(corpus.train), len(corpus.val), len(corpus.test)) == (10, 3, 7)
    assert corpus.references["val"][0] == "ein Hund 0"
    assert decoded(wmt14(tmp_path, vocabulary=40, longest=40, train_pairs=1), "train") == [("a dog 0", "ein Hund 0")]
    with pytest.raises(ValueError, match=r"^task\.corpus\.longest=0 is not possible"):
        wmt14(tmp_path, longest=0)


def test_a_wmt14_that_was_not_prepared_is_one_line_with_the_command(tmp_path):
    message = (
        rf"^{tmp_path}/wmt14/en-de-32000-256 is missing; run python scripts/prepare_wmt14\.py --vocabulary 32000 "
        rf"--longest 256 --data-dir {tmp_path}$"
    )
    with pytest.raises(FileNotFoundError, match=message):
        wmt14(tmp_path)


def test_a_damaged_wmt14_is_named_and_kept(tmp_path):
    store = wmt_store(tmp_path / "wmt14", 40)
    os.truncate(store / "train.source.tokens", 5)
    with pytest.raises(
        ValueError, match=rf"^{store}/train\.source\.tokens has 5 bytes in place of \d+; delete {store} and"
    ):
        wmt14(tmp_path, vocabulary=40, longest=40)
    assert (store / "train.source.tokens").stat().st_size == 5
    shutil.rmtree(store)


def test_digests_are_of_subwords_numbers_and_lines():
    corpus = made(train_pairs=50, val_pairs=5, test_pairs=5)
    changed = dataclasses.replace(corpus, references=corpus.references | {"val": [*corpus.references["val"][:-1], "x"]})
    assert changed.digest("val") != corpus.digest("val")
    assert changed.digest("test") == corpus.digest("test")
    other = dataclasses.replace(corpus, subwords=Subwords.learn(["a b"] * 2, 7))
    assert other.digest("train") != corpus.digest("train")
    assert len(corpus.digest("train")) == 8
