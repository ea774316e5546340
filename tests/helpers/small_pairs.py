"""Multi30k's files as a few pairs, and what a corpus has of them."""

from __future__ import annotations

from experiments.translation import corpora
from experiments.translation.corpora import TranslationCorpus

TEXTS = {
    "train.en": b"a dog runs\ntwo dogs run\n\nthe running dog\n" + b"dogs " * 40 + b"\na cat\n",
    "train.de": "ein Hund läuft\nzwei Hunde laufen\nnichts\nder laufende Hund\nHunde\neine Katze\n".encode(),
    "val.en": b"a dog\n\nthe cat\n",
    "val.de": b"ein Hund\nleer\ndie Katze\n",
    "test_2016_flickr.en": b"dogs run\n",
    "test_2016_flickr.de": b"Hunde laufen\n",
}
SETTINGS = {"vocabulary": 60, "longest": 40}


def decoded(corpus: TranslationCorpus, split: str) -> list[tuple[str, str]]:
    pairs = getattr(corpus, split)
    rows = [pairs.pair(number) for number in range(len(pairs))]
    return [tuple(corpus.subwords.decode(row)) for row in rows]


def learning(monkeypatch) -> list[int]:
    """Return a list that grows with each vocabulary that is learned."""
    vocabularies = []
    learned = corpora.learned

    def counted(lines, vocabulary):
        vocabularies.append(vocabulary)
        return learned(lines, vocabulary)

    monkeypatch.setattr(corpora, "learned", counted)
    return vocabularies
