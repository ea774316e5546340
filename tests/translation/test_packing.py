"""Pairs in rows: by hand, and taken apart again."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.translation.packing import OPEN, Packing, pack, planes
from experiments.translation.store import TokenPairs
from experiments.translation.subwords import BOS, EOS, PAD
from experiments.translation.transformer import (
    SOURCE,
    SOURCE_POSITION,
    SOURCE_SEGMENT,
    TARGET,
    TARGET_POSITION,
    TARGET_SEGMENT,
)


def rows_of(packing: Packing) -> list[list[int]]:
    return [packing.pairs[a:b].tolist() for a, b in zip(packing.starts[:-1], packing.starts[1:], strict=True)]


def drawn_pairs(count: int, longest: int = 12, seed: int = 0) -> TokenPairs:
    """Return pairs of random lengths, of tokens from 4 on that end with EOS."""
    rng = np.random.default_rng(seed)

    def sentences() -> list[list[int]]:
        return [[*rng.integers(4, 50, rng.integers(0, longest)).tolist(), EOS] for _ in range(count)]

    return TokenPairs.of(sentences(), sentences())


def test_the_first_open_row_that_has_room_takes_a_pair():
    sources, targets = np.array([6, 5, 4, 3, 4, 1]), np.array([2, 5, 4, 7, 4, 1])
    # Rows of 10: 0 opens the first (room 4, 8); 1 does not fit there; 2 does; 3 fits neither; 4 fits the second; and
    # 5 does not fit the first, whose source is full, but the second.
    assert rows_of(pack(np.arange(6), sources, targets, 10)) == [[0, 2], [1, 4, 5], [3]]
    # In another order.
    assert rows_of(pack(np.array([3, 5, 0]), sources, targets, 10)) == [[3, 5, 0]]


def test_the_fullest_row_is_closed_where_none_has_room():
    lengths = np.array([6] * (OPEN - 1) + [9, 8, 1])
    found = rows_of(pack(np.arange(len(lengths)), lengths, lengths, 10))
    # The last but one opens a row too many: that with 9 of 10 is closed, so that the pair of 1 goes to the first row.
    assert found[0] == [OPEN - 1]
    assert [0, OPEN + 1] in found


def test_every_pair_is_in_one_row_and_no_row_is_too_long():
    data = drawn_pairs(500)
    sources, targets = data.lengths()
    order = np.random.default_rng(1).permutation(500)
    packing = pack(order, sources, targets, 20)
    assert sorted(packing.pairs.tolist()) == list(range(500))
    for row in rows_of(packing):
        assert sources[row].sum() <= 20
        assert targets[row].sum() <= 20
    full = max(sources.sum(), targets.sum()) / (20 * len(packing))
    assert full > 0.85


def test_a_pair_that_is_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match=r"^a pair of 21 tokens does not fit into a row of 20$"):
        pack(np.arange(2), np.array([3, 4]), np.array([2, 21]), 20)
    assert len(pack(np.arange(0), np.array([3]), np.array([2]), 20)) == 0
    assert rows_of(pack(np.arange(2), np.array([3, 20]), np.array([2, 20]), 20)) == [[0], [1]]  # which fills a row


def test_rows_in_another_order_are_the_same_rows():
    data = drawn_pairs(60)
    packing = pack(np.arange(60), *data.lengths(), 20)
    order = np.random.default_rng(2).permutation(len(packing))
    assert rows_of(packing.in_order(order)) == [rows_of(packing)[number] for number in order]


def test_planes_by_hand():
    data = TokenPairs.of([[7, 8, EOS], [9, EOS]], [[4, EOS], [5, 6, EOS]])
    inputs, targets = planes(data, Packing(np.array([1, 0]), np.array([0, 2])), 0, 1, 6, 2)
    assert inputs.shape == (2, 6, 6)
    assert inputs[0, SOURCE].tolist() == [9, EOS, 7, 8, EOS, PAD]
    assert inputs[0, SOURCE_SEGMENT].tolist() == [1, 1, 2, 2, 2, 0]
    assert inputs[0, SOURCE_POSITION].tolist() == [0, 1, 0, 1, 2, 0]
    assert inputs[0, TARGET].tolist() == [BOS, 5, 6, BOS, 4, PAD]
    assert inputs[0, TARGET_SEGMENT].tolist() == [1, 1, 1, 2, 2, 0]
    assert inputs[0, TARGET_POSITION].tolist() == [0, 1, 2, 0, 1, 0]
    assert targets[0].tolist() == [5, 6, EOS, 4, EOS, PAD]
    assert not inputs[1].any()  # a row of padding alone
    assert not targets[1].any()


def test_planes_taken_apart_are_the_pairs():
    data = drawn_pairs(200)
    packing = pack(np.random.default_rng(3).permutation(200), *data.lengths(), 24)
    first, last = 5, len(packing) - 2
    inputs, targets = planes(data, packing, first, last, 24, last - first)
    for number, row in enumerate(rows_of(packing)[first:last]):
        for segment, pair in enumerate(row, start=1):
            source = inputs[number, SOURCE][inputs[number, SOURCE_SEGMENT] == segment]
            inside = inputs[number, TARGET_SEGMENT] == segment
            expected = data.target[data.target_starts[pair] : data.target_starts[pair + 1]].tolist()
            whole = data.source[data.source_starts[pair] : data.source_starts[pair + 1]].tolist()
            assert source.tolist() == whole
            assert targets[number][inside].tolist() == expected
            assert inputs[number, TARGET][inside].tolist() == [BOS, *expected[:-1]]
            assert inputs[number, TARGET_POSITION][inside].tolist() == list(range(len(expected)))
            assert inputs[number, SOURCE_POSITION][inputs[number, SOURCE_SEGMENT] == segment].tolist() == list(
                range(len(whole))
            )
