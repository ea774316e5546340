"""The dropouts of AWD-LSTM ([27], Section 4): of words, of units over a whole sequence, and of recurrent weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.language_modeling.fused_lstm import fused_lstm


def dropped_embedding(tokens: Tensor, weight: Tensor, p: float, training: bool) -> Tensor:
    """Return the embeddings of `tokens`, where each word is zero throughout with probability `p`, others / (1 - p).

    `tokens` int64 [...], `weight` [words, width]; returns [..., width]. ([27], 4.3)
    """
    embedded = F.embedding(tokens, weight)
    if not training or p == 0:
        return embedded
    # The factors of the words that occur: the same as to multiply the whole matrix, with less to do.
    kept = F.dropout(weight.new_ones(weight.shape[0]), p)
    return embedded * kept[tokens].unsqueeze(-1)


def locked_dropout(inputs: Tensor, p: float, training: bool) -> Tensor:
    """Drop units of `inputs` [T, B, width] with one mask for all of T, others / (1 - p). ([27], 4.2)"""
    if not training or p == 0:
        return inputs
    return inputs * F.dropout(inputs.new_ones(1, *inputs.shape[1:]), p)


class WeightDropLSTM(nn.LSTM):
    """One LSTM layer whose hidden-to-hidden weights are dropped, once for a whole sequence. ([27], 2)

    Each element is zero with probability `weight_dropout`, others are divided by 1 - weight_dropout.
    """

    def __init__(self, input_size: int, hidden_size: int, weight_dropout: float) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_dropout = weight_dropout

    def forward(self, inputs: Tensor, hidden: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the outputs [T, B, hidden] and the states (h, c), [1, B, hidden] each, after the last of T inputs."""
        device = inputs.device.type
        if torch.is_autocast_enabled(device):
            # The layers stay in float32. On CUDA autocast would make them float16, whatever it is for, in which the
            # gradients of a mean over thousands of words vanish; oneDNN has no LSTM in bfloat16 for many a processor.
            with torch.autocast(device, enabled=False):
                return self._dropped(inputs.float(), hidden)
        return self._dropped(inputs, hidden)

    def flatten_parameters(self) -> None:
        """Leave the parameters where they are, on CUDA too: passes copy them, and safetensors wants no shared block."""

    def _dropped(self, inputs: Tensor, hidden: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        recurrent = self.weight_hh_l0
        if self.training and self.weight_dropout > 0:
            recurrent = F.dropout(recurrent, self.weight_dropout)
        weights = [self.weight_ih_l0, recurrent, self.bias_ih_l0, self.bias_hh_l0]
        return fused_lstm(inputs, hidden, weights, self.training)
