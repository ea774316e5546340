"""Beam search and greedy search as Tensor2Tensor's, of many sentences at once, on the device."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from experiments.translation.cached import CachedDecoder
from experiments.translation.subwords import BOS, EOS, PAD
from experiments.translation.transformer import Transformer

INTERVAL = {"cpu": 1}  # steps from one look at what is finished to the next; where a look waits for a device:
INTERVAL_ELSEWHERE = 4
SHRINK = 0.8  # once so few of a batch's sentences are left, the others are dropped from it


class Found(NamedTuple):
    """A translation: its tokens without BOS and EOS, and its log-probability (nats) over the length penalty."""

    tokens: list[int]
    score: float


def length_penalty_of(length: int, exponent: float) -> float:
    """Return ((5 + length) / 6) ** exponent, by which the log-probability of `length` tokens, EOS too, is divided."""
    return ((5 + length) / 6) ** exponent


@torch.no_grad()
def beam_search(
    model: Transformer, sources: Tensor, beam: int = 4, length_penalty: float = 0.6, extra: int = 50
) -> list[Found]:
    """Return the best translation found of each of `sources`, int64 [N, S], padded with PAD and ended by EOS.

    Of each sentence the `beam` likeliest unfinished prefixes are extended; of the 2 * `beam` likeliest extensions
    those that end are finished, and the `beam` likeliest others go on. A search ends when no prefix can become better
    than the best that is finished, and at the source's tokens (EOS too) plus `extra`: then the likeliest prefix is
    taken where none has finished. With a beam of 1 it is greedy. Raises ValueError for values out of range.
    """
    check(beam, length_penalty, extra)
    if beam == 1:
        return greedy(model, sources, length_penalty, extra)
    with evaluating(model):
        return _Search(model, sources, beam, length_penalty, extra).run()


@torch.no_grad()
def greedy(model: Transformer, sources: Tensor, length_penalty: float = 0.6, extra: int = 50) -> list[Found]:
    """Return each source's translation by the likeliest token at each step; sources and limit as in `beam_search`."""
    check(1, length_penalty, extra)
    if not len(sources):
        return []
    limits = (sources != PAD).sum(1) + extra
    longest, interval = int(limits.max()), _interval(sources)
    with evaluating(model):
        decoder = CachedDecoder(model, sources, 1, longest)
        seen = decoder.start()
        tokens, over = sources.new_full((len(sources), 1), BOS), torch.zeros_like(limits, dtype=torch.bool)
        steps, gains = [], []
        for number in range(1, longest + 1):
            gain, tokens = _log_chances(decoder.step(tokens, seen)).max(2)
            steps.append(tokens.masked_fill(over[:, None], PAD))
            gains.append(gain.masked_fill(over[:, None], 0))
            over = over | (tokens[:, 0] == EOS) | (limits <= number)
            if (number % interval == 0 or number == longest) and bool(over.all()):
                break
    rows = torch.cat(steps, 1).cpu().tolist()
    totals = torch.cat(gains, 1).double().sum(1).tolist()
    found = []
    for row, total, limit in zip(rows, totals, limits.tolist(), strict=True):
        ended = row.index(EOS) if EOS in row else None
        length = min(limit, len(row)) if ended is None else ended + 1
        found.append(
            Found(row[:length] if ended is None else row[:ended], total / length_penalty_of(length, length_penalty))
        )
    return found


class _Search:
    """The state of a beam search. Rows are the sentences that are still in the batch.

    Only the best finished translation of each sentence is kept: the others have no influence on what is returned.
    """

    def __init__(self, model: Transformer, sources: Tensor, beam: int, length_penalty: float, extra: int) -> None:
        self.beam, self.exponent = beam, length_penalty
        self.limits = [length + extra for length in (sources != PAD).sum(1).tolist()]  # the one read before the steps
        self.longest = max(self.limits, default=0)
        self.found: list[Found | None] = [None] * len(sources)
        self.numbers = list(range(len(sources)))  # of each row its sentence
        if not self.numbers:
            return
        self.interval = _interval(sources)
        self.decoder = CachedDecoder(model, sources, beam, self.longest)
        self.seen = self.decoder.start()  # which tokens of `history` a prefix has
        self.history = sources.new_zeros(len(sources), self.longest * beam)  # the tokens of each step, beam by beam
        self.tokens = sources.new_full((len(sources), beam), BOS)
        zero = model.embedding.new_zeros(len(sources), dtype=torch.promote_types(model.embedding.dtype, torch.float32))
        # All beams begin alike: only the first one counts.
        self.log_chances = torch.full_like(zero[:, None].expand(-1, beam), -math.inf)
        self.log_chances[:, 0] = 0
        self.finished = torch.full_like(zero, -math.inf)  # the score of the best
        self.path = self.seen[:, 0].clone()  # as a row of `seen`
        # The most that a prefix's log-probability can be divided by.
        most = [length_penalty_of(limit, length_penalty) for limit in self.limits]
        self.most = torch.tensor(most, dtype=zero.dtype).to(zero.device)

    def run(self) -> list[Found]:
        ends = set(self.limits)
        for length in range(1, self.longest + 1):
            self._extend(length)
            if length % self.interval == 0 or length in ends:
                self._collect(length)
                if not self.numbers:
                    break
        return self.found

    def _extend(self, length: int) -> None:
        """Extend all prefixes to `length` tokens."""
        place = slice((length - 1) * self.beam, length * self.beam)
        self.history[:, place] = self.tokens
        chances, parents, tokens = self._candidates(self.decoder.step(self.tokens, self.seen))
        ends = tokens == EOS
        best, which = chances.masked_fill(~ends, -math.inf).max(1, keepdim=True)
        score = best[:, 0] / length_penalty_of(length, self.exponent)
        better = score > self.finished
        self.finished = torch.where(better, score, self.finished)
        ended = self._prefixes(parents.gather(1, which), place.stop)[:, 0]
        self.path[:, : place.stop] = torch.where(better[:, None], ended, self.path[:, : place.stop])
        self.log_chances, which = chances.masked_fill(ends, -math.inf).topk(self.beam, dim=1)
        self.tokens = tokens.gather(1, which)
        self.seen[:, :, : place.stop] = self._prefixes(parents.gather(1, which), place.stop)

    def _candidates(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return of the 2 * beam likeliest extensions log-probability, prefix, and last token, [N, 2 * beam] each."""
        chances, tokens = _log_chances(logits).topk(min(2 * self.beam, logits.shape[2]), dim=2)
        chances = (chances + self.log_chances[:, :, None]).flatten(1)
        chances, which = chances.topk(2 * self.beam, dim=1)
        return chances, which // tokens.shape[2], tokens.flatten(1).gather(1, which)

    def _prefixes(self, which: Tensor, end: int) -> Tensor:
        return self.seen[:, :, :end].gather(1, which[:, :, None].expand(-1, -1, end))

    def _collect(self, length: int) -> None:
        """Take what is over out of the search, and drop it from the batch once that is worth it."""
        over = (self.finished >= self.log_chances[:, 0] / self.most).tolist()
        left = []
        taken = []
        for row, number in enumerate(self.numbers):
            if self.found[number] is not None:
                continue
            (taken if over[row] or self.limits[number] <= length else left).append(row)
        if taken:
            self._take(taken, length)
        if not left:
            self.numbers = []
        elif len(left) <= SHRINK * len(self.numbers):
            self._keep(left)

    def _take(self, rows: Sequence[int], length: int) -> None:
        index = torch.tensor(rows, device=self.tokens.device)
        histories, paths = self.history[index].cpu(), (self.path[index] == 0).cpu()
        alive = (self.seen[index, 0] == 0).cpu()
        scores, chances = self.finished[index].tolist(), self.log_chances[index, 0].tolist()
        last = self.tokens[index, 0].tolist()
        for place, row in enumerate(rows):
            if scores[place] > -math.inf:
                found = Found(histories[place][paths[place]].tolist()[1:], scores[place])  # without BOS
            else:
                tokens = [*histories[place][alive[place]].tolist()[1:], last[place]]
                found = Found(tokens, chances[place] / length_penalty_of(length, self.exponent))
            self.found[self.numbers[row]] = found

    def _keep(self, rows: Sequence[int]) -> None:
        index = torch.tensor(rows, device=self.tokens.device)
        self.decoder.keep(index)
        self.numbers = [self.numbers[row] for row in rows]
        for name in ("seen", "history", "tokens", "log_chances", "finished", "path", "most"):
            setattr(self, name, getattr(self, name)[index])


def _log_chances(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def _interval(sources: Tensor) -> int:
    return INTERVAL.get(sources.device.type, INTERVAL_ELSEWHERE)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off for a while."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def check(beam: object, length_penalty: object, extra: object = 0) -> None:
    """Raise ValueError, naming value and choices, for the first value out of range."""
    for name, value, least in (("beam", beam, 1), ("extra", extra, 0)):
        if type(value) is not int or value < least:
            raise ValueError(f"{name}={value} is not possible; give a whole number of at least {least}")
    if type(length_penalty) not in (int, float) or not 0 <= length_penalty < math.inf:
        raise ValueError(f"length_penalty={length_penalty} is not possible; give a number of at least 0")
