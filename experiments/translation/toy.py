"""A toy language made in code: its translation is the sentence reversed, each word by a lexicon."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

from experiments.translation.corpus import TranslationCorpus, learned
from experiments.translation.pairs import Encoder, Pair
from experiments.translation.store import SPLITS, TokenPairs

SYLLABLES = {"source": ("bdfgklm", "aeiou"), "target": ("nprstvz", "äeiöü")}
SEED = 20191908


def made(
    data_dir: str | Path | None = None,
    words: int = 60,
    shortest_sentence: int = 3,
    longest_sentence: int = 10,
    train_pairs: int | None = None,
    val_pairs: int = 100,
    test_pairs: int = 100,
    vocabulary: int = 96,
    longest: int = 64,
    folder: str | None = None,
    source: str | None = None,
    target: str | None = None,
) -> TranslationCorpus:
    """Return a text of made words from a fixed seed, the same whatever its splits' sizes; no sentence comes twice.

    `words` is the size of the lexicon; `shortest_sentence` and `longest_sentence` count words. `train_pairs` of None is
    4,000. `vocabulary` and `longest` are as for texts in files. `data_dir`, `folder`, `source` and `target` are not
    read: a configuration that puts this text in the place of files has them. Raises ValueError for values out of range.
    """
    sizes = {"train": 4000 if train_pairs is None else train_pairs, "val": val_pairs, "test": test_pairs}
    _check(locals())
    texts = _texts(words, (shortest_sentence, longest_sentence), sizes)
    subwords = learned(itertools.chain.from_iterable(texts["train"]), vocabulary)
    encoder = Encoder(subwords, longest)
    pairs = {}
    for split in SPLITS:
        sources, targets = [], []
        for kept_sources, kept_targets in encoder.encoded(split, texts[split]):
            sources += kept_sources
            targets += kept_targets
        pairs[split] = TokenPairs.of(sources, targets)
    lines = [{split: [pair[side] for pair in texts[split]] for split in ("val", "test")} for side in (0, 1)]
    return TranslationCorpus(subwords, **pairs, sources=lines[0], references=lines[1], counts=encoder.counts)


def _check(given: dict[str, Any]) -> None:
    """Raise ValueError, naming value and choices, for the first argument out of range."""
    most = 35**2  # words of two syllables
    ranges = {
        "words": (2, most),
        "shortest_sentence": (1, None),
        "longest_sentence": (given["shortest_sentence"], None),
        "longest": (2, None),
    } | {f"{split}_pairs": (1, None) for split in SPLITS}
    for name, (least, largest) in ranges.items():
        value = given["sizes"][name.removesuffix("_pairs")] if name.endswith("_pairs") else given[name]
        if type(value) is not int or value < least or (largest is not None and value > largest):
            most = f" from {least} to {largest}" if largest else f" of at least {least}"
            key = "task.vocabulary" if name == "vocabulary" else f"task.corpus.{name}"
            raise ValueError(f"{key}={value} is not possible; give a whole number{most}")
    lengths = range(given["shortest_sentence"], given["longest_sentence"] + 1)
    sentences, wanted = sum(given["words"] ** length for length in lengths), sum(given["sizes"].values())
    if wanted > sentences // 2:  # more would take long to be found by chance
        raise ValueError(
            f"{wanted} different sentences are too many for the {sentences} that task.corpus.words={given['words']} "
            "and the lengths give; give more words, or longer sentences"
        )


def _texts(words: int, lengths: tuple[int, int], sizes: dict[str, int]) -> dict[str, list[Pair]]:
    """Return the pairs of each split, each a draw of its own from the sentences that no split before it has."""
    lexicon = _lexicon(words)
    names = list(lexicon)
    seen: set[tuple[str, ...]] = set()
    texts = {}
    for split in ("test", "val", "train"):  # so that more pairs of training leave the others as they are
        draw = random.Random(f"{SEED} {split}")
        pairs: list[Pair] = []
        while len(pairs) < sizes[split]:
            sentence = tuple(draw.choices(names, k=draw.randint(*lengths)))
            if sentence not in seen:
                seen.add(sentence)
                pairs.append((" ".join(sentence), " ".join(lexicon[word] for word in reversed(sentence))))
        texts[split] = pairs
    return texts


def _lexicon(words: int) -> dict[str, str]:
    """Return the translation of each word; every word has two syllables, of few, and no two words are alike."""
    sides = []
    for side, letters in SYLLABLES.items():
        draw = random.Random(f"{SEED} {side}")
        every = ["".join(pair) for pair in itertools.product(*letters)]
        syllables = draw.sample(every, min(len(every), math.isqrt(words) + 3))  # more words than are needed
        sides.append(draw.sample(["".join(pair) for pair in itertools.product(syllables, repeat=2)], words))
    return dict(zip(*sides, strict=True))
