"""Cross entropy of a linear layer whose logits are never all in memory at once: they would be its largest tensor."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 1024  # of logits at a time


def linear_cross_entropy(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    rows: int = ROWS,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Return the mean cross entropy of `inputs @ weight.T + bias` with `targets`, 0-dim, in float32 or float64.

    `inputs` [N, width], `weight` [classes, width], `bias` [classes], `targets` int64 [N]. With `weights`, [N] without
    gradients, it is the sum of weight times cross entropy. Of labels smoothed, where the target has the chance
    1 - `smoothing` and the others share the rest, it is the cross entropy less the smallest possible. The gradients,
    where they are enabled, come with the loss, for `rows` of the N at a time. Under autocast products are in its
    precision, sums in float32.
    """
    # Within the function below gradients are disabled, and `needs_input_grad` is of the tensors alone.
    enabled = torch.is_grad_enabled()
    return _LinearCrossEntropy.apply(inputs, weight, bias, targets, rows, weights, smoothing, enabled)


def smallest_cross_entropy(classes: int, smoothing: float) -> float:
    """Return the entropy of a smoothed label in nats, below which no cross entropy with it is; 0 without smoothing."""
    if smoothing == 0:
        return 0.0
    return -(1 - smoothing) * math.log1p(-smoothing) - smoothing * math.log(smoothing / (classes - 1))


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        rows: int,
        weights: Tensor | None,
        smoothing: float,
        enabled: bool,
    ) -> Tensor:
        device = inputs.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else inputs.dtype
        sums = torch.promote_types(dtype, torch.float32)
        total = torch.zeros((), device=inputs.device, dtype=sums)
        layer = (inputs, weight) if bias is None else (inputs, weight, bias)
        gradients = [torch.zeros_like(each) for each in layer] if enabled and any(ctx.needs_input_grad) else []
        off = smoothing / (len(weight) - 1) if smoothing else 0.0  # the chance of each class but the target
        smallest = smallest_cross_entropy(len(weight), smoothing)
        with torch.autocast(device, enabled=False):
            given, matrix, *offset = (each.to(dtype) for each in layer)
            for first in range(0, len(inputs), rows):
                piece = slice(first, first + rows)
                logits = F.linear(given[piece], matrix, *offset)
                log_chances, place = F.log_softmax(logits, 1, dtype=sums), targets[piece, None]
                of_target = log_chances.gather(1, place)
                losses = (off + smoothing - 1) * of_target.squeeze(1)
                if smoothing:
                    losses -= off * log_chances.sum(1) + smallest
                scale = None if weights is None else weights[piece, None].to(sums)
                total += losses.sum() if scale is None else losses @ scale.squeeze(1)
                if gradients:
                    # Of a row's loss, with respect to its logits: the chances, less those of the smoothed label.
                    of_logits = log_chances.exp_()
                    if smoothing:
                        of_logits.sub_(off)
                    of_logits.scatter_(1, place, of_target.expm1_() + smoothing)
                    _add(gradients, piece, of_logits, given[piece], matrix, scale)
        ctx.save_for_backward(*gradients)
        ctx.count = len(inputs) if weights is None else 1
        return total / ctx.count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        factor = gradient / ctx.count
        found = [each * factor for each in ctx.saved_tensors]
        return *found, *[None] * (8 - len(found))


def _add(
    gradients: list[Tensor], piece: slice, of_logits: Tensor, inputs: Tensor, matrix: Tensor, scale: Tensor | None
) -> None:
    """Add what a piece, its rows times `scale`, gives to the gradients of inputs, weight and, where it is, bias."""
    cast = of_logits.to(matrix.dtype)
    of_inputs = cast @ matrix
    if scale is not None:  # on what is narrower than logits
        of_inputs, inputs = of_inputs * scale, (inputs * scale).to(inputs.dtype)
    gradients[0][piece] = of_inputs
    if cast.dtype == gradients[1].dtype:
        gradients[1].addmm_(cast.t(), inputs)
    else:
        gradients[1] += cast.t() @ inputs
    if len(gradients) > 2:
        gradients[2] += of_logits.sum(0) if scale is None else (of_logits * scale).sum(0)
