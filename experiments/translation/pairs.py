"""Aligned texts, a sentence per line, as pairs of sentences; which pairs are dropped, and how many."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from experiments.translation.store import StoreWriter
from experiments.translation.subwords import EOS, Subwords

PIECE = 20_000  # pairs that are encoded at a time
Pair = tuple[str, str]


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a text in UTF-8: line feeds alone end them, and runs of white space become one space.

    So a carriage return at the end goes, and Unicode's line separators and no-break spaces become spaces. A byte order
    mark at the beginning goes. Raises ValueError for a file that cannot be read, or whose bytes are not UTF-8.
    """
    try:
        with path.open("rb") as file:
            for number, content in enumerate(file, start=1):
                if number == 1:
                    content = content.removeprefix(b"\xef\xbb\xbf")
                try:
                    yield " ".join(content.decode().split())
                except UnicodeDecodeError as error:
                    raise ValueError(
                        f"{path}, line {number}: its bytes are not UTF-8 ({content[error.start]:#04x} after "
                        f"{error.start} bytes)"
                    ) from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or type(error).__name__})") from error


def aligned(source: Path, target: Path) -> Iterator[Pair]:
    """Yield the pairs of lines of two texts. Raises ValueError where they have no lines, or not equally many."""
    lines, others = lines_of(source), lines_of(target)
    count = 0
    for pair in itertools.zip_longest(lines, others):
        if None in pair:
            counts = [
                count + (line is not None) + sum(1 for _ in rest)
                for line, rest in zip(pair, (lines, others), strict=True)
            ]
            raise ValueError(
                f"{source} has {counts[0]} lines, but {target} has {counts[1]}; line n of one is the translation of "
                "line n of the other"
            )
        count += 1
        yield pair
    if not count:
        raise ValueError(f"{source} and {target} are empty: they hold no sentences")


class Encoder:
    """Pairs as numbers, EOS after each sentence, but those that are empty on a side or above `longest` on one.

    `longest` counts subwords, with EOS. `counts` says how many pairs each split has, and how many were dropped.
    """

    def __init__(self, subwords: Subwords, longest: int) -> None:
        self.subwords, self.longest = subwords, longest
        self.counts: dict[str, int] = {}

    def encoded(self, split: str, pairs: Iterable[Pair]) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
        """Yield the sources and targets that are kept, a piece at a time. Raises ValueError where none is."""
        found = Counter()
        pairs = iter(pairs)
        while piece := list(itertools.islice(pairs, PIECE)):
            full = [pair for pair in piece if all(pair)]
            rows = [self.subwords.encode([pair[side] for pair in full]) for side in (0, 1)]
            kept = [pair for pair in zip(*rows, strict=True) if max(map(len, pair)) < self.longest]
            found.update(empty=len(piece) - len(full), long=len(full) - len(kept), kept=len(kept))
            for row in itertools.chain.from_iterable(kept):
                row.append(EOS)
            if kept:
                yield tuple(map(list, zip(*kept, strict=True)))
        self.counts |= {
            f"{split} pairs": found["kept"],
            f"{split} pairs dropped, empty": found["empty"],
            f"{split} pairs dropped, too long": found["long"],
        }
        if not found["kept"]:
            raise ValueError(
                f"no pair of {split} is left: {found['empty']} are empty on a side, and {found['long']} have more than "
                f"longest={self.longest} subwords on one"
            )


def write_pairs(
    writer: StoreWriter,
    texts: Mapping[str, Iterable[Pair]],
    longest: int,
    tick: Callable[[int], None] = lambda pairs: None,
) -> dict[str, int]:
    """Write the pairs of each split, and all lines of every split but "train"; return the counts.

    `tick(pairs)` is called after each piece with the number of pairs that it keeps. Raises ValueError where no pair of
    a split is left.
    """
    encoder = Encoder(writer.subwords, longest)
    for split, pairs in texts.items():
        if split != "train":
            pairs = list(pairs)
            writer.lines(split, *zip(*pairs, strict=True))
        for sources, targets in encoder.encoded(split, pairs):
            writer.add(split, sources, targets)
            tick(len(sources))
    return encoder.counts
