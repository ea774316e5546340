"""Attention of several heads between packed rows, where each pair of sentences sees itself alone."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Masks(NamedTuple):
    """What is added to the attention's scores: 0 where a query may see a key, minus infinity elsewhere.

    Each is [R, 1, queries, keys], of the type that queries have: torch's fused kernels take it as it is.
    """

    source: Tensor  # [R, 1, S, S]: source to source
    target: Tensor  # [R, 1, T, T]: target to target, itself and what is before it
    cross: Tensor  # [R, 1, T, S]: target to source


class Cache(Protocol):
    """The keys and values of tokens that were read before."""

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of further tokens, [R, heads, T, width / heads]; return all of them so far."""


def segment_masks(source: Tensor, target: Tensor, dtype: torch.dtype) -> Masks:
    """Return the masks of rows whose tokens belong to the pairs `source` [R, S] and `target` [R, T]; 0 is padding.

    Every query has a key to see, or its softmax would be nan: padding sees padding, and where the source's row has
    none, all of it. Nobody sees padding.
    """
    padding = (target == 0)[:, :, None]
    before = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool, device=target.device).tril()
    seen = (
        source[:, :, None] == source[:, None, :],
        (target[:, :, None] == target[:, None, :]) & before,
        (target[:, :, None] == source[:, None, :]) | padding,
    )
    return Masks(*(additive(each, dtype)[:, None] for each in seen))


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where `seen` is true, and minus infinity elsewhere."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))


class SelfAttention(nn.Module):
    """Attention of tokens to tokens of the same sequence; queries, keys and values by one matrix, none with a bias."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.projection = nn.Parameter(glorot(3, width))
        self.output = nn.Parameter(glorot(1, width))

    def forward(self, inputs: Tensor, mask: Tensor, cache: Cache | None = None) -> Tensor:
        """Return [R, T, width] for `inputs` of the same shape, which also see what `cache` holds."""
        queries, keys, values = by_heads(F.linear(inputs, self.projection), 3, self.heads)
        if cache is not None:
            keys, values = cache.extend(keys, values)
        return attend(queries, keys, values, mask, self.output, self.dropout if self.training else 0.0)


class CrossAttention(nn.Module):
    """Attention of target to source; keys and values by one matrix, none with a bias."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Parameter(glorot(1, width))
        self.memory = nn.Parameter(glorot(2, width))
        self.output = nn.Parameter(glorot(1, width))

    def keys_and_values(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Return those of `encoded` [R, S, width], [R, heads, S, width / heads] each."""
        keys, values = by_heads(F.linear(encoded, self.memory), 2, self.heads)
        return keys, values

    def forward(self, inputs: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Return [R, T, width] for `inputs` of the same shape."""
        (queries,) = by_heads(F.linear(inputs, self.query), 1, self.heads)
        return attend(queries, keys, values, mask, self.output, self.dropout if self.training else 0.0)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, output: Tensor, dropout: float) -> Tensor:
    """Return the attention's results, heads put together [R, T, width] and multiplied by `output`."""
    found = F.scaled_dot_product_attention(queries, keys, values, mask, dropout)
    return F.linear(found.transpose(1, 2).flatten(2), output)


def by_heads(projected: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Return views [R, heads, T, width / heads] of the `parts` that lie side by side in [R, T, parts * width]."""
    return projected.unflatten(2, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def glorot(parts: int, width: int) -> Tensor:
    """Return `parts` matrices from width to width below each other, each drawn from Glorot's uniform distribution."""
    return torch.cat([nn.init.xavier_uniform_(torch.empty(width, width)) for _ in range(parts)])
