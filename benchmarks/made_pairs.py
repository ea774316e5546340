"""Pairs of sentences made in code, in numbers alone, whose lengths are spread as those of a real text."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from experiments.translation.corpus import TranslationCorpus
from experiments.translation.store import TokenPairs, token_dtype
from experiments.translation.subwords import EOS, SPECIAL

SEED = 20191908
SHORTEST = 5  # tokens, with EOS


def made_pairs(
    data_dir: str | Path | None = None,
    folder: str | None = None,
    source: str | None = None,
    target: str | None = None,
    vocabulary: int = 8000,
    longest: int = 128,
    median: float = 16.0,
    spread: float = 0.31,
    words: int = 50,
    train_pairs: int = 29_000,
    test_pairs: int = 1000,
) -> TranslationCorpus:
    """Return pairs whose target is the source word for word, each by a lexicon of `words`; the same at every call.

    The logarithms of lengths, EOS counted, are normal around that of `median`, with the deviation `spread`: the
    defaults are Multi30k's in 4,000 subwords (there a target is 6 % longer than its source). No sentence has more than
    `longest` tokens. The words are few so that a model learns the lexicon within some hundred updates, whatever its
    `vocabulary`. There is no text: `subwords` knows its size alone. `data_dir`, `folder`, `source` and
    `target` are not read.
    """
    draw = np.random.default_rng(SEED)
    words = min(words, (vocabulary - len(SPECIAL)) // 2)
    numbers = draw.permutation(np.arange(len(SPECIAL), vocabulary))[: 2 * words].reshape(2, words)
    splits = {}
    for split, count in (("train", train_pairs), ("val", test_pairs), ("test", test_pairs)):
        lengths = np.exp(draw.normal(np.log(median), spread, count)).round()
        lengths = np.clip(lengths, min(SHORTEST, longest), longest).astype(np.int64)
        ends = lengths.cumsum()
        chosen = draw.integers(0, words, ends[-1])
        texts = [side[chosen].astype(token_dtype(vocabulary)) for side in numbers]
        for text in texts:
            text[ends - 1] = EOS
        starts = np.concatenate([[0], ends])
        splits[split] = TokenPairs(*texts, starts, starts)
    subwords = SimpleNamespace(size=vocabulary, digest="00000000")
    return TranslationCorpus(subwords, **splits, sources={}, references={}, counts={"train pairs": train_pairs})
