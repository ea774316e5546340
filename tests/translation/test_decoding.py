"""Lines translated in batches: in order, of any length, blank ones, and what is called and put back meanwhile."""

from __future__ import annotations

import pytest
import torch

from experiments.translation import decoding
from experiments.translation.beam_search import Found
from experiments.translation.decoding import batches, translate
from tests.helpers.plain_search import plain_beam_search
from tests.helpers.plain_transformer import small_model

CPU = torch.device("cpu")


class Letters:
    """Subwords that are letters: a line's tokens are 4, 5, ... for a, b, ..., and blanks are left out."""

    def encode(self, lines):
        return [[ord(letter) - ord("a") + 4 for letter in line if letter != " "] for line in lines]

    def decode(self, rows):
        return ["".join(chr(token - 4 + ord("a")) for token in row if token > 3) for row in rows]


def test_each_line_has_its_own_translation_in_its_place():
    model = small_model()
    lines = ["abc", "", "s", "abcdefghij", "  ", "ba", "abc"]
    found = translate(model, Letters(), lines, CPU, 2, 0.6)
    letters = Letters()
    for line, translation in zip(lines, found, strict=True):
        (source,) = letters.encode([line])
        expected = letters.decode([plain_beam_search(model, source, 2, 0.6, 50)[0]])[0] if source else ""
        assert translation == expected
    assert len(set(found)) > 3


@pytest.mark.parametrize("lines", [[], [""], [" ", ""]])
def test_of_nothing_there_is_nothing_and_no_batch(lines):
    assert translate(small_model(), Letters(), lines, CPU, tick=pytest.fail) == [""] * len(lines)


def test_a_source_longer_than_any_before_is_translated(monkeypatch):
    seen = []

    def search(model, sources, beam, length_penalty, extra):
        seen.append((sources.shape, beam, length_penalty, extra))
        return [Found([4], 0.0)] * len(sources)

    monkeypatch.setattr(decoding, "beam_search", search)
    monkeypatch.setattr(decoding, "POSITIONS", 60)
    assert translate(small_model(), Letters(), ["a" * 99, "b"], CPU, 3, 0.5) == ["a", "a"]
    assert seen == [((1, 100), 3, 0.5, 50), ((1, 2), 3, 0.5, 50)]


def test_a_long_source_by_a_real_search():
    model = small_model()
    (line,) = translate(model, Letters(), ["ab" * 150], CPU, 1)
    assert 0 < len(line) <= 351


def test_batches_are_of_like_lengths_within_a_budget_of_positions():
    assert list(batches([3, 9, 0, 4, 4, 30, 1], 12)) == [[5], [1], [3, 4, 0], [6]]
    assert list(batches([4, 4, 4], 12)) == [[0, 1, 2]]
    assert list(batches([4, 4, 4], 11)) == [[0, 1], [2]]
    assert list(batches([0, 0], 11)) == []
    assert list(batches([7], 1)) == [[0]]


def test_tick_is_called_before_each_batch_and_may_raise(monkeypatch):
    monkeypatch.setattr(decoding, "POSITIONS", 12)
    model, ticks = small_model(dropout=0.5).train(), []

    def tick():
        ticks.append(len(ticks))
        if len(ticks) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        translate(model, Letters(), ["abc", "abd", "abe", "ab"], CPU, 4, 0.6, tick)
    assert ticks == [0, 1, 2]
    assert model.training


def test_values_out_of_range_are_named_before_anything_is_done():
    with pytest.raises(ValueError, match="beam=0 is not possible"):
        translate(small_model(), None, ["a"], CPU, 0)
    with pytest.raises(ValueError, match="length_penalty=-1 is not possible"):
        translate(small_model(), None, ["a"], CPU, 4, -1)
