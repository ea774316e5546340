"""A layer of dropped weights on other devices and in other precisions: its memory, and what stays in float32."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from experiments.language_modeling.dropout import WeightDropLSTM


@pytest.fixture
def layer() -> WeightDropLSTM:
    torch.manual_seed(7)
    return WeightDropLSTM(5, 7, 0.5)


@pytest.fixture
def sequence() -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(8)
    inputs, h, c = (torch.randn(shape, generator=generator) for shape in ((6, 4, 5), (1, 4, 7), (1, 4, 7)))
    return inputs, (h, c)


def test_no_parameters_share_memory_as_on_cuda_those_of_torch_s_own_layers_do(layer, monkeypatch):
    # safetensors refuses a model whose parameters are parts of one block. CUDA is stood for by what torch asks of it.
    def in_one(weights, *_):
        block = torch.cat([weight.detach().flatten() for weight in weights])
        for weight, piece in zip(weights, block.split([weight.numel() for weight in weights]), strict=True):
            weight.data = piece.view_as(weight)

    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.setattr(torch, "_cudnn_rnn_flatten_weight", in_one)
    monkeypatch.setattr(torch, "_use_cudnn_rnn_flatten_weight", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn.rnn, "get_cudnn_mode", lambda mode: 2)
    monkeypatch.setattr(torch.backends.cudnn, "is_acceptable", lambda tensor: True)
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: contextlib.nullcontext())
    own = nn.LSTM(5, 7)
    for each, storages in ((own, 1), (layer, 4)):
        each.flatten_parameters()
        assert len({p.untyped_storage().data_ptr() for p in each.parameters()}) == storages


@pytest.mark.parametrize("training", [True, False])
def test_a_layer_stays_in_float32_under_autocast(layer, sequence, training):
    inputs, hidden = sequence
    layer.train(training)
    torch.manual_seed(1)
    expected = layer(inputs.bfloat16().float(), hidden)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(inputs.bfloat16(), hidden)
    assert found[0].dtype == torch.float32
    assert torch.equal(found[0], expected[0])
    assert all(torch.equal(one, other) for one, other in zip(found[1], expected[1], strict=True))
