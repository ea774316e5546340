"""Lines of text translated by a model: in batches of like lengths, and back in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from experiments.translation.beam_search import beam_search, check
from experiments.translation.subwords import EOS, PAD, Subwords
from experiments.translation.transformer import Transformer

POSITIONS = 32_768  # in a batch: sentences times the greatest length of a translation times the beam
EXTRA = 50  # tokens that a translation may have more than its source


def translate(
    model: Transformer,
    subwords: Subwords,
    lines: Sequence[str],
    device: torch.device,
    beam: int = 4,
    length_penalty: float = 0.6,
    tick: Callable[[], object] = lambda: None,
) -> list[str]:
    """Return a translation of each of `lines`, of whatever length, in their order; of a blank line, a blank one.

    `tick()` is called before each batch, and may raise. Raises ValueError for values out of range.
    """
    check(beam, length_penalty)
    sources = [[*tokens, EOS] if tokens else [] for tokens in subwords.encode(lines)]
    translations = [""] * len(lines)
    limits = [len(source) + EXTRA if source else 0 for source in sources]
    for numbers in batches(limits, max(1, POSITIONS // beam)):
        tick()
        width = max(len(sources[number]) for number in numbers)
        rows = [sources[number] + [PAD] * (width - len(sources[number])) for number in numbers]
        found = beam_search(model, torch.tensor(rows).to(device), beam, length_penalty, EXTRA)
        for number, line in zip(numbers, subwords.decode([each.tokens for each in found]), strict=True):
            translations[number] = line
    return translations


def batches(lengths: Sequence[int], positions: int) -> Iterator[list[int]]:
    """Yield numbers of sentences, longest first, so that those of a batch, padded, have at most `positions` tokens.

    One that is longer has a batch of its own, and those of length 0 have none.
    """
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if lengths[number] == 0:
            break
        if batch and (len(batch) + 1) * lengths[batch[0]] > positions:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
