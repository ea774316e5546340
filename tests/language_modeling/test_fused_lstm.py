"""A layer by the fused kernel with sizes that are padded for TF32: on a CPU it is held against the layer as it is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from experiments.language_modeling import fused_lstm
from experiments.language_modeling.awd_lstm import AWDLSTM, activation_regularization, temporal_regularization
from experiments.language_modeling.dropout import WeightDropLSTM

ROUNDING = {torch.float32: {"rtol": 1e-5, "atol": 2e-6}, torch.float64: {"rtol": 1e-12, "atol": 1e-12}}
SIZES = [(5, 7), (8, 7), (5, 16), (8, 16), (17, 25), (1, 1)]  # width and units


@pytest.fixture
def kernel(monkeypatch) -> list[SimpleNamespace]:
    """Note what torch's kernel is given and returns, call by call."""
    calls, own = [], torch.lstm

    def noting(inputs, states, weights, *rest):
        found = own(inputs, states, weights, *rest)
        calls.append(SimpleNamespace(inputs=inputs, states=states, weights=weights, rest=rest, found=found))
        return found

    monkeypatch.setattr(torch, "lstm", noting)
    return calls


def given(width: int, units: int, dtype: torch.dtype) -> tuple[Tensor, tuple[Tensor, Tensor], list[Tensor]]:
    """Return inputs, states and weights of a layer, which all take gradients."""
    generator = torch.Generator().manual_seed(8)
    shapes = [(6, 4, width), (1, 4, units), (1, 4, units)]
    shapes += [(4 * units, width), (4 * units, units), (4 * units,), (4 * units,)]
    inputs, h, c, *weights = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes
    )
    return inputs, (h, c), weights


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(("width", "units"), SIZES)
def test_a_padded_layer_is_the_layer_itself_and_so_are_all_its_gradients(width, units, dtype):
    inputs, states, weights = given(width, units, dtype)
    generator = torch.Generator().manual_seed(9)
    upstream = [torch.randn(shape, generator=generator).to(dtype) for shape in [(6, 4, units), *[(1, 4, units)] * 2]]
    results = []
    for call in (fused_lstm.fused_lstm, fused_lstm.aligned_lstm):
        outputs, after = call(inputs, states, weights, True)
        results.append(
            [outputs, *after, *torch.autograd.grad([outputs, *after], [inputs, *states, *weights], upstream)]
        )
    for plain, padded in zip(*results, strict=True):
        torch.testing.assert_close(padded, plain, **ROUNDING[dtype])
    assert all(state.is_contiguous() for state in results[1][1:3])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("width", "units"), SIZES)
def test_the_kernel_of_a_padded_layer_has_multiples_of_8_and_weights_in_one_block(width, units, training, kernel):
    inputs, states, weights = given(width, units, torch.float32)
    fused_lstm.aligned_lstm(inputs, states, weights, training)
    (call,) = kernel
    full, wide = -(-units // 8) * 8, -(-width // 8) * 8
    assert call.inputs.shape == (6, 4, wide)
    assert [state.shape for state in (*call.states, *call.found[1:])] == [(1, 4, full)] * 4
    assert [weight.shape for weight in call.weights] == [(4 * full, wide), (4 * full, full), (4 * full,), (4 * full,)]
    sizes = [0, wide, full, 1]
    starts = [4 * 4 * full * sum(sizes[: number + 1]) for number in range(4)]
    assert [weight.data_ptr() - call.weights[0].data_ptr() for weight in call.weights] == starts
    assert call.rest == (True, 1, 0.0, training, False, False)
    for tensor in call.found:
        assert not tensor[..., units:].any()  # the units that were added


def test_weights_in_one_block_lie_in_cudnn_s_order_and_train_as_those_they_are_copied_from():
    inputs, states, weights = given(5, 7, torch.float32)
    copies = fused_lstm.in_one_block(weights)
    places = [copy.data_ptr() - copies[0].data_ptr() for copy in copies]
    assert places == [0, 4 * 28 * 5, 4 * 28 * 12, 4 * 28 * 13]  # float32; 28 = 4 x 7 rows of 5, 7, 1 and 1
    assert copies[0].untyped_storage().nbytes() == 4 * 28 * 14
    upstream = torch.randn(6, 4, 7, generator=torch.Generator().manual_seed(9))
    results = []
    for each in (weights, copies):
        outputs, *_ = torch.lstm(inputs, states, each, True, 1, 0.0, True, False, False)
        results.append([outputs, *torch.autograd.grad(outputs, weights, upstream)])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def two_sequences(model: AWDLSTM) -> list[Tensor]:
    """Return the loss of two sequences, the second from the states after the first, these states, and gradients."""
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randint(11, (2, 9, 4), generator=generator)
    hidden, loss, kept = model.start(4), torch.zeros(()), []
    torch.manual_seed(5)
    for sequence in tokens:
        found = model(sequence, hidden, sequence.roll(1, 0))
        loss = loss + found.cross_entropy + 2 * activation_regularization(found.dropped)
        loss = loss + temporal_regularization(found.raw)
        hidden = found.hidden
        kept += [found.raw, found.dropped, *(state for states in hidden for state in states)]
    kept += [loss, *torch.autograd.grad(loss, list(model.parameters())), torch.get_rng_state()]
    return kept


@pytest.mark.parametrize(("embedding", "hidden"), [(5, 7), (8, 12), (16, 24)])
def test_a_padded_model_is_the_model_itself_with_every_dropout_and_states_that_are_carried(
    embedding, hidden, kernel, monkeypatch
):
    torch.manual_seed(3)
    model = AWDLSTM(11, embedding, hidden, input_dropout=0.2, weight_dropout=0.5)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    plain = two_sequences(model)
    assert {call.inputs.shape[2] for call in kernel} == {embedding, hidden}
    kernel.clear()
    monkeypatch.setattr(fused_lstm, "computed_in_tf32", lambda inputs: True)
    padded = two_sequences(model)
    assert len(kernel) == 2 * 3
    assert all(call.inputs.shape[2] % 8 == call.found[0].shape[2] % 8 == 0 for call in kernel)
    for one, other in zip(plain, padded, strict=True):
        torch.testing.assert_close(other, one, **ROUNDING[torch.float32])
    assert torch.equal(plain[-1], padded[-1])  # as many random numbers were drawn
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


@pytest.mark.parametrize("allowed", [True, False])
def test_on_a_cpu_nothing_is_padded_whatever_is_allowed_to_cudnn(allowed, kernel, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    torch.manual_seed(7)
    layer = WeightDropLSTM(5, 7, 0)
    inputs, states, _ = given(5, 7, torch.float32)
    outputs, after = layer(inputs, states)
    assert [id(weight) for weight in kernel[0].weights] == [id(p) for p in layer.parameters()]
    own = nn.LSTM(5, 7)
    own.load_state_dict(layer.state_dict())
    theirs, their_states = own(inputs, states)
    assert torch.equal(outputs, theirs)
    assert all(torch.equal(one, other) for one, other in zip(after, their_states, strict=True))


@pytest.mark.parametrize(
    ("dtype", "allowed", "expected"),
    [
        (torch.float32, True, "padded"),
        (torch.float32, False, "in one block"),
        (torch.float64, True, "in one block"),
        (torch.float16, True, "in one block"),
    ],
)
def test_on_cuda_a_layer_is_padded_where_it_is_computed_in_tf32(dtype, allowed, expected, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    monkeypatch.setattr(fused_lstm, "aligned_lstm", lambda inputs, states, weights, training: "padded")
    monkeypatch.setattr(fused_lstm, "in_one_block", lambda weights: "in one block")
    monkeypatch.setattr(fused_lstm, "_kernel", lambda inputs, states, weights, training: weights)
    inputs = SimpleNamespace(device=torch.device("cuda"), dtype=dtype)
    assert fused_lstm.fused_lstm(inputs, None, None, True) == expected
