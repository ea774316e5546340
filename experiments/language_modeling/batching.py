"""A text in columns, and the chunks of rows that updates and evaluations read, as the code of AWD-LSTM has them.

[27] Merity, Keskar, Socher: Regularizing and Optimizing LSTM Language Models, Section 5, and its released code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

LEAST_ROWS = 3  # of a training text: the loop over chunks runs while first < rows - 2
SHORTEST = 5  # a sampled length is at least this
DEVIATION = 5.0  # of the normal distribution of lengths, whatever its mean
WHOLE = 0.95  # the probability that this mean is bptt, and not half of it


@dataclass(frozen=True)
class Chunk:
    """Rows `first` to `first + length` of a text in columns are read, and those one further are predicted.

    `sampled` is the length that was drawn, which the text's end may cut.
    """

    first: int
    length: int
    sampled: int


def in_columns(tokens: Tensor, columns: int) -> Tensor:
    """Return a text [N] as [T, columns], T = N // columns: read column after column; the rest is cut.

    Raises ValueError where no row is left.
    """
    if columns > len(tokens):
        raise ValueError(f"a text of {len(tokens)} tokens cannot be laid out in {columns} columns")
    rows = len(tokens) // columns
    return tokens[: rows * columns].view(columns, rows).t().contiguous()


def training_chunks(seed: int, epoch: int, rows: int, bptt: int) -> list[Chunk]:
    """Return the chunks of an epoch over a text of `rows` rows: a function of (seed, epoch).

    A length is max(5, int(N(mean, 5))), where the mean is `bptt` with probability 0.95, and else bptt / 2.
    """
    # Hashed, with a number of its own: the weights' seed, and any other domain's, have streams of their own.
    rng = np.random.default_rng(np.random.SeedSequence((seed, epoch, 1708_02182)))
    most = rows // SHORTEST + 1
    means = np.where(rng.random(most) < WHOLE, float(bptt), bptt / 2)
    lengths = np.maximum(SHORTEST, (means + DEVIATION * rng.standard_normal(most)).astype(np.int64))  # int: towards 0
    firsts = np.cumsum(lengths) - lengths
    inside = firsts < rows - 2
    drawn = zip(firsts[inside].tolist(), lengths[inside].tolist(), strict=True)
    return [Chunk(first, min(length, rows - 1 - first), length) for first, length in drawn]


def evaluation_chunks(rows: int, bptt: int) -> list[Chunk]:
    """Return the chunks of an evaluation of `rows` rows: `bptt` rows each, and what is left."""
    return [Chunk(first, min(bptt, rows - 1 - first), bptt) for first in range(0, rows - 1, bptt)]
