"""Joint subwords of both languages, by sentencepiece's BPE: lines as rows of numbers, and back."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.engine.files import replace_file

PAD, BOS, EOS, UNKNOWN = 0, 1, 2, 3
SPECIAL = {"pad": PAD, "bos": BOS, "eos": EOS, "unk": UNKNOWN}
BOUNDARY = "\u2581"  # which sentencepiece writes for a space
SKIPPED = "\u2585"  # sentencepiece leaves a line with this character, its own mark, out of what it learns from
LEARNING_THREADS = 4  # fixed, as sentencepiece writes the number into the model, whose digest it would change
LONGEST_LINE = 1 << 20  # bytes; sentencepiece's 4,192 would leave some out without a word


class Subwords:
    """The subwords of a sentencepiece model; their numbers begin with PAD, BOS, EOS and UNKNOWN.

    Texts are taken as they are, but for Unicode's composed form (NFC) and runs of white space, which count as one
    space; so decoding what was encoded gives the line back, unless it has characters that the model does not know.
    """

    def __init__(self, model: bytes) -> None:
        """Take a serialized model. Raises ValueError where it is none, or its special numbers are others."""
        from sentencepiece import SentencePieceProcessor

        self.model = bytes(model)
        try:
            if not self.model:
                raise RuntimeError("it is empty")
            self._processor = SentencePieceProcessor(model_proto=self.model)
        except RuntimeError as error:
            raise ValueError("this is no model of sentencepiece, or one cut short") from error
        found = {name: getattr(self._processor, f"{name}_id")() for name in SPECIAL}
        if found != SPECIAL:
            raise ValueError(
                f"this model of sentencepiece numbers its special subwords otherwise ({_listed(found)}); "
                f"they have to be {_listed(SPECIAL)}"
            )
        self.size: int = self._processor.vocab_size()
        self.digest: str = hashlib.sha256(self.model).hexdigest()[:8]

    @classmethod
    def learn(cls, lines: Iterable[str], vocabulary: int, sample: int | None = None, coverage: float = 1.0) -> Subwords:
        """Learn `vocabulary` subwords, the special ones among them, from lines: the same from the same lines.

        `sample` lines, drawn with a fixed seed, are enough where there are millions; None takes all. `coverage` is the
        share of the text whose characters get a subword each; rarer characters are unknown. Raises ValueError for
        values out of range, for lines without a word, and for a vocabulary that they do not give, with a possible one.
        """
        if type(vocabulary) is not int or vocabulary < len(SPECIAL) + 1:
            raise ValueError(
                f"vocabulary={vocabulary} is not possible; give a whole number of at least {len(SPECIAL) + 1}"
            )
        if sample is not None and (type(sample) is not int or sample < 1):
            raise ValueError(f"sample={sample} is not possible; give a whole number of at least 1, or null")
        if type(coverage) not in (int, float) or not 0.9 <= coverage <= 1:
            raise ValueError(f"coverage={coverage} is not possible; give a number from 0.9 to 1")
        chosen = list(lines) if sample is None else _sample(lines, sample)
        words = (text for line in chosen if (text := _plain(line).replace(SKIPPED, "")).strip())
        return cls(_learned(words, vocabulary, float(coverage)))

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Return the numbers of each line's subwords, without BOS and EOS; of a blank line none."""
        return self._processor.encode([_plain(line) for line in lines], num_threads=_cores())

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return the line of each row of numbers; PAD, BOS, EOS and UNKNOWN leave no trace.

        Raises ValueError for a number that is none of a subword.
        """
        special = SPECIAL.values()
        kept = [[int(number) for number in row if number not in special] for row in rows]
        for number in (number for row in kept for number in row):
            if not 0 <= number < self.size:
                raise ValueError(f"{number} is the number of none of the {self.size} subwords")
        return self._processor.decode(kept)

    def save(self, path: str | Path) -> None:
        """Write the model to a file, which appears whole or not at all."""
        replace_file(Path(path), lambda temporary: temporary.write_bytes(self.model))

    @classmethod
    def load(cls, path: str | Path) -> Subwords:
        """Return the subwords of a model's file.

        Raises FileNotFoundError where it is missing, and ValueError for one that cannot be read or is no such model.
        """
        path = Path(path)
        try:
            model = path.read_bytes()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is missing: the model of the subwords") from error
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror or type(error).__name__})") from error
        try:
            return cls(model)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subwords) and self.model == other.model

    def __hash__(self) -> int:
        return hash(self.model)

    def __reduce__(self) -> tuple[Any, ...]:
        return Subwords, (self.model,)


def _plain(line: str) -> str:
    """Return a line in Unicode's composed form, its runs of white space, line separators among them, one space."""
    return unicodedata.normalize("NFC", " ".join(line.split()))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _listed(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def _sample(lines: Iterable[str], count: int) -> list[str]:
    """Return `count` of the lines, each set of them as likely as any other (reservoir sampling), or all if fewer."""
    draw = random.Random(0)
    kept: list[str] = []
    for number, line in enumerate(lines):
        if number < count:
            kept.append(line)
        elif (place := int(draw.random() * (number + 1))) < count:
            kept[place] = line
    return kept


def _learned(lines: Iterator[str], vocabulary: int, coverage: float) -> bytes:
    """Return the model that sentencepiece learns. Raises ValueError that says what it needs."""
    from sentencepiece import SentencePieceTrainer

    written = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=written,
            model_type="bpe",
            vocab_size=vocabulary,
            character_coverage=coverage,
            normalization_rule_name="identity",
            **{f"{name}_id": number for name, number in SPECIAL.items()},
            max_sentence_length=LONGEST_LINE,
            num_threads=LEARNING_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(_explained(str(error), vocabulary)) from error
    return written.getvalue()


def _explained(message: str, vocabulary: int) -> str:
    """Return one line for what sentencepiece raised."""
    most = re.search(r"Please set it to a value <= (\d+)", message)
    if most:
        return f"vocabulary={vocabulary} is more than the text gives; give at most {most[1]}"
    least = re.search(r"smaller than required_chars. \d+ vs (\d+)", message)
    if least:
        return f"vocabulary={vocabulary} is too small for the characters of the text; give at least {least[1]}"
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return "there are no words to learn subwords from"
    return f"vocabulary={vocabulary}: sentencepiece says: {' '.join(message.split())}"
