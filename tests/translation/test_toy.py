"""The toy language: its translation is what it says, it is always the same, and its splits share no sentence."""

from __future__ import annotations

import pytest

from experiments.translation.toy import made


def test_the_translation_is_the_sentence_reversed_each_word_by_one_lexicon():
    corpus = made()
    lexicon: dict[str, str] = {}
    for split in ("val", "test"):
        for source, target in zip(corpus.sources[split], corpus.references[split], strict=True):
            words, translated = source.split(), target.split()[::-1]
            assert len(words) == len(translated)
            for word, other in zip(words, translated, strict=True):
                assert lexicon.setdefault(word, other) == other
    assert len(lexicon) == len(set(lexicon.values())) == 60
    assert not set(lexicon) & set(lexicon.values())


def test_numbers_and_lines_agree_and_no_sentence_comes_twice():
    corpus = made(train_pairs=500, val_pairs=40, test_pairs=30)
    assert {split: len(getattr(corpus, split)) for split in ("train", "val", "test")} == {
        "train": 500,
        "val": 40,
        "test": 30,
    }
    every = []
    for split in ("train", "val", "test"):
        pairs = getattr(corpus, split)
        rows = [pairs.pair(number) for number in range(len(pairs))]
        sources, targets = (corpus.subwords.decode([row[side] for row in rows]) for side in (0, 1))
        assert all(row[side][-1] == 2 for row in rows for side in (0, 1))
        every += sources
        if split != "train":
            assert (sources, targets) == (corpus.sources[split], corpus.references[split])
    assert len(set(every)) == len(every) == 570
    lengths = {len(line.split()) for line in every}
    assert lengths == set(range(3, 11))
    assert corpus.counts == {
        "train pairs": 500,
        "train pairs dropped, empty": 0,
        "train pairs dropped, too long": 0,
        "val pairs": 40,
        "val pairs dropped, empty": 0,
        "val pairs dropped, too long": 0,
        "test pairs": 30,
        "test pairs dropped, empty": 0,
        "test pairs dropped, too long": 0,
    }


def test_it_is_always_the_same_whatever_is_asked_of_training_or_not_read():
    corpus = made(train_pairs=100)
    again = made("nowhere", folder="multi30k", source="en", target="de", train_pairs=200)
    assert corpus.sources == again.sources
    assert corpus.references == again.references
    assert made(train_pairs=100).digest("train") == corpus.digest("train")
    assert corpus.subwords.size == 96
    assert len(made().train) == 4000


@pytest.mark.parametrize(("words", "pairs", "vocabulary"), [(2, 20, 24), (100, 500, 48), (1225, 500, 48)])
def test_lexicons_of_any_size_hold_as_many_words(words, pairs, vocabulary):
    corpus = made(words=words, train_pairs=pairs, val_pairs=1, test_pairs=1, shortest_sentence=8, vocabulary=vocabulary)
    decoded = corpus.subwords.decode([corpus.train.pair(number)[0] for number in range(pairs)])
    found = {word for line in decoded for word in line.split()}
    assert len(found) == words if words < 1225 else 1100 < len(found) <= 1225


def test_sentences_above_the_limit_are_dropped_and_counted():
    corpus = made(train_pairs=200, longest=12)
    assert 0 < corpus.counts["train pairs dropped, too long"] == 200 - len(corpus.train)
    assert max(corpus.train.lengths()[0].max(), corpus.train.lengths()[1].max()) == 12
    assert len(corpus.sources["val"]) == 100 > len(corpus.val)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"words": 1}, r"task\.corpus\.words=1 is not possible; give a whole number from 2 to 1225$"),
        ({"words": 1226}, r"task\.corpus\.words=1226 is not possible"),
        ({"words": True}, r"task\.corpus\.words=True is not possible"),
        ({"shortest_sentence": 0}, r"task\.corpus\.shortest_sentence=0 is not possible; .* of at least 1$"),
        ({"shortest_sentence": "3"}, r"task\.corpus\.shortest_sentence=3 is not possible"),
        ({"longest_sentence": 2}, r"task\.corpus\.longest_sentence=2 is not possible; .* of at least 3$"),
        ({"train_pairs": 0}, r"task\.corpus\.train_pairs=0 is not possible; give a whole number of at least 1$"),
        ({"val_pairs": 1.5}, r"task\.corpus\.val_pairs=1\.5 is not possible"),
        ({"test_pairs": None}, r"task\.corpus\.test_pairs=None is not possible"),
        ({"longest": 1}, r"task\.corpus\.longest=1 is not possible; give a whole number of at least 2$"),
        ({"vocabulary": 4}, r"task\.vocabulary=4 is not possible; give a whole number of at least 5$"),
        ({"vocabulary": 20}, r"task\.vocabulary=20 is too small .*; give at least \d+$"),
        ({"vocabulary": 9000}, r"task\.vocabulary=9000 is more than the text gives; give at most \d+$"),
        ({"longest": 2}, r"no pair of train is left"),
        ({"words": 5, "longest_sentence": 3}, r"4200 different sentences are too many for the 125 that .*words=5 and"),
    ],
)
def test_values_out_of_range_are_named(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        made(**given)


def test_as_many_sentences_as_half_of_all_are_possible():
    corpus = made(words=5, longest_sentence=3, train_pairs=50, val_pairs=6, test_pairs=6, vocabulary=40)
    assert len(corpus.train) == 50
    with pytest.raises(ValueError, match=r"^63 different sentences are too many for the 125 that"):
        made(words=5, longest_sentence=3, train_pairs=51, val_pairs=6, test_pairs=6, vocabulary=40)
