"""The cross entropy with smoothed labels and weights of rows, against Tensor2Tensor's formula written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from experiments.language_modeling.cross_entropy import linear_cross_entropy, smallest_cross_entropy

CLASSES, WIDTH, COUNT = 13, 6, 10


def given(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = ((COUNT, WIDTH), (CLASSES, WIDTH), (CLASSES,))
    tensors = [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]
    weights = torch.rand(COUNT, generator=generator, dtype=torch.float32)
    return tensors, torch.randint(CLASSES, (COUNT,), generator=generator), weights


def tensor2tensor_losses(logits, targets, smoothing):
    """smoothing_cross_entropy of its layers/common_layers.py, one label at a time."""
    confidence, low = 1 - smoothing, smoothing / (CLASSES - 1)
    losses = []
    for row, target in zip(logits, targets.tolist(), strict=True):
        label = torch.full((CLASSES,), low, dtype=logits.dtype)
        label[target] = confidence
        chances = row - row.exp().sum().log()
        smallest = -(confidence * math.log(confidence) + (CLASSES - 1) * low * math.log(low + 1e-20))
        losses.append(-(label * chances).sum() - smallest)
    return torch.stack(losses)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("rows", [3, COUNT])
@pytest.mark.parametrize("bias", [True, False])
def test_loss_and_gradients_are_tensor2tensor_s(smoothing, rows, bias):
    (inputs, weight, offset), targets, weights = given()
    offset = offset if bias else None
    found = linear_cross_entropy(inputs, weight, offset, targets, rows, weights, smoothing)
    losses = tensor2tensor_losses(F.linear(inputs, weight, offset), targets, smoothing)
    expected = (losses * weights).sum()
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    tensors = [inputs, weight, *([offset] if bias else [])]
    for own, other in zip(*(torch.autograd.grad(2.5 * loss, tensors) for loss in (found, expected)), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


def test_gradients_are_torch_s_own_with_its_uniform_smoothing():
    tensors, targets, _ = given()
    found = linear_cross_entropy(*tensors, targets, smoothing=0.1)
    smoothing = 0.1 * CLASSES / (CLASSES - 1)  # which torch spreads over all classes, the target too
    logits = F.linear(*tensors)
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(found + smallest_cross_entropy(CLASSES, 0.1), expected, rtol=1e-12, atol=1e-12)
    for own, other in zip(*(torch.autograd.grad(loss, tensors) for loss in (found, expected)), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


def test_the_smallest_loss_is_the_recipe_s():
    assert smallest_cross_entropy(33_708, 0.1) == pytest.approx(1.3676, abs=5e-5)
    assert smallest_cross_entropy(33_708, 0.0) == 0
    # By hand: half the chance on the target, half on the one other class.
    assert smallest_cross_entropy(2, 0.5) == pytest.approx(math.log(2))


def test_at_the_smoothed_label_s_own_chances_the_loss_is_0():
    chances = torch.full((1, CLASSES), 0.1 / (CLASSES - 1), dtype=torch.float64)
    chances[0, 4] = 0.9
    eye = torch.eye(CLASSES, dtype=torch.float64)
    found = linear_cross_entropy(chances.log().requires_grad_(), eye, None, torch.tensor([4]), smoothing=0.1)
    assert abs(found.item()) < 1e-12


def test_rows_of_weight_0_have_no_part():
    (inputs, weight, _), targets, weights = given()
    weights[::2] = 0
    found = linear_cross_entropy(inputs, weight, None, targets, 4, weights, 0.1)
    of_inputs, of_weight = torch.autograd.grad(found, (inputs, weight))
    half = linear_cross_entropy(inputs[1::2], weight, None, targets[1::2], 4, weights[1::2], 0.1)
    torch.testing.assert_close(found, half, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(of_weight, torch.autograd.grad(half, weight)[0], rtol=1e-12, atol=1e-12)
    assert not of_inputs[::2].any()
    assert of_inputs[1::2].all()


def test_under_autocast_weights_and_smoothing_are_in_float32():
    tensors, targets, weights = given(torch.float32)
    weights[2] = 1 + 2**-12  # which bfloat16 has not
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_cross_entropy(*tensors, targets, 3, weights, 0.1)
        logits = F.linear(*tensors).float()
    expected = (tensor2tensor_losses(logits, targets, 0.1) * weights).sum()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for own, other in zip(*(torch.autograd.grad(loss, tensors) for loss in (found, expected)), strict=True):
        assert own.dtype == torch.float32
        torch.testing.assert_close(own, other, rtol=3e-2, atol=6e-3)  # bfloat16 has 8 bits
