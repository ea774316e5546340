"""Aligned texts: what a line is, what is dropped and counted, and what ends in an error with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.translation import pairs as pairs_module
from experiments.translation.pairs import Encoder, aligned, lines_of, write_pairs
from experiments.translation.store import read_store, writing
from experiments.translation.subwords import EOS, Subwords


@pytest.fixture(scope="module")
def subwords() -> Subwords:
    return Subwords.learn(["a b c d"] * 2, 9)  # each word is one subword after the space, or two


def text(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_line_feeds_alone_end_lines(tmp_path):
    path = text(tmp_path / "a.en", "a\u2028b\x0b\x0c\x1c\x85c\u2029 d\r\n\r\n  e\u00a0 f\ng\rh".encode())
    assert list(lines_of(path)) == ["a b c d", "", "e f", "g h"]


@pytest.mark.parametrize(("content", "lines"), [(b"", []), (b"\n", [""]), (b"a", ["a"]), (b"a\n\n", ["a", ""])])
def test_a_line_need_not_end_and_an_empty_one_counts(tmp_path, content, lines):
    assert list(lines_of(text(tmp_path / "a.en", content))) == lines


def test_a_byte_order_mark_goes_at_the_beginning_alone(tmp_path):
    assert list(lines_of(text(tmp_path / "a.en", "\ufeffa\n\ufeffb".encode()))) == ["a", "\ufeffb"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nna\xefve\n", r"line 2: its bytes are not UTF-8 \(0xef after 2 bytes\)"),
        (b"\xef\xbb\xbfa\xff", r"line 1: its bytes are not UTF-8 \(0xff after 1 bytes\)"),
        (b"\xff\xfea\x00\n\x00", r"line 1: its bytes are not UTF-8 \(0xff after 0 bytes\)"),  # UTF-16
    ],
)
def test_bytes_that_are_not_utf_8_are_named_with_file_and_line(tmp_path, content, message):
    path = text(tmp_path / "a.en", content)
    with pytest.raises(ValueError, match=rf"^{path}, {message}$"):
        list(lines_of(path))


def test_a_folder_in_a_file_s_place_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match=rf"^{tmp_path} cannot be read \(Is a directory\)$"):
        list(lines_of(tmp_path))


def test_lines_of_the_same_number_are_a_pair(tmp_path):
    source, target = text(tmp_path / "a.en", b"a\n\nb\n"), text(tmp_path / "a.de", b"c\nd\n\n")
    assert list(aligned(source, target)) == [("a", "c"), ("", "d"), ("b", "")]


@pytest.mark.parametrize(("lines", "others"), [(1, 3), (3, 1), (2, 3), (0, 1), (1, 0)])
def test_unequal_numbers_of_lines_are_named_with_both_files(tmp_path, lines, others):
    source, target = text(tmp_path / "a.en", b"a\n" * lines), text(tmp_path / "a.de", b"b\n" * others)
    with pytest.raises(ValueError, match=rf"^{source} has {lines} lines, but {target} has {others}; line n of"):
        list(aligned(source, target))


def test_texts_without_lines_are_named(tmp_path):
    source, target = text(tmp_path / "a.en", b""), text(tmp_path / "a.de", b"")
    with pytest.raises(ValueError, match=rf"^{source} and {target} are empty: they hold no sentences$"):
        list(aligned(source, target))


PAIRS = [("a", "b"), ("", "a"), ("a b c", "d"), ("a", "b c d"), ("a", ""), ("a b", "c d"), ("", "")]


def test_pairs_that_are_empty_or_too_long_are_dropped_and_counted(subwords):
    word = dict(zip("abcd", subwords.encode(list("abcd")), strict=True))
    length = len(word["a"])
    assert {len(row) for row in word.values()} == {length}
    encoder = Encoder(subwords, longest=2 * length + 1)
    ((sources, targets),) = encoder.encoded("train", PAIRS)
    assert sources == [[*word["a"], EOS], [*word["a"], *word["b"], EOS]]
    assert targets == [[*word["b"], EOS], [*word["c"], *word["d"], EOS]]
    counts = {"train pairs": 2, "train pairs dropped, empty": 3, "train pairs dropped, too long": 2}
    assert encoder.counts == counts
    list(encoder.encoded("val", [("a", "b"), ("a", "")]))
    others = {"val pairs": 1, "val pairs dropped, empty": 1, "val pairs dropped, too long": 0}
    assert encoder.counts == counts | others


def test_pieces_make_no_difference(subwords, monkeypatch):
    def encoded() -> tuple[list, dict]:
        encoder = Encoder(subwords, longest=5)
        pieces = list(encoder.encoded("train", iter(PAIRS)))
        return [[row for piece in pieces for row in piece[side]] for side in (0, 1)], encoder.counts

    whole = encoded()
    for size in (1, 2, 6, 7):
        monkeypatch.setattr(pairs_module, "PIECE", size)
        assert encoded() == whole


def test_a_split_of_which_nothing_is_left_is_named(subwords):
    encoder = Encoder(subwords, longest=2)
    message = r"^no pair of val is left: 1 are empty on a side, and 1 have more than longest=2 subwords on one$"
    with pytest.raises(ValueError, match=message):
        list(encoder.encoded("val", [("", "a"), ("a b c", "d")]))


def test_evaluations_keep_all_lines_and_training_none(subwords, tmp_path):
    told = []
    with writing(tmp_path / "store", subwords) as writer:
        texts = {"train": iter(PAIRS), "val": iter(PAIRS), "test": iter(PAIRS[:3])}
        counts = write_pairs(writer, texts, 5, told.append)
        writer.finish(counts, {})
    store = read_store(tmp_path / "store")
    assert store.lines == {
        ("val", "source"): ["a", "", "a b c", "a", "a", "a b", ""],
        ("val", "target"): ["b", "a", "d", "b c d", "", "c d", ""],
        ("test", "source"): ["a", "", "a b c"],
        ("test", "target"): ["b", "a", "d"],
    }
    assert {split: len(pairs) for split, pairs in store.pairs.items()} == {"train": 2, "val": 2, "test": 1}
    assert told == [2, 2, 1]
    assert counts == store.counts
    assert counts["test pairs dropped, too long"] == 1
