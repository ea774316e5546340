"""The dropouts of words, units and weights against plain ones; a layer on other devices and in other precisions."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from experiments.language_modeling.dropout import WeightDropLSTM, dropped_embedding, locked_dropout
from tests.helpers.plain_lstm import close, plain_layer, tokens


@pytest.fixture
def layer() -> WeightDropLSTM:
    torch.manual_seed(7)
    return WeightDropLSTM(5, 7, 0.5)


@pytest.fixture
def sequence() -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(8)
    inputs, h, c = (torch.randn(shape, generator=generator) for shape in ((6, 4, 5), (1, 4, 7), (1, 4, 7)))
    return inputs, (h, c)


def test_dropped_words_are_whole_rows_of_the_embeddings_and_all_others_are_scaled():
    weight = torch.randn(11, 5, generator=torch.Generator().manual_seed(2), requires_grad=True)
    torch.manual_seed(5)
    found = dropped_embedding(tokens(30, 4), weight, 0.4, True)
    torch.manual_seed(5)
    mask = F.dropout(torch.ones(11), 0.4)  # 0 or 1 / 0.6 for each word
    assert {round(x, 5) for x in mask.tolist()} == {0.0, round(1 / 0.6, 5)}
    plain = F.embedding(tokens(30, 4), weight * mask[:, None])
    close(found, plain)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(6))
    close(*(torch.autograd.grad(output, weight, upstream)[0] for output in (found, plain)))
    for p, training in ((0.4, False), (0.0, True)):
        assert torch.equal(dropped_embedding(tokens(), weight, p, training), weight[tokens()])


def test_words_are_dropped_with_the_given_probability():
    torch.manual_seed(0)
    ones = dropped_embedding(torch.arange(20_000)[:, None], torch.ones(20_000, 1), 0.1, True)
    assert (ones == 0).float().mean().item() == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 20_000))
    assert ones.mean().item() == pytest.approx(1, abs=0.01)


def test_locked_dropout_has_one_mask_over_time_another_for_each_column_and_scales():
    inputs = torch.randn(9, 40, 50, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(5)
    found = locked_dropout(inputs, 0.65, True)
    torch.manual_seed(5)
    mask = F.dropout(torch.ones(1, 40, 50), 0.65)
    plain = torch.stack([row * mask[0] for row in inputs])
    close(found, plain)
    zero = found == 0
    assert torch.equal(zero, zero[:1].expand_as(zero))
    assert not torch.equal(zero[0, 0], zero[0, 1])
    assert zero.float().mean().item() == pytest.approx(0.65, abs=4 * math.sqrt(0.65 * 0.35 / 2000))
    close(found[~zero], inputs[~zero] / 0.35)
    for p, training in ((0.65, False), (0.0, True)):
        assert locked_dropout(inputs, p, training) is inputs


def drawn(layer: WeightDropLSTM, seed: int) -> torch.Tensor:
    """Return the mask that the pass after `torch.manual_seed(seed)` draws: 0 or 2 for each hidden-to-hidden weight."""
    torch.manual_seed(seed)
    return F.dropout(torch.ones_like(layer.weight_hh_l0), 0.5)


def test_a_layer_with_dropped_weights_is_a_plain_one_with_these_weights_and_so_are_its_gradients(layer, sequence):
    inputs, (h, c) = sequence
    mask = drawn(layer, 1)
    torch.manual_seed(1)
    outputs, (h_after, c_after) = layer(inputs, (h, c))
    plain, plain_h, plain_c = plain_layer(layer, inputs, h[0], c[0], layer.weight_hh_l0 * mask)
    close(outputs, plain)
    close(h_after[0], plain_h)
    close(c_after[0], plain_c)
    upstream = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(9))
    parameters = list(layer.parameters())
    grads, plain_grads = (torch.autograd.grad(o, parameters, upstream) for o in (outputs, plain))
    for grad, expected in zip(grads, plain_grads, strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-6)
    names = [name for name, _ in layer.named_parameters()]
    of_dropped = grads[names.index("weight_hh_l0")]
    assert not of_dropped[mask == 0].any()
    assert of_dropped[mask != 0].all()


def test_a_layer_is_torch_s_own_with_other_weights(layer, sequence):
    inputs, hidden = sequence
    mask = drawn(layer, 2)
    torch.manual_seed(2)
    outputs, states = layer(inputs, hidden)
    own = nn.LSTM(5, 7)
    own.load_state_dict(layer.state_dict())
    theirs, their_states = functional_call(own, {"weight_hh_l0": layer.weight_hh_l0 * mask}, (inputs, hidden))
    close(outputs, theirs)
    close(states, their_states)


def test_masks_differ_between_training_passes_from_the_second_step_on(layer, sequence):
    inputs, (h, c) = sequence
    zero = torch.zeros_like(h)
    one, two = (layer(inputs, (zero, c))[0] for _ in range(2))
    assert torch.equal(one[0], two[0])  # from h = 0 the hidden-to-hidden weights do nothing
    assert all(not torch.allclose(one[step], two[step]) for step in range(1, 6))
    assert not torch.allclose(layer(inputs, (h, c))[0][0], layer(inputs, (h, c))[0][0])


def test_weights_that_are_changed_in_place_are_those_of_the_next_pass(layer, sequence):
    layer.eval()
    before = layer(*sequence)[0]
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    plain, *_ = plain_layer(layer, sequence[0], sequence[1][0][0], sequence[1][1][0], layer.weight_hh_l0)
    close(layer(*sequence)[0], plain)
    assert not torch.allclose(plain, before)


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
