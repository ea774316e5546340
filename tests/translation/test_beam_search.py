"""Cached beam and greedy search against a search without a cache, an exhaustive one, and scores by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from experiments.translation import beam_search as module
from experiments.translation.beam_search import Found, beam_search, greedy, length_penalty_of
from experiments.translation.subwords import EOS, PAD
from tests.helpers.plain_search import log_chances, padded, plain_beam_search, plain_greedy
from tests.helpers.plain_transformer import random_pairs, small_model


def ending_model(seed: int = 0, end: float = 1.0, **given):
    """Return a model whose translations end sooner for a greater `end`."""
    model = small_model(seed, **given)
    with torch.no_grad():
        # Outputs of the decoder have a common part, along which EOS's embedding moves.
        model.decoder_norm.bias.add_(torch.linspace(-1, 1, model.width))
        model.embedding[EOS] += end * torch.linspace(-1, 1, model.width)
    return model


def sources_of(count: int, seed: int = 1, longest: int = 6) -> list[list[int]]:
    return [source for source, _ in random_pairs(count, seed, longest)]


def same(found: list[Found], expected: list[tuple[list[int], float]]):
    assert [each.tokens for each in found] == [tokens for tokens, _ in expected]
    assert [each.score for each in found] == pytest.approx([score for _, score in expected], abs=1e-9)


@pytest.mark.parametrize(("beam", "exponent"), [(2, 0.6), (4, 0.6), (4, 0.0), (3, 1.5)])
def test_cached_and_batched_it_finds_what_a_plain_search_does(beam, exponent, monkeypatch):
    lengths = set()
    for seed, end in ((0, 0.2), (1, 0.2), (3, 0.15)):
        model, sources = ending_model(seed, end), sources_of(4, seed, 5)
        expected = [plain_beam_search(model, source, beam, exponent, 4) for source in sources]
        for interval in (1, 4):
            monkeypatch.setitem(module.INTERVAL, "cpu", interval)
            same(beam_search(model, padded(sources), beam, exponent, 4), expected)
        lengths |= {len(tokens) - len(source) for source, (tokens, _) in zip(sources, expected, strict=True)}
    assert len(lengths) > 1  # some end at once, some late, some never


@pytest.mark.parametrize("interval", [1, 3])
def test_a_beam_of_1_is_greedy(interval, monkeypatch):
    monkeypatch.setitem(module.INTERVAL, "cpu", interval)
    lengths = set()
    for seed, end in ((1, 0.3), (1, 0.4), (2, 0.3)):
        model, sources = ending_model(seed, end), sources_of(5, seed)
        expected = [plain_greedy(model, source, 0.6, 6) for source in sources]
        same(greedy(model, padded(sources), 0.6, 6), expected)
        same(beam_search(model, padded(sources), 1, 0.6, 6), expected)
        lengths |= {len(tokens) - len(source) for source, (tokens, _) in zip(sources, expected, strict=True)}
    assert len(lengths) > 2


def test_a_beam_that_is_wide_enough_finds_the_best_of_all_translations():
    model = ending_model(3, 0.3, vocabulary=6)
    source, extra = [4, 5], 0
    limit = len(source) + 1
    others = [token for token in range(6) if token != EOS]
    best = (-math.inf, [])
    for length in range(1, limit + 1):
        for prefix in itertools.product(others, repeat=length - 1):
            beginnings = [list(prefix[:place]) for place in range(length)]
            chances = log_chances(model, source, *beginnings)[range(length), [*prefix, EOS]]
            total = chances.sum().item()
            best = max(best, (total / length_penalty_of(length, 0.6), list(prefix)))
    (found,) = beam_search(model, padded([source]), 5**2, 0.6, extra)
    assert found.tokens == best[1]
    assert found.score == pytest.approx(best[0], abs=1e-9)
    assert beam_search(model, padded([source]), 40, 0.6, extra)[0].tokens == best[1]  # wider than there are prefixes


def test_the_length_penalty_by_hand():
    assert length_penalty_of(1, 0.6) == 1
    assert length_penalty_of(7, 1.0) == 2
    assert length_penalty_of(19, 0.5) == 2
    assert length_penalty_of(19, 0.0) == 1


def test_a_sentence_alone_gives_what_it_gives_among_others_of_other_lengths():
    model, sources = ending_model(1, 0.2), [*sources_of(6), [9] * 30, [5]]
    together = beam_search(model, padded(sources), 4, 0.6, 12)
    alone = [beam_search(model, padded([source]), 4, 0.6, 12)[0] for source in sources]
    same(together, alone)
    assert len({len(found.tokens) for found in together}) > 2


def test_a_translation_may_end_at_once():
    model = ending_model(0, 8.0)
    for beam in (1, 4):
        found = beam_search(model, padded([[5, 6], [7]]), beam)
        assert [each.tokens for each in found] == [[], []]
        assert [each.score for each in found] == pytest.approx(
            [log_chances(model, source, [])[0, EOS].item() for source in ([5, 6], [7])], abs=1e-9
        )


@pytest.mark.parametrize("beam", [1, 2])
def test_one_that_never_ends_is_as_long_as_its_source_and_the_extra_tokens(beam):
    model = ending_model(0, -8.0)
    found = beam_search(model, padded([[5, 6, 7], [7]]), beam, 0.6, 3)
    assert [len(each.tokens) for each in found] == [4 + 3, 2 + 3]
    for source, each in zip(([5, 6, 7], [7]), found, strict=True):
        places = range(len(each.tokens))
        chances = log_chances(model, source, *(each.tokens[:place] for place in places))[places, each.tokens]
        total = chances.sum().item()
        assert each.score == pytest.approx(total / length_penalty_of(len(each.tokens), 0.6), abs=1e-9)


@pytest.mark.parametrize("beam", [1, 4])
def test_no_sentences_have_no_translations(beam):
    assert beam_search(small_model(), torch.zeros(0, 3, dtype=torch.int64), beam) == []


def test_finished_sentences_leave_the_batch(monkeypatch):
    rows = []
    step = module.CachedDecoder.step
    monkeypatch.setattr(
        module.CachedDecoder, "step", lambda self, tokens, seen: rows.append(len(tokens)) or step(self, tokens, seen)
    )
    model, sources = ending_model(1, 0.2), sources_of(8)
    found = beam_search(model, padded(sources), 4, 0.6, 12)
    assert rows[0] == 8
    assert sorted(rows, reverse=True) == rows
    assert rows[-1] < 4
    assert len(found) == 8


@pytest.mark.parametrize("beam", [1, 4])
def test_a_search_takes_no_more_steps_once_it_sees_that_all_have_ended(beam, monkeypatch):
    steps = []
    step = module.CachedDecoder.step
    monkeypatch.setattr(
        module.CachedDecoder, "step", lambda self, tokens, seen: steps.append(tokens) or step(self, tokens, seen)
    )
    monkeypatch.setitem(module.INTERVAL, "cpu", 3)  # it looks at each third step
    assert [found.tokens for found in beam_search(ending_model(0, 8.0), padded([[5, 6], [7]]), beam)] == [[], []]
    assert len(steps) == 3


@pytest.mark.parametrize("search", [beam_search, greedy])
def test_dropout_is_off_for_the_search_and_as_it_was_after_it_whatever_happens(search, monkeypatch):
    plain, model = ending_model(1, 0.4), ending_model(1, 0.4, dropout=0.5, attention_dropout=0.5, relu_dropout=0.5)
    sources = padded(sources_of(3))
    same(search(model.train(), sources), search(plain, sources))
    assert model.training
    assert all(each.training for each in model.modules())
    search(model.eval(), sources)
    assert not model.training

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.CachedDecoder, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(model.train(), sources)
    assert model.training


def test_under_autocast_scores_are_near_those_of_float32():
    model, sources = ending_model(1, 0.4).float(), padded(sources_of(4))
    with torch.autocast("cpu", torch.bfloat16):
        found = beam_search(model, sources)
    for one, other in zip(found, beam_search(model, sources), strict=True):
        assert one.score == pytest.approx(other.score, rel=0.05)
        assert one.score != other.score


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"beam": 0}, "beam=0 is not possible; give a whole number of at least 1"),
        ({"beam": 2.0}, r"beam=2\.0 is not possible"),
        ({"length_penalty": -0.1}, r"length_penalty=-0\.1 is not possible; give a number of at least 0"),
        ({"length_penalty": math.nan}, "length_penalty=nan is not possible"),
        ({"length_penalty": True}, "length_penalty=True is not possible"),
        ({"extra": -1}, "extra=-1 is not possible; give a whole number of at least 0"),
    ],
)
def test_values_out_of_range_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        beam_search(small_model(), padded([[5]]), **given)


def test_pad_is_what_fills_a_row():
    assert padded([[5], [6, 7]]).tolist() == [[5, EOS, PAD], [6, 7, EOS]]
