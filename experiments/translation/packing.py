"""Pairs of sentences packed into rows of one length, several to a row, as T2T's packed problems have them.

Every batch has the same shape, and little of it is padding. (recipe 1.5: rows of 256, eight of them to a worker)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from experiments.translation.store import TokenPairs
from experiments.translation.subwords import BOS, PAD
from experiments.translation.transformer import (
    PLANES,
    SOURCE,
    SOURCE_POSITION,
    SOURCE_SEGMENT,
    TARGET,
    TARGET_POSITION,
    TARGET_SEGMENT,
)

OPEN = 8  # rows that are filled at a time; more of them leave less padding, and take longer


@dataclass(frozen=True)
class Packing:
    """Which pairs lie in which row: `pairs[starts[i] : starts[i + 1]]` are row i's, from left to right."""

    pairs: np.ndarray  # int32
    starts: np.ndarray  # int64 [rows + 1]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.starts) - 1

    def in_order(self, order: np.ndarray) -> Packing:
        """Return the same rows in another order."""
        counts = np.diff(self.starts)[order]
        ends = counts.cumsum()
        places = (
            np.repeat(self.starts[:-1][order], counts) + np.arange(len(self.pairs)) - np.repeat(ends - counts, counts)
        )
        return Packing(self.pairs[places], np.concatenate([[0], ends]))


def pack(order: np.ndarray, source_lengths: np.ndarray, target_lengths: np.ndarray, width: int) -> Packing:
    """Pack the pairs of `order` into rows of `width` tokens of source and as many of target, each into the first
    open row that has room; where none has, the fullest one is closed.

    Lengths are of all pairs, in tokens. Raises ValueError for a pair that is longer than a row.
    """
    sources, targets = source_lengths[order], target_lengths[order]
    longest = max(sources.max(initial=0), targets.max(initial=0))
    if longest > width:
        raise ValueError(f"a pair of {longest} tokens does not fit into a row of {width}")
    open_rows: list[list] = []  # of each the room for source and for target, and its pairs
    closed: list[list[int]] = []
    for pair, source, target in zip(order.tolist(), sources.tolist(), targets.tolist(), strict=True):
        for row in open_rows:
            if row[0] >= source and row[1] >= target:
                row[0] -= source
                row[1] -= target
                row[2].append(pair)
                break
        else:
            if len(open_rows) == OPEN:
                fullest = min(range(OPEN), key=lambda number: min(open_rows[number][0], open_rows[number][1]))
                closed.append(open_rows.pop(fullest)[2])
            open_rows.append([width - source, width - target, [pair]])
    closed += [row[2] for row in open_rows]
    counts = np.array([len(row) for row in closed], dtype=np.int64)
    pairs = np.fromiter((pair for row in closed for pair in row), dtype=np.int32, count=int(counts.sum()))
    return Packing(pairs, np.concatenate([[0], counts.cumsum()]))


def planes(data: TokenPairs, packing: Packing, first: int, last: int, width: int, rows: int) -> tuple[Tensor, Tensor]:
    """Return rows `first` to `last` as the model reads them, int64 [rows, PLANES, width], and targets [rows, width].

    What is beyond a row's pairs, and the rows beyond `last`, is padding.
    """
    bounds = packing.starts[first : last + 1]
    pairs, row_of = packing.pairs[bounds[0] : bounds[-1]], np.repeat(np.arange(last - first), np.diff(bounds))
    segment = np.arange(len(pairs)) - np.repeat(bounds[:-1] - bounds[0], np.diff(bounds)) + 1
    inputs = np.full((rows, PLANES, width), PAD, dtype=np.int64)
    targets = np.full((rows, width), PAD, dtype=np.int64)

    tokens, row, column, position, number = _places(data.source, data.source_starts, pairs, row_of, segment)
    inputs[row, SOURCE, column] = tokens
    inputs[row, SOURCE_SEGMENT, column] = number
    inputs[row, SOURCE_POSITION, column] = position

    tokens, row, column, position, number = _places(data.target, data.target_starts, pairs, row_of, segment)
    targets[row, column] = tokens
    shifted = np.concatenate([[BOS], tokens[:-1]]) if len(tokens) else tokens
    inputs[row, TARGET, column] = np.where(position == 0, BOS, shifted)
    inputs[row, TARGET_SEGMENT, column] = number
    inputs[row, TARGET_POSITION, column] = position
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def _places(
    flat: np.ndarray, starts: np.ndarray, pairs: np.ndarray, row_of: np.ndarray, segment: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the tokens of `pairs` one after the other, and of each its row, column, position and segment."""
    begin = starts[pairs]
    lengths = starts[pairs + 1] - begin
    ends = lengths.cumsum()
    position = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    # A pair's column is what the pairs before it in its row take.
    before = ends - lengths
    of_row = before[np.searchsorted(row_of, row_of, side="left")] if len(row_of) else before
    column = np.repeat(before - of_row, lengths) + position
    tokens = flat[np.repeat(begin, lengths) + position].astype(np.int64)
    return tokens, np.repeat(row_of, lengths), column, position, np.repeat(segment, lengths)
