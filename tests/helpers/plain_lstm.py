"""LSTM layers written out, one step and one operation at a time, for tests that compare with them."""

from __future__ import annotations

import torch


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def tokens(rows: int = 6, columns: int = 4) -> torch.Tensor:
    return torch.randint(11, (rows, columns), generator=torch.Generator().manual_seed(3))


def plain_cell(x, h, c, w_ih, w_hh, b_ih, b_hh):
    """One step of an LSTM (Hochreiter and Schmidhuber, with a forget gate), for all columns."""
    i, f, g, o = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def plain_layer(layer, inputs, h, c, w_hh):
    outputs = []
    for x in inputs:
        h, c = plain_cell(x, h, c, layer.weight_ih_l0, w_hh, layer.bias_ih_l0, layer.bias_hh_l0)
        outputs.append(h)
    return torch.stack(outputs), h, c
