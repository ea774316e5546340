"""Parallel texts of one's own: read as Multi30k is, their store made anew when they change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments.translation.corpora import TranslationCorpus, multi30k, text_pairs
from tests.helpers.downloads import write
from tests.helpers.small_pairs import SETTINGS, TEXTS, learning

OWN = {name.replace("test_2016_flickr", "test"): text for name, text in TEXTS.items()}


def own(folder: Path, **given) -> TranslationCorpus:
    return text_pairs(folder.parent, folder.name, "en", "de", **(SETTINGS | given))


def test_texts_of_ones_own_are_read_alike(tmp_path, usual, offline):
    write(tmp_path / "multi30k", usual)
    theirs = multi30k(tmp_path, **SETTINGS)
    mine = own(write(tmp_path / "mine", OWN))
    assert mine.subwords == theirs.subwords
    assert [mine.digest(split) for split in ("train", "val", "test")] == [
        theirs.digest(split) for split in ("train", "val", "test")
    ]
    assert mine.counts == theirs.counts
    assert own(tmp_path / "mine", train_pairs=1).counts["train pairs"] == 1


def test_names_of_ones_own_files_can_be_others(tmp_path):
    renamed = {name.replace("train", "tr.1").replace("val", "dev"): text for name, text in OWN.items()}
    corpus = own(write(tmp_path / "mine", renamed), train="tr.1", val="dev")
    assert (len(corpus.train), len(corpus.val), len(corpus.test)) == (4, 2, 1)


def test_a_text_that_changes_has_its_store_made_anew(tmp_path, monkeypatch):
    folder = write(tmp_path / "mine", OWN)
    before = own(folder)
    learned = learning(monkeypatch)
    own(folder)
    assert learned == []
    write(folder, {"val.de": b"ein Hund\nleer\neine Katze\n"})
    after = own(folder)
    assert learned == [60]
    assert after.references["val"] == ["ein Hund", "leer", "eine Katze"]
    assert after.digest("val") != before.digest("val")
    assert after.digest("train") == before.digest("train")


def test_other_names_in_the_same_folder_have_their_store_made_anew(tmp_path):
    folder = write(tmp_path / "mine", OWN | {"dev.en": b"a cat\n", "dev.de": b"eine Katze\n"})
    assert len(own(folder).sources["val"]) == 3
    assert own(folder, val="dev").sources["val"] == ["a cat"]
    assert len(own(folder).sources["val"]) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("val.de", b"a\n", r"{folder}/val\.en has 3 lines, but {folder}/val\.de has 1; line n"),
        ("train.de", b"a\nb\n", r"{folder}/train\.en has 6 lines, but {folder}/train\.de has 2; line n"),
        ("test.en", b"a\xff\n", r"{folder}/test\.en, line 1: its bytes are not UTF-8"),
        ("train.en", b"a\n\xc3\n" * 3, r"{folder}/train\.en, line 2: its bytes are not UTF-8"),
        ("test.en", b"\n", r"no pair of test is left: 1 are empty on a side"),
    ],
)
def test_texts_that_cannot_be_read_are_named_and_leave_nothing(tmp_path, name, content, message):
    folder = write(tmp_path / "mine", OWN | {name: content})
    with pytest.raises(ValueError, match="^" + message.format(folder=folder)):
        own(folder)
    assert sorted(os.listdir(folder)) == sorted(OWN)


def test_empty_texts_are_named(tmp_path):
    folder = write(tmp_path / "mine", OWN | {"val.en": b"", "val.de": b""})
    with pytest.raises(ValueError, match=rf"^{folder}/val\.en and {folder}/val\.de are empty: they hold no sentences$"):
        own(folder)


def test_a_missing_text_of_ones_own_is_named_with_all(tmp_path):
    folder = write(tmp_path / "mine", OWN)
    (folder / "val.de").unlink()
    with pytest.raises(FileNotFoundError, match=rf"^{folder}/val\.de is missing; mine needs train\.en, train\.de, val"):
        own(folder)
    (folder / "val.de").mkdir()
    with pytest.raises(ValueError, match=rf"^{folder}/val\.de cannot be read \(Is a directory\)$"):
        own(folder)


def test_a_file_named_twice_is_refused(tmp_path):
    write(tmp_path / "mine", OWN)
    with pytest.raises(ValueError, match=r"^task\.corpus: train\.en, train\.de, train\.en, .* name a file twice"):
        own(tmp_path / "mine", val="train")
    with pytest.raises(ValueError, match=r"name a file twice; give six files$"):
        text_pairs(tmp_path, "mine", "en", "en")
