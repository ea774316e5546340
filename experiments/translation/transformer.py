"""The Transformer of Vaswani et al. [42] as Tensor2Tensor builds it (Section 5.4, Appendix C.4), on packed rows."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.language_modeling.cross_entropy import linear_cross_entropy
from experiments.translation.attention import Cache, CrossAttention, Masks, SelfAttention, segment_masks
from experiments.translation.subwords import BOS, EOS, PAD, UNKNOWN

# The planes of a batch [R, PLANES, T]. Rows are packed: several pairs of sentences, one after the other. A token's
# segment, 1, 2, ..., numbers its pair in the row; 0 is padding. The target is shifted right, and begins with BOS.
SOURCE, SOURCE_SEGMENT, SOURCE_POSITION, TARGET, TARGET_SEGMENT, TARGET_POSITION = range(6)
PLANES = 6

EPSILON = 1e-6  # of layer normalization
LONGEST_WAVE = 1e4  # of positions, in units of 2 pi tokens; the shortest is 1

# As torch.compiler.disable, which would import the compiler here, and so for those who never compile: it takes seconds.
_uncompiled_loss = torch._disable_dynamo(linear_cross_entropy)


class Transformer(nn.Module):
    """Encoder and decoder of `layers` pre-normalized layers each, and one matrix for source, target and logits."""

    def __init__(
        self,
        vocabulary: int,
        width: int = 512,
        layers: int = 6,
        heads: int = 8,
        hidden: int = 2048,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        relu_dropout: float = 0.1,
    ) -> None:
        """Draw matrices from Glorot's uniform distribution, embeddings from N(0, 1 / width); biases are 0.

        `hidden` units are between the two matrices of a feed-forward layer. `dropout` is of the embedded tokens and of
        what each layer adds, `attention_dropout` of the attention's weights, `relu_dropout` of the hidden units. Raises
        ValueError for sizes below 1, heads that do not divide the width, and a dropout outside [0, 1).
        """
        _check(locals())
        super().__init__()
        self.width, self.heads, self.dropout = width, heads, dropout
        self.embedding = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5)
        options = (width, heads, hidden, dropout, attention_dropout, relu_dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*options) for _ in range(layers))
        self.encoder_norm = nn.LayerNorm(width, EPSILON)
        self.decoder = nn.ModuleList(DecoderLayer(*options) for _ in range(layers))
        self.decoder_norm = nn.LayerNorm(width, EPSILON)

    def forward(
        self, inputs: Tensor, targets: Tensor | None = None, weights: Tensor | None = None, smoothing: float = 0.0
    ) -> Tensor:
        """Return the logits [R, T, vocabulary] of `inputs`, int64 [R, PLANES, T].

        With `targets`, int64 [R, T], and their `weights`, [R, T] (None: 1 each), it is the sum of weight times cross
        entropy, in nats, 0-dim, less the smallest possible where labels are smoothed: it takes less memory.
        """
        source, source_segment, source_position, target, target_segment, target_position = inputs.unbind(1)
        masks = segment_masks(source_segment, target_segment, self.product_dtype())
        # Both at once: one gradient of the matrix.
        tokens, positions = torch.stack((source, target)), torch.stack((source_position, target_position))
        embedded = self.embed(tokens, F.embedding(positions, self.codes(inputs.shape[2])))
        decoded = self.decode(embedded[1], self.encode(embedded[0], masks.source), masks)
        if targets is None:
            return F.linear(decoded, self.embedding)
        if weights is None:
            weights = torch.ones_like(targets, dtype=torch.float32)
        # A compiled pass ends before the loss: its gradients are computed in pieces, by a function of their own.
        loss = _uncompiled_loss if torch.compiler.is_compiling() else linear_cross_entropy
        rows, labels = decoded.flatten(0, 1), targets.flatten()
        return loss(rows, self.embedding, None, labels, weights=weights.flatten(), smoothing=smoothing)

    def embed(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """Return the embedded `tokens`, int64 of any shape, with the codes of their positions, [..., width]."""
        embedded = F.embedding(tokens, self.embedding) * math.sqrt(self.width) + codes
        return F.dropout(embedded, self.dropout, self.training)

    def codes(self, count: int) -> Tensor:
        """Return the codes of positions 0, 1, ..., `count` - 1, [count, width]."""
        return sinusoids(count, self.width, self.embedding)

    def encode(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Return the encoder's normalized outputs [R, S, width] for embedded sources of the same shape."""
        for layer in self.encoder:
            embedded = layer(embedded, mask)
        return self.encoder_norm(embedded)

    def decode(self, embedded: Tensor, encoded: Tensor, masks: Masks) -> Tensor:
        """Return the decoder's normalized outputs [R, T, width] for embedded targets of the same shape."""
        for layer in self.decoder:
            keys, values = layer.cross_attention.keys_and_values(encoded)
            embedded = layer(embedded, keys, values, masks.target, masks.cross)
        return self.decoder_norm(embedded)

    def product_dtype(self) -> torch.dtype:
        """Return the type that products with the weights have, and so queries, keys and values."""
        device = self.embedding.device.type
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.embedding.dtype


class EncoderLayer(nn.Module):
    """Attention of the source to itself, then a feed-forward layer, each added to its unnormalized inputs."""

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float, attention_dropout: float, relu_dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(width, EPSILON)
        self.attention = SelfAttention(width, heads, attention_dropout)
        self.feed_forward_norm = nn.LayerNorm(width, EPSILON)
        self.feed_forward = FeedForward(width, hidden, relu_dropout)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        attended = self.attention(self.attention_norm(inputs), mask)
        inputs = inputs + F.dropout(attended, self.dropout, self.training)
        fed = self.feed_forward(self.feed_forward_norm(inputs))
        return inputs + F.dropout(fed, self.dropout, self.training)


class DecoderLayer(nn.Module):
    """Attention of the target to itself, to the source, then a feed-forward layer, each added as in EncoderLayer."""

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float, attention_dropout: float, relu_dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(width, EPSILON)
        self.attention = SelfAttention(width, heads, attention_dropout)
        self.cross_attention_norm = nn.LayerNorm(width, EPSILON)
        self.cross_attention = CrossAttention(width, heads, attention_dropout)
        self.feed_forward_norm = nn.LayerNorm(width, EPSILON)
        self.feed_forward = FeedForward(width, hidden, relu_dropout)

    def forward(
        self, inputs: Tensor, keys: Tensor, values: Tensor, mask: Tensor, cross_mask: Tensor, cache: Cache | None = None
    ) -> Tensor:
        """Return [R, T, width]; `keys` and `values` are the source's, `cache` has the target's earlier ones."""
        attended = self.attention(self.attention_norm(inputs), mask, cache)
        inputs = inputs + F.dropout(attended, self.dropout, self.training)
        attended = self.cross_attention(self.cross_attention_norm(inputs), keys, values, cross_mask)
        inputs = inputs + F.dropout(attended, self.dropout, self.training)
        fed = self.feed_forward(self.feed_forward_norm(inputs))
        return inputs + F.dropout(fed, self.dropout, self.training)


class FeedForward(nn.Module):
    """Two linear layers with `hidden` rectified units between them."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)
        for linear in (self.inner, self.outer):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.outer(F.dropout(F.relu(self.inner(inputs)), self.dropout, self.training))


def sinusoids(count: int, width: int, like: Tensor) -> Tensor:
    """Return the codes of positions 0, 1, ..., `count` - 1, [count, width]: width / 2 sines, then their cosines.

    Their waves are from 2 pi to LONGEST_WAVE * 2 pi tokens long, in a geometric series with both ends (Tensor2Tensor's
    get_timing_signal_1d; [42] interleaves sines and cosines, and has no wave of the longest length).
    """
    pairs = width // 2
    steps = torch.arange(pairs, device=like.device, dtype=torch.float32) / max(pairs - 1, 1)
    frequencies = torch.exp(-math.log(LONGEST_WAVE) * steps)
    angles = torch.arange(count, device=like.device, dtype=torch.float32)[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), 1).to(like.dtype)


def _check(given: dict[str, Any]) -> None:
    """Raise ValueError, naming value and choices, for the first argument out of range."""
    least = {"vocabulary": len((PAD, BOS, EOS, UNKNOWN)), "width": 1, "layers": 1, "heads": 1, "hidden": 1}
    for name, smallest in least.items():
        if type(given[name]) is not int or given[name] < smallest:
            raise ValueError(f"model.{name}={given[name]} is not possible; give a whole number of at least {smallest}")
    width, heads = given["width"], given["heads"]
    if width % 2:
        raise ValueError(f"model.width={width} is not possible; give an even number, for sines and cosines")
    if width % heads:
        raise ValueError(f"model.heads={heads} is not possible; give a number that divides model.width={width}")
    for name in ("dropout", "attention_dropout", "relu_dropout"):
        if type(given[name]) not in (int, float) or not 0 <= given[name] < 1:
            raise ValueError(f"model.{name}={given[name]} is not possible; give a number of at least 0, below 1")
