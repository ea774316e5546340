"""The cross entropy of a linear layer in pieces, against torch's of whole logits."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F

from experiments.language_modeling import cross_entropy
from experiments.language_modeling.cross_entropy import linear_cross_entropy

CLASSES, WIDTH, COUNT = 13, 6, 10


def given(dtype: torch.dtype) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return inputs, weight and bias, which have gradients, and targets."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((COUNT, WIDTH), (CLASSES, WIDTH), (CLASSES,))
    tensors = [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]
    return tensors, torch.randint(CLASSES, (COUNT,), generator=generator)


def whole(inputs, weight, bias, targets):
    return F.cross_entropy(F.linear(inputs, weight, bias).float(), targets)


@pytest.mark.parametrize("rows", [1, 3, 5, COUNT, 100])
def test_loss_and_gradients_are_those_of_whole_logits(rows):
    tensors, targets = given(torch.float32)
    found, expected = linear_cross_entropy(*tensors, targets, rows), whole(*tensors, targets)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for own, other in zip(*(torch.autograd.grad(2.5 * loss, tensors) for loss in (found, expected)), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


def test_large_logits_stay_finite():
    tensors, targets = given(torch.float32)
    loss = linear_cross_entropy(1e4 * tensors[0], *tensors[1:], targets, 4)
    torch.testing.assert_close(loss, whole(1e4 * tensors[0], *tensors[1:], targets), rtol=1e-6, atol=0)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, tensors))


def test_under_autocast_products_are_in_its_precision_and_sums_in_float32():
    tensors, targets = given(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = linear_cross_entropy(*tensors, targets, 3), whole(*tensors, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert abs(found - whole(*tensors, targets)) > 1e-5  # float32's is another
    for own, other in zip(*(torch.autograd.grad(loss, tensors) for loss in (found, expected)), strict=True):
        assert own.dtype == torch.float32
        torch.testing.assert_close(own, other, rtol=3e-2, atol=3e-3)  # bfloat16 has 8 bits


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, None])
def test_without_gradients_there_is_the_loss_alone(context, monkeypatch):
    def added(*_):
        raise AssertionError("gradients are computed")

    monkeypatch.setattr(cross_entropy, "_add", added)
    tensors, targets = given(torch.float32)
    with pytest.raises(AssertionError, match="gradients are computed"):
        linear_cross_entropy(*tensors, targets, 4)
    with context() if context else contextlib.nullcontext():
        found = linear_cross_entropy(*(tensors if context else [each.detach() for each in tensors]), targets, 4)
    assert not found.requires_grad
    torch.testing.assert_close(found, whole(*tensors, targets), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_loss_of_bfloat16_is_summed_in_float32(enabled):
    tensors, targets = given(torch.bfloat16)
    with torch.set_grad_enabled(enabled):
        found = linear_cross_entropy(*tensors, targets, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, whole(*tensors, targets), rtol=1e-6, atol=1e-6)


def test_at_no_time_is_there_more_than_a_piece_of_logits(monkeypatch):
    sizes = []
    exp = torch.Tensor.exp_
    monkeypatch.setattr(torch.Tensor, "exp_", lambda self: sizes.append(tuple(self.shape)) or exp(self))
    tensors, targets = given(torch.float32)
    linear_cross_entropy(*tensors, targets, 4).backward()
    assert sizes == [(4, CLASSES), (4, CLASSES), (2, CLASSES)]
