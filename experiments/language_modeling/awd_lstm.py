"""AWD-LSTM (Merity et al. [27], Appendix C.3): a language model of LSTM layers between tied embeddings."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.language_modeling.cross_entropy import linear_cross_entropy
from experiments.language_modeling.dropout import WeightDropLSTM, dropped_embedding, locked_dropout

Hidden = list[tuple[Tensor, Tensor]]  # of each layer h and c, [1, B, hidden of the layer]


class Output(NamedTuple):
    """What a pass over tokens [T, B] returns."""

    logits: Tensor | None  # [T, B, vocabulary]; None where targets are given
    hidden: Hidden  # after the last token
    raw: Tensor  # [T, B, embedding]: the last layer's outputs
    dropped: Tensor  # the same after dropout
    cross_entropy: Tensor | None = None  # with the targets, where they are given; 0-dim, the mean


class AWDLSTM(nn.Module):
    """Embeddings, `layers` LSTM layers, and logits by the same embeddings: 24,221,600 parameters for 10,000 words.

    The layers have `hidden` units; the last one has as many as an embedding, because its outputs are multiplied with
    the embeddings.
    """

    # torch.compile cannot compile the LSTM kernels, and would compile all else anew for each sequence length.
    compilable = False

    def __init__(
        self,
        vocabulary: int = 10_000,
        embedding: int = 400,
        hidden: int = 1150,
        layers: int = 3,
        word_dropout: float = 0.1,
        input_dropout: float = 0.65,
        hidden_dropout: float = 0.3,
        output_dropout: float = 0.4,
        weight_dropout: float = 0.5,
    ) -> None:
        """Draw the embeddings from U(-0.1, 0.1), the layers' weights from U(-1, 1) / sqrt(units); the bias is 0.

        `word_dropout` is of words, `input_dropout` of their embeddings, `hidden_dropout` of the outputs between
        layers, `output_dropout` of the last one's, `weight_dropout` of the hidden-to-hidden weights. Raises ValueError
        for sizes below 1 and for a dropout outside [0, 1).
        """
        _check(locals())
        super().__init__()
        self.word_dropout, self.input_dropout = word_dropout, input_dropout
        self.hidden_dropout, self.output_dropout = hidden_dropout, output_dropout
        self.embedding = nn.Parameter(torch.empty(vocabulary, embedding).uniform_(-0.1, 0.1))
        widths = [embedding, *[hidden] * (layers - 1), embedding]
        self.layers = nn.ModuleList(
            WeightDropLSTM(before, after, weight_dropout) for before, after in itertools.pairwise(widths)
        )
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def start(self, columns: int) -> Hidden:
        """Return hidden states of zeros for `columns` texts."""
        sizes = [layer.hidden_size for layer in self.layers]
        return [(self.bias.new_zeros(1, columns, size), self.bias.new_zeros(1, columns, size)) for size in sizes]

    def forward(self, tokens: Tensor, hidden: Hidden, targets: Tensor | None = None) -> Output:
        """Read `tokens`, int64 [T, B], from the states `hidden` on.

        With `targets`, of the same shape, there is their cross entropy in the place of logits: it takes less memory.
        """
        words = dropped_embedding(tokens, self.embedding, self.word_dropout, self.training)
        dropped = locked_dropout(words, self.input_dropout, self.training)
        after: Hidden = []
        for number, (layer, states) in enumerate(zip(self.layers, hidden, strict=True), start=1):
            raw, states = layer(dropped, states)
            after.append(states)
            p = self.hidden_dropout if number < len(self.layers) else self.output_dropout
            dropped = locked_dropout(raw, p, self.training)
        if targets is None:
            return Output(F.linear(dropped, self.embedding, self.bias), after, raw, dropped)
        rows = dropped.flatten(0, 1)
        cross_entropy = linear_cross_entropy(rows, self.embedding, self.bias, targets.flatten())
        return Output(None, after, raw, dropped, cross_entropy)


def activation_regularization(dropped: Tensor) -> Tensor:
    """Return AR, the mean square of the last layer's outputs after dropout; 0-dim. ([27], 4.6)"""
    return dropped.square().mean()


def temporal_regularization(raw: Tensor) -> Tensor:
    """Return TAR, the mean square of the steps in time of the last layer's outputs [T, B, width]; 0-dim. ([27], 4.6)

    Of a single row it is 0.
    """
    if len(raw) < 2:
        return raw.new_zeros(())
    return (raw[1:] - raw[:-1]).square().mean()


def _check(given: dict[str, Any]) -> None:
    """Raise ValueError, naming value and choices, for the first argument out of range."""
    for name in ("vocabulary", "embedding", "hidden", "layers"):
        if type(given[name]) is not int or given[name] < 1:
            raise ValueError(f"model.{name}={given[name]} is not possible; give a whole number of at least 1")
    for name, value in given.items():
        if name.endswith("_dropout") and (type(value) not in (int, float) or not 0 <= value < 1):
            raise ValueError(f"model.{name}={value} is not possible; give a number of at least 0, below 1")
