"""What a translation task reads: pairs as numbers, and the lines that BLEU is of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from experiments.translation.store import SPLITS, Store, TokenPairs
from experiments.translation.subwords import Subwords

EVALUATED = ("val", "test")  # the splits whose lines are translated


@dataclass(frozen=True)
class TranslationCorpus:
    """The splits of a parallel text.

    Sentences without words and those above a limit of length are not in `train`, `val` and `test`, and counted in
    `counts`; `sources` and `references`, of "val" and "test", have all lines, as BLEU is of all.
    """

    subwords: Subwords
    train: TokenPairs
    val: TokenPairs
    test: TokenPairs
    sources: dict[str, list[str]]
    references: dict[str, list[str]]
    counts: dict[str, int]

    def digest(self, split: str) -> str:
        """Return a short digest of a split: its subwords, numbers and lines."""
        found = hashlib.sha256(f"{self.subwords.digest} {getattr(self, split).digest()}".encode())
        for lines in (self.sources, self.references):
            found.update("\n".join(lines.get(split, ())).encode())
        return found.hexdigest()[:8]

    def first(self, train_pairs: int | None) -> TranslationCorpus:
        """Return the corpus with the first pairs of training alone; None keeps all.

        Raises ValueError where there are fewer.
        """
        if train_pairs is None:
            return self
        if train_pairs > len(self.train):
            raise ValueError(
                f"task.corpus.train_pairs={train_pairs} is not possible; give a whole number from 1 to "
                f"{len(self.train)}, the pairs that there are, or null"
            )
        counts = self.counts | {"train pairs": train_pairs}
        return replace(self, train=self.train.first(train_pairs), counts=counts)


def corpus_of(store: Store) -> TranslationCorpus:
    """Return what a store holds."""
    return TranslationCorpus(
        store.subwords,
        **{split: store.pairs[split] for split in SPLITS},
        sources={split: store.lines[split, "source"] for split in EVALUATED},
        references={split: store.lines[split, "target"] for split in EVALUATED},
        counts=store.counts,
    )


def learned(lines: Iterable[str], vocabulary: int) -> Subwords:
    """Return subwords of these lines. Raises ValueError, with the key of a vocabulary that they do not give."""
    try:
        return Subwords.learn(lines, vocabulary)
    except ValueError as error:
        if str(error).startswith("vocabulary="):
            raise ValueError(f"task.{error}") from error  # to which the corpus's refers
        raise
