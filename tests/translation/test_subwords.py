"""Subwords: what is learned, that lines come back, and what cannot be learned or loaded."""

from __future__ import annotations

import io
import pickle
import re
import unicodedata

import pytest

from experiments.translation.subwords import BOS, EOS, PAD, SPECIAL, UNKNOWN, Subwords

LINES = [
    "a dog runs",
    "the dogs run",
    "a running dog",
    "ein Hund läuft",
    "die Hunde laufen",
    "ein laufender Hund",
    "zwei Hunde",
    "two dogs",
]


@pytest.fixture(scope="module")
def subwords() -> Subwords:
    return Subwords.learn(LINES, 50)


def model(lines: list[str], **settings) -> bytes:
    """Return what sentencepiece itself learns from lines."""
    from sentencepiece import SentencePieceTrainer

    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=written, model_type="bpe", minloglevel=2, **settings
    )
    return written.getvalue()


def test_the_special_numbers_come_first_and_the_vocabulary_counts_them(subwords):
    assert (PAD, BOS, EOS, UNKNOWN) == (0, 1, 2, 3)
    assert subwords.size == 50
    numbers = {number for row in subwords.encode(LINES) for number in row}
    assert min(numbers) > UNKNOWN
    assert max(numbers) < 50


def test_lines_come_back_as_they_were(subwords):
    assert subwords.decode(subwords.encode(LINES)) == LINES


def test_white_space_becomes_one_space_and_accents_are_composed(subwords):
    separated = " a\u2028dog\t\u00a0runs\r"
    assert subwords.encode([separated]) == subwords.encode(["a dog runs"])
    assert subwords.encode([unicodedata.normalize("NFD", "läuft")]) == subwords.encode(["läuft"])
    assert Subwords.learn([unicodedata.normalize("NFD", line) for line in LINES], 50) == subwords


def test_nothing_else_is_changed():
    unusual = ["ﬁn … ½ \uff21 “x” 10²"]  # what sentencepiece's usual normalization would replace
    learned = Subwords.learn(unusual * 2, 24)
    assert learned.decode(learned.encode(unusual)) == unusual


def test_unknown_characters_are_unknown_and_leave_no_trace(subwords):
    (row,) = subwords.encode(["a 犬 dog"])
    assert UNKNOWN in row
    assert subwords.decode([row]) == ["a  dog"]
    assert subwords.decode([[BOS, *subwords.encode(["a dog"])[0], EOS, PAD, PAD]]) == ["a dog"]


def test_names_of_special_subwords_in_a_text_are_text(subwords):
    (row,) = subwords.encode(["</s> <s> <pad>"])
    assert not {PAD, BOS, EOS}.intersection(row)


def test_blank_lines_and_empty_lists_have_no_numbers(subwords):
    assert subwords.encode(["", " \u2028 "]) == [[], []]
    assert subwords.encode([]) == []
    assert subwords.decode([]) == []
    assert subwords.decode([[], [EOS]]) == ["", ""]


@pytest.mark.parametrize("number", [-1, 50])
def test_a_number_of_no_subword_is_named(subwords, number):
    with pytest.raises(ValueError, match=rf"^{number} is the number of none of the 50 subwords$"):
        subwords.decode([[5], [6, number]])


def test_the_same_lines_give_the_same_model_and_digest(subwords):
    again = Subwords.learn(iter(LINES), 50)
    assert again == subwords
    assert hash(again) == hash(subwords)
    assert re.fullmatch("[0-9a-f]{8}", subwords.digest)
    assert again.digest == subwords.digest
    other = Subwords.learn(LINES, 49)
    assert other != subwords
    assert other.digest != subwords.digest


def test_lines_that_are_blank_or_hold_sentencepiece_s_own_mark_do_not_matter(subwords):
    assert Subwords.learn([*LINES, "", " \u2029"], 50) == subwords
    with_mark = [line.replace("dog", "d\u2585og") for line in LINES]
    assert Subwords.learn(with_mark, 50) == subwords


def test_a_long_line_is_learned_from():
    # Longer than sentencepiece's 4,192 bytes, above which it leaves lines out.
    learned = Subwords.learn(["b", " ".join(["ac"] * 3000)], 9)
    assert UNKNOWN not in learned.encode(["a c b"])[0]


def test_a_sample_is_always_the_same_and_takes_all_where_there_are_fewer():
    lines = [f"{line} {number}" for number in range(40) for line in LINES]
    whole = Subwords.learn(lines, 60)
    assert Subwords.learn(lines, 60, sample=320) == whole
    assert Subwords.learn(lines, 60, sample=1000) == whole
    some = Subwords.learn(lines, 60, sample=100)
    assert some == Subwords.learn(iter(lines), 60, sample=100)
    assert some != whole
    assert some != Subwords.learn(lines[:100], 60)


def test_a_sample_has_each_line_with_the_same_chance():
    from experiments.translation.subwords import _sample

    chosen = _sample(map(str, range(10_000)), 1000)
    assert len(set(chosen)) == 1000
    # Of each thousand lines, 100 are expected with a standard deviation of 9: five of them are 45.
    for first in range(0, 10_000, 1000):
        assert 55 < sum(first <= int(line) < first + 1000 for line in chosen) < 145


def test_rarer_characters_than_the_coverage_are_unknown():
    lines = ["ab ab ab ba ba"] * 1000 + ["q"]
    assert UNKNOWN not in Subwords.learn(lines, 10).encode(["q"])[0]
    assert UNKNOWN in Subwords.learn(lines, 9, coverage=0.999).encode(["q"])[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vocabulary": 4}, "vocabulary=4 is not possible; give a whole number of at least 5"),
        ({"vocabulary": 50.0}, r"vocabulary=50\.0 is not possible"),
        ({"vocabulary": True}, "vocabulary=True is not possible"),
        ({"vocabulary": 50, "sample": 0}, "sample=0 is not possible; give a whole number of at least 1, or null"),
        ({"vocabulary": 50, "sample": True}, "sample=True is not possible"),
        ({"vocabulary": 50, "coverage": 0.5}, r"coverage=0\.5 is not possible; give a number from 0\.9 to 1"),
        ({"vocabulary": 50, "coverage": 1.5}, r"coverage=1\.5 is not possible"),
        ({"vocabulary": 50, "coverage": True}, "coverage=True is not possible"),
    ],
)
def test_values_out_of_range_are_named(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Subwords.learn(LINES, **given)


def test_a_vocabulary_that_the_text_does_not_give_is_named_with_one_that_it_does():
    with pytest.raises(
        ValueError, match=r"^vocabulary=5000 is more than the text gives; give at most (\d+)$"
    ) as caught:
        Subwords.learn(LINES, 5000)
    most = int(str(caught.value).rpartition(" ")[2])
    assert Subwords.learn(LINES, most).size == most
    with pytest.raises(ValueError, match=r"^vocabulary=9 is too small .*; give at least (\d+)$") as caught:
        Subwords.learn(LINES, 9)
    least = int(str(caught.value).rpartition(" ")[2])
    assert Subwords.learn(LINES, least).size == least


@pytest.mark.parametrize("lines", [[], ["", " \n"], ["\u2585"]])
def test_no_words_are_a_clear_line(lines):
    with pytest.raises(ValueError, match=r"^there are no words to learn subwords from$"):
        Subwords.learn(lines, 50)


def test_a_file_keeps_the_model(subwords, tmp_path):
    subwords.save(tmp_path / "subwords.model")
    assert Subwords.load(str(tmp_path / "subwords.model")) == subwords
    assert [path.name for path in tmp_path.iterdir()] == ["subwords.model"]
    assert pickle.loads(pickle.dumps(subwords)) == subwords


def test_files_that_are_no_model_are_named(subwords, tmp_path):
    path = tmp_path / "subwords.model"
    with pytest.raises(FileNotFoundError, match=rf"^{path} is missing: the model of the subwords$"):
        Subwords.load(path)
    for content in (b"", b"no model at all", subwords.model[:-100]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^{path}: this is no model of sentencepiece, or one cut short$"):
            Subwords.load(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=rf"^{path} cannot be read \(Is a directory\)$"):
        Subwords.load(path)


def test_a_model_with_other_special_numbers_is_refused():
    with pytest.raises(ValueError, match=r"pad -1, bos 1, eos 2, unk 0\); they have to be pad 0, bos 1, eos 2, unk 3$"):
        Subwords(model(LINES, vocab_size=50))
    numbers = {f"{name}_id": number for name, number in SPECIAL.items()}
    assert Subwords(model(LINES, vocab_size=50, **numbers)).size == 50
