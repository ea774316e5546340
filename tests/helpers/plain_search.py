"""Beam search one prefix at a time and without a cache, as Tensor2Tensor's, for tests that compare with it."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.translation.subwords import EOS, PAD
from experiments.translation.transformer import Transformer
from tests.helpers.plain_transformer import packed


def penalty(length: int, exponent: float) -> float:
    return ((5 + length) / 6) ** exponent


def log_chances(model: Transformer, source: list[int], *prefixes: list[int]) -> Tensor:
    """Return log-probabilities [prefixes, vocabulary] of the token after each, without BOS, from a whole pass."""
    width = max(map(len, (source, *prefixes))) + 1
    inputs, _, _ = packed([[(source, prefix)] for prefix in prefixes], width)
    ends = torch.tensor([len(prefix) for prefix in prefixes])
    return model(inputs)[torch.arange(len(prefixes)), ends].log_softmax(1)


@torch.no_grad()
def plain_greedy(model: Transformer, source: list[int], exponent: float, extra: int) -> tuple[list[int], float]:
    prefix, total, length = [], 0.0, 0
    while length < len(source) + 1 + extra:
        length += 1
        chance, token = log_chances(model, source, prefix)[0].max(0)
        total += chance.item()
        if token == EOS:
            break
        prefix.append(token.item())
    return prefix, total / penalty(length, exponent)


@torch.no_grad()
def plain_beam_search(
    model: Transformer, source: list[int], beam: int, exponent: float, extra: int
) -> tuple[list[int], float]:
    """As T2T's utils/beam_search.py with top_beams=1, but for the score of a prefix that never ends, over its penalty.

    `source` is without EOS.
    """
    alive, finished = [(0.0, [])], []
    limit = len(source) + 1 + extra
    for length in range(1, limit + 1):
        extensions = []
        chances_after = log_chances(model, source, *(prefix for _, prefix in alive)).tolist()
        for (total, prefix), chances in zip(alive, chances_after, strict=True):
            extensions += [(total + chance, [*prefix, token]) for token, chance in enumerate(chances)]
        best = sorted(extensions, reverse=True)[: 2 * beam]
        alive = [each for each in best if each[1][-1] != EOS][:beam]
        ended = [(total / penalty(length, exponent), prefix) for total, prefix in best if prefix[-1] == EOS]
        finished = sorted(finished + ended, reverse=True)[:beam]
        if finished and finished[0][0] > alive[0][0] / penalty(limit, exponent):
            break
    if finished:
        return finished[0][1][:-1], finished[0][0]
    return alive[0][1], alive[0][0] / penalty(limit, exponent)


def padded(sources: list[list[int]]) -> Tensor:
    """Return sources, given without EOS, as beam_search takes them."""
    width = max(map(len, sources)) + 1
    return torch.tensor([[*source, EOS] + [PAD] * (width - 1 - len(source)) for source in sources])
