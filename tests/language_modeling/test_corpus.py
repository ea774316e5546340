"""Texts as numbers: what they hold, and what missing, altered or unfit files lead to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from experiments.language_modeling import corpus as corpora
from experiments.language_modeling.corpus import EOS, Corpus, corpus_of, made, penn_treebank, text_files
from tests.helpers.downloads import delivering, in_folder, write

DATA = Path(__file__).resolve().parents[2] / "data"
TEXTS = {"train": " a b <unk>\n b c \n", "val": " c d \n", "test": " a e \n\n"}
FILES = {"train": "ptb.train.txt", "val": "ptb.valid.txt", "test": "ptb.test.txt"}


@pytest.fixture
def usual(monkeypatch) -> dict[str, bytes]:
    """Take the three files of TEXTS for the usual ones; return them by name."""
    contents = {FILES[split]: text.encode() for split, text in TEXTS.items()}
    known = {split: (name, hashlib.sha256(contents[name]).hexdigest()) for split, name in FILES.items()}
    monkeypatch.setattr(corpora, "PENN_TREEBANK", known)
    monkeypatch.setattr(corpora, "PENN_TREEBANK_TOKENS", {"train": 7, "val": 3, "test": 4})
    monkeypatch.setattr(corpora, "PENN_TREEBANK_WORDS", 7)
    return contents


def words(found: Corpus, split: str) -> str:
    return " ".join(found.words[token] for token in getattr(found, split).tolist())


def test_lines_become_words_with_an_end_and_the_vocabulary_grows_over_the_splits_in_order(tmp_path, usual, offline):
    write(tmp_path / "ptb", usual)
    found = penn_treebank(tmp_path)
    assert found.words == ("a", "b", "<unk>", EOS, "c", "d", "e")
    assert found.train.tolist() == [0, 1, 2, 3, 1, 4, 3]
    assert found.val.tolist() == [4, 5, 3]
    assert found.test.tolist() == [0, 6, 3, 3]  # an empty line is an end alone
    assert {found.train.dtype, found.val.dtype, found.test.dtype} == {torch.int64}


def test_the_first_tokens_alone_keep_the_whole_vocabulary(tmp_path, usual, offline):
    write(tmp_path / "ptb", usual)
    whole = penn_treebank(tmp_path)
    found = penn_treebank(tmp_path, train_tokens=2, val_tokens=1)
    assert found.words == whole.words
    assert (found.train.tolist(), found.val.tolist(), found.test.tolist()) == ([0, 1], [4], [0, 6, 3, 3])
    most = penn_treebank(tmp_path, train_tokens=7, test_tokens=4)
    assert torch.equal(most.train, whole.train)
    assert torch.equal(most.test, whole.test)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_tokens": 0}, r"train_tokens=0 is not possible; give a whole number from 1 to 929589, or null$"),
        ({"train_tokens": 929_590}, r"train_tokens=929590 is not possible"),
        ({"val_tokens": True}, r"val_tokens=True is not possible; give a whole number from 1 to 73760, or null$"),
        ({"test_tokens": 1e3}, r"test_tokens=1000\.0 is not possible; give a whole number from 1 to 82430, or null$"),
    ],
)
def test_numbers_of_tokens_out_of_range_are_named_before_a_file_is_read(tmp_path, offline, given, message):
    with pytest.raises(ValueError, match=rf"^task\.corpus\.{message}"):
        penn_treebank(tmp_path, **given)


@pytest.mark.skipif(
    not all((DATA / "ptb" / name).is_file() for name in FILES.values()),
    reason=f"the files of Penn Treebank are not in {DATA / 'ptb'}: task=ptb downloads them",
)
def test_the_real_files_are_the_usual_ones_with_the_numbers_of_tokens_and_words_that_are_published(offline):
    found = penn_treebank(DATA)
    assert [len(found.train), len(found.val), len(found.test)] == [929_589, 73_760, 82_430]
    assert len(found.words) == 10_000
    assert words(found, "train").startswith("aer banknote berlitz calloway")
    assert [int((getattr(found, split) == found.words.index(EOS)).sum()) for split in ("train", "val", "test")] == [
        42_068,
        3_370,
        3_761,
    ]


@pytest.mark.parametrize("name", FILES.values())
def test_a_missing_file_is_named_with_its_folder_in_one_line(tmp_path, usual, offline, name):
    del usual[name]
    folder = write(tmp_path / "ptb", usual)
    with pytest.raises(FileNotFoundError) as caught:
        penn_treebank(tmp_path)
    assert str(caught.value) == (
        f"{folder / name} is missing, and the download failed (<urlopen error Name or service not known>); "
        f"put the files of {corpora.URL} into {folder}: ptb.train.txt, ptb.valid.txt, ptb.test.txt"
    )
    assert in_folder(folder) == usual


@pytest.mark.parametrize("name", FILES.values())
def test_an_altered_file_is_named_and_never_replaced(tmp_path, usual, monkeypatch, name):
    asked = delivering(monkeypatch, usual)
    altered = usual | {name: usual[name] + b" f \n"}
    folder = write(tmp_path / "ptb", altered)
    with pytest.raises(ValueError, match=rf"^{folder}/{name} is not the usual file .*\.corpus\.text_files for a text"):
        penn_treebank(tmp_path)
    assert in_folder(folder) == altered
    assert asked == []


def test_all_are_downloaded_into_folders_that_there_were_not(tmp_path, usual, monkeypatch):
    asked = delivering(monkeypatch, usual)
    assert words(penn_treebank(tmp_path / "new" / "data"), "val") == "c d <eos>"
    assert in_folder(tmp_path / "new" / "data" / "ptb") == usual
    assert asked == [f"{corpora.URL}/{name}" for name in usual]


def test_a_folder_in_a_file_s_place_is_one_clear_line(tmp_path, usual, offline):
    folder = write(tmp_path / "ptb", {name: data for name, data in usual.items() if name != "ptb.test.txt"})
    (folder / "ptb.test.txt").mkdir()
    with pytest.raises(ValueError, match=r"ptb\.test\.txt cannot be read \(Is a directory\)"):
        penn_treebank(tmp_path)


OWN = {"train.txt": b"a b <unk>\nb c\n", "valid.txt": b"c d\n", "test.txt": b"a"}


def test_words_that_the_training_text_does_not_have_are_unknown(tmp_path):
    write(tmp_path / "mine", OWN)
    found = text_files(tmp_path, "mine")
    assert found.words == ("a", "b", "<unk>", EOS, "c")
    assert words(found, "val") == "c <unk> <eos>"
    assert words(found, "test") == "a <eos>"  # without an end of the last line, too
    assert text_files(tmp_path, "mine", vocabulary="all").words == ("a", "b", "<unk>", EOS, "c", "d")


def test_a_word_outside_the_vocabulary_without_unk_is_named(tmp_path):
    folder = write(tmp_path / "mine", OWN | {"train.txt": b"a b\nb c\n"})
    with pytest.raises(ValueError, match=rf"{folder}/valid\.txt has the word 'd', which is not among the 4 of"):
        text_files(tmp_path, "mine")
    assert words(text_files(tmp_path, "mine", vocabulary="all"), "val") == "c d <eos>"


@pytest.mark.parametrize("text", [b"", b"\n \n"])
@pytest.mark.parametrize("name", OWN)
def test_an_empty_split_is_named(tmp_path, name, text):
    folder = write(tmp_path / "mine", OWN | {name: text})
    with pytest.raises(ValueError, match=rf"^{folder}/{name} is empty: it holds no words$"):
        text_files(tmp_path, "mine")


def test_bytes_that_are_not_utf_8_are_named_with_their_place(tmp_path):
    folder = write(tmp_path / "mine", OWN | {"valid.txt": b"na\xefve"})
    with pytest.raises(ValueError, match=rf"^{folder}/valid\.txt is not in UTF-8: its byte 2 is 0xef$"):
        text_files(tmp_path, "mine")


def test_a_mark_of_utf_8_and_other_ends_of_lines_are_no_words(tmp_path):
    write(tmp_path / "mine", OWN | {"train.txt": b"\xef\xbb\xbfa b\r\nb <unk>\r\n"})
    found = text_files(tmp_path, "mine")
    assert words(found, "train") == "a b <eos> b <unk> <eos>"
    assert found.words == ("a", "b", EOS, "<unk>")


def test_a_missing_file_of_ones_own_is_named_and_unknown_sources_are_refused_first(tmp_path):
    folder = write(tmp_path / "mine", {"train.txt": b"a"})
    with pytest.raises(
        FileNotFoundError, match=rf"^{folder}/valid\.txt is missing; a text needs the files train\.txt, "
    ):
        text_files(tmp_path, "mine")
    with pytest.raises(ValueError, match=r"task\.corpus\.vocabulary=none is none of all, train"):
        text_files(tmp_path / "nowhere", "mine", vocabulary="none")


def test_made_text_is_always_the_same_has_all_its_words_and_can_be_learned():
    found, again = made(), made(train_tokens=1300)
    assert torch.equal(found.train, again.train[:1200])
    assert torch.equal(found.val, again.val)
    assert [len(found.train), len(found.val), len(found.test)] == [1200, 240, 240]
    assert len(set(found.words)) == len(found.words) == 40
    for split in ("train", "val", "test"):
        assert set(getattr(found, split).tolist()) == set(range(40))
    pairs = set(zip(found.train.tolist(), found.train[1:].tolist(), strict=False))
    later = list(zip(found.val[40:].tolist(), found.val[41:].tolist(), strict=False))
    # 200 pairs, of which nine tenths are among three of forty words; by chance an eighth would have been seen.
    assert sum(pair in pairs for pair in later) > 0.85 * len(later)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"words": 3}, r"task\.corpus\.words=3 is not possible; give a whole number of at least 4"),
        ({"words": True}, r"task\.corpus\.words=True is not possible"),
        ({"val_tokens": 39}, r"task\.corpus\.val_tokens=39 is not possible; give a whole number of at least 40"),
        ({"train_tokens": 1e3}, r"task\.corpus\.train_tokens=1000\.0 is not possible"),
    ],
)
def test_numbers_of_made_text_out_of_range_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        made(**given)


def test_made_text_may_be_as_small_as_it_just_can():
    found = made(words=4, train_tokens=4, val_tokens=4, test_tokens=4)
    assert found.words == ("<unk>", "w0", "w1", EOS)
    assert found.train.tolist() == found.val.tolist() == found.test.tolist() == [0, 1, 2, 3]


def test_digests_tell_texts_apart():
    one = corpus_of({split: text.split() for split, text in TEXTS.items()})
    other = corpus_of({split: text.split() for split, text in (TEXTS | {"val": "c e"}).items()})
    assert one.digest("train") == other.digest("train")
    assert one.val.tolist() == other.val.tolist() == [3, 4]  # the same places, of other words
    assert one.digest("val") != other.digest("val")
    assert one.digest("val") == hashlib.sha256(b"c d").hexdigest()[:8]
