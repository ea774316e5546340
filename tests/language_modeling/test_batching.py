"""Columns and chunks by hand, and against the loop of the code of AWD-LSTM written plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.language_modeling.batching import Chunk, evaluation_chunks, in_columns, training_chunks

ROWS = 11_619  # of the training text of Penn Treebank in 80 columns


def test_columns_go_on_downwards_and_what_does_not_fill_a_row_is_cut():
    found = in_columns(torch.arange(11), 3)
    assert found.tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert found.is_contiguous()
    assert in_columns(torch.arange(3), 3).tolist() == [[0, 1, 2]]
    with pytest.raises(ValueError, match="a text of 2 tokens cannot be laid out in 3 columns"):
        in_columns(torch.arange(2), 3)


def test_the_real_text_has_as_many_rows_and_updates_as_recorded():
    assert len(in_columns(torch.zeros(929_589, dtype=torch.int64), 80)) == ROWS
    counts = [len(training_chunks(1, epoch, ROWS, 70)) for epoch in range(200)]
    # The mean length is .95 * 70 + .05 * 35 - .5 = 67.75 (int cuts half a token off): 171.5 updates per epoch.
    assert np.mean(counts) == pytest.approx(ROWS / 67.75, abs=0.5)
    assert len(set(counts)) > 3  # not the same number in each epoch


def originals_chunks(rows: int, bptt: int, uniform: list[float], normal: list[float]) -> list[tuple[int, int, float]]:
    """The loop of main.py and get_batch of utils.py, with the draws given: (i, rows read, factor of the rate)."""
    found, number, i = [], 0, 0
    while i < rows - 1 - 1:
        mean = bptt if uniform[number] < 0.95 else bptt / 2.0
        seq_len = max(5, int(mean + 5 * normal[number]))
        read = min(seq_len if seq_len else bptt, rows - 1 - i)
        found.append((i, read, seq_len / bptt))
        number += 1
        i += seq_len
    return found


@pytest.mark.parametrize("bptt", [70, 12, 1])
@pytest.mark.parametrize("rows", [ROWS, 300, 72, 7, 6, 4, 3])
def test_chunks_are_those_of_the_original_s_loop_on_the_same_draws(rows, bptt):
    for seed, epoch in ((0, 0), (1, 0), (1, 749), (5, 3)):
        rng = np.random.default_rng(np.random.SeedSequence((seed, epoch, 170802182)))
        uniform = rng.random(rows // 5 + 1).tolist()
        normal = rng.standard_normal(rows // 5 + 1).tolist()
        found = training_chunks(seed, epoch, rows, bptt)
        assert [(c.first, c.length, c.sampled / bptt) for c in found] == originals_chunks(rows, bptt, uniform, normal)


def test_lengths_are_distributed_as_the_original_draws_them():
    sampled = np.array([c.sampled for epoch in range(300) for c in training_chunks(3, epoch, ROWS, 70)])
    short = sampled[sampled < 52]  # 3.6 deviations from either mean
    assert len(short) / len(sampled) == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / len(sampled)) ** 0.5)
    assert short.mean() == pytest.approx(34.5, abs=0.4)
    assert sampled[sampled >= 52].mean() == pytest.approx(69.5, abs=0.1)
    assert sampled[sampled >= 52].std() == pytest.approx(5.0, abs=0.1)
    assert sampled.max() > 85  # nothing bounds a length from above


def test_chunks_are_a_function_of_seed_and_epoch():
    assert training_chunks(1, 4, ROWS, 70) == training_chunks(1, 4, ROWS, 70)
    others = [training_chunks(1, 5, ROWS, 70), training_chunks(2, 4, ROWS, 70), training_chunks(4, 1, ROWS, 70)]
    assert all(training_chunks(1, 4, ROWS, 70) != other for other in others)


def test_each_row_is_read_once_and_the_last_chunk_has_at_least_two():
    for epoch in range(300):
        chunks = training_chunks(7, epoch, 431, 20)
        assert [c.first for c in chunks] == np.cumsum([0, *(c.sampled for c in chunks)]).tolist()[:-1]
        assert all(c.length == c.sampled for c in chunks[:-1])
        assert 2 <= chunks[-1].length <= chunks[-1].sampled
        left = 430 - chunks[-1].first - chunks[-1].length  # of 430 targets one may be left, where first = T - 2
        assert left == (0 if chunks[-1].length < chunks[-1].sampled else 430 - chunks[-1].first - chunks[-1].sampled)
        assert left in (0, 1)


def test_an_evaluation_reads_all_rows_but_the_last_in_equal_chunks():
    assert evaluation_chunks(8, 3) == [Chunk(0, 3, 3), Chunk(3, 3, 3), Chunk(6, 1, 3)]
    assert evaluation_chunks(7, 3) == [Chunk(0, 3, 3), Chunk(3, 3, 3)]
    assert evaluation_chunks(2, 70) == [Chunk(0, 1, 70)]
    valid = evaluation_chunks(73_760 // 10, 70)
    assert (len(valid), valid[-1]) == (106, Chunk(7350, 25, 70))
