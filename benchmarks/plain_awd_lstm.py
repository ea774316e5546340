"""AWD-LSTM and its training step as they are usually written, for comparison.

The hidden-to-hidden weights are dropped by registering them anew in each layer before each pass, dropped words are a
mask of the whole embedding matrix, the optimizer is torch's default Adam, and each update reads its loss.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLIP, WEIGHT_DECAY = 0.25, 1.2e-6
ACTIVATION, TEMPORAL = 2.0, 1.0  # weights of AR and TAR

Hidden = list[tuple[Tensor, Tensor]]


class WeightDrop(nn.Module):
    """An LSTM layer that is given new hidden-to-hidden weights before each pass."""

    def __init__(self, input_size: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.lstm = nn.LSTM(input_size, hidden_size)
        self.raw = nn.Parameter(self.lstm.weight_hh_l0.data)
        del self.lstm._parameters["weight_hh_l0"]
        self.lstm.flatten_parameters = lambda: None  # what is no parameter cannot be moved into one block

    def forward(self, inputs: Tensor, hidden: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        dropped = F.dropout(self.raw, self.dropout, self.training)
        if isinstance(dropped, nn.Parameter):  # without dropout: torch would keep it as one, and refuse the next
            dropped = dropped.view_as(dropped)
        self.lstm.weight_hh_l0 = dropped
        return self.lstm(inputs, hidden)


class PlainAWDLSTM(nn.Module):
    """The model; `dropouts` are of words, inputs, hidden layers, outputs and weights."""

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        hidden: int,
        layers: int,
        dropouts: tuple[float, float, float, float, float],
    ) -> None:
        super().__init__()
        self.word, self.input, self.hidden, self.output, weight = dropouts
        self.encoder = nn.Embedding(vocabulary, embedding)
        widths = [embedding, *[hidden] * (layers - 1), embedding]
        self.layers = nn.ModuleList(WeightDrop(a, b, weight) for a, b in itertools.pairwise(widths))
        self.decoder = nn.Linear(embedding, vocabulary)
        self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def start(self, columns: int) -> Hidden:
        weight = self.encoder.weight
        shapes = [(1, columns, layer.lstm.hidden_size) for layer in self.layers]
        return [(weight.new_zeros(shape), weight.new_zeros(shape)) for shape in shapes]

    def forward(self, tokens: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden, Tensor, Tensor]:
        weight = self.encoder.weight
        if self.training and self.word:
            mask = weight.new_empty(len(weight), 1).bernoulli_(1 - self.word).expand_as(weight) / (1 - self.word)
            weight = mask * weight
        dropped = self._locked(F.embedding(tokens, weight), self.input)
        after = []
        for number, (layer, state) in enumerate(zip(self.layers, hidden, strict=True), 1):
            raw, state = layer(dropped, state)
            after.append(state)
            dropped = self._locked(raw, self.hidden if number < len(self.layers) else self.output)
        logits = self.decoder(dropped.view(-1, dropped.size(2)))
        return logits.view(*tokens.shape, -1), after, raw, dropped

    def _locked(self, inputs: Tensor, p: float) -> Tensor:
        if not self.training or not p:
            return inputs
        mask = inputs.new_empty(1, inputs.size(1), inputs.size(2)).bernoulli_(1 - p) / (1 - p)
        return mask.expand_as(inputs) * inputs


class PlainTraining:
    """The training step, with the hidden states that it carries."""

    def __init__(self, model: PlainAWDLSTM, columns: int, rate: float) -> None:
        self.model, self.columns, self.rate = model.train(), columns, rate
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
        self.begin()

    def begin(self) -> None:
        """Start an epoch: hidden states of zeros, and no loss yet."""
        self.states = self.model.start(self.columns)
        self.total_loss, self.tokens = 0.0, 0

    def update(self, inputs: Tensor, targets: Tensor, scale: float) -> float:
        """Take an update of tokens [T, B] with `scale` times the rate; return the loss."""
        self.optimizer.param_groups[0]["lr"] = self.rate * scale
        self.states = [(h.detach(), c.detach()) for h, c in self.states]
        self.optimizer.zero_grad()
        logits, self.states, raw, dropped = self.model(inputs, self.states)
        raw_loss = F.cross_entropy(logits.view(-1, logits.size(2)), targets.reshape(-1))
        loss = raw_loss + ACTIVATION * dropped.pow(2).mean()
        loss = loss + TEMPORAL * (raw[1:] - raw[:-1]).pow(2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.param_groups[0]["lr"] = self.rate
        value = raw_loss.item()
        self.total_loss += value * targets.numel()
        self.tokens += targets.numel()
        return value
