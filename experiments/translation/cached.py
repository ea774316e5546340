"""The decoder one token at a time: keys and values of what came before are kept on the device."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from experiments.translation.attention import additive
from experiments.translation.subwords import PAD
from experiments.translation.transformer import Transformer


class CachedDecoder:
    """Next tokens after `beams` prefixes of each of N sources, which are encoded once.

    Nothing that is kept is ever moved when prefixes part: the keys and values of all beams of a sentence lie side by
    side, `beams` to a step, and `seen` says which of them belong to which prefix. The beams share the source's.
    """

    def __init__(self, model: Transformer, sources: Tensor, beams: int, longest: int) -> None:
        """Encode `sources`, int64 [N, S] padded with PAD; there is room for `longest` steps."""
        self.model, self.beams, self.longest = model, beams, longest
        dtype = model.product_dtype()
        self.source_mask = additive(sources != PAD, dtype)[:, None, None]
        embedded = model.embed(sources, model.codes(sources.shape[1]))
        encoded = model.encode(embedded, self.source_mask)
        self.source = [layer.cross_attention.keys_and_values(encoded) for layer in model.decoder]
        self.target = [_Kept(beams * longest) for _ in model.decoder]
        self.codes = model.codes(longest)
        self.steps = 0

    def start(self) -> Tensor:
        """Return `seen` before the first step, [N, beams, longest * beams]: minus infinity, and 0 for what is seen."""
        mask = self.source_mask
        return mask.new_full((len(mask), self.beams, self.longest * self.beams), float("-inf"))

    def step(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Return the logits [N, beams, vocabulary] after the last tokens [N, beams] of the prefixes.

        `seen` has 0 where a prefix has a token of an earlier step; those of this step are marked here.
        """
        place = slice(self.steps * self.beams, (self.steps + 1) * self.beams)
        seen[:, :, place].diagonal(dim1=1, dim2=2).zero_()
        mask = seen[:, None, :, : place.stop]
        hidden = self.model.embed(tokens, self.codes[self.steps])
        for layer, source, target in zip(self.model.decoder, self.source, self.target, strict=True):
            hidden = layer(hidden, *source, mask, self.source_mask, target)
        self.steps += 1
        return F.linear(self.model.decoder_norm(hidden), self.model.embedding)

    def keep(self, rows: Tensor) -> None:
        """Go on with the sentences `rows`, ascending int64 [fewer], alone."""
        self.source_mask = self.source_mask[rows]
        self.source = [(keys[rows], values[rows]) for keys, values in self.source]
        for target in self.target:
            target.keep(rows)


class _Kept:
    """A layer's keys and values, in memory that is asked for once."""

    def __init__(self, room: int) -> None:
        self.room, self.used = room, 0
        self.both: tuple[Tensor, ...] = ()  # keys and values, [N, heads, room, width / heads]

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if not self.both:
            rows, heads, _, width = keys.shape
            self.both = tuple(each.new_empty(rows, heads, self.room, width) for each in (keys, values))
        end = self.used + keys.shape[2]
        for all_, new in zip(self.both, (keys, values), strict=True):
            all_[:, :, self.used : end] = new
        self.used = end
        keys, values = (each[:, :, :end] for each in self.both)
        return keys, values

    def keep(self, rows: Tensor) -> None:
        for each in self.both:
            each[: len(rows), :, : self.used] = each[rows, :, : self.used]
        self.both = tuple(each[: len(rows)] for each in self.both)
