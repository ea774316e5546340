"""Cross entropy of a linear layer whose logits are never all in memory at once: they would be its largest tensor."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 1024  # of logits at a time


def linear_cross_entropy(inputs: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, rows: int = ROWS) -> Tensor:
    """Return the mean cross entropy of `inputs @ weight.T + bias` with `targets`, 0-dim, in float32.

    `inputs` [N, width], `weight` [classes, width], `bias` [classes], `targets` int64 [N]. The gradients, where
    they are enabled, come with the loss, for `rows` of the N at a time. Under autocast products are in its precision,
    sums in float32.
    """
    # Within the function below gradients are disabled, and `needs_input_grad` is of the tensors alone.
    return _LinearCrossEntropy.apply(inputs, weight, bias, targets, rows, torch.is_grad_enabled())


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, rows: int, enabled: bool
    ) -> Tensor:
        device = inputs.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else inputs.dtype
        total = torch.zeros((), device=inputs.device)
        wanted = enabled and any(ctx.needs_input_grad)
        gradients = [torch.zeros_like(each) for each in (inputs, weight, bias)] if wanted else []
        with torch.autocast(device, enabled=False):
            given, matrix, offset = inputs.to(dtype), weight.to(dtype), bias.to(dtype)
            for first in range(0, len(inputs), rows):
                piece = slice(first, first + rows)
                logits = torch.addmm(offset, given[piece], matrix.t()).float()
                if not gradients:
                    total += F.cross_entropy(logits, targets[piece], reduction="sum")
                    continue
                sums, place = logits.logsumexp(1, keepdim=True), targets[piece, None]
                log_chances = logits.gather(1, place) - sums
                total -= log_chances.sum()
                # Of a row's loss, with respect to its logits: the chances, less 1 at the target.
                logits = logits.sub_(sums).exp_().scatter_(1, place, log_chances.expm1())
                _add(gradients, piece, logits, given[piece], matrix)
        ctx.save_for_backward(*gradients)
        ctx.count = len(inputs)
        return total / len(inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        factor = gradient / ctx.count
        return *(each * factor for each in ctx.saved_tensors), None, None, None


def _add(gradients: list[Tensor], piece: slice, of_logits: Tensor, inputs: Tensor, matrix: Tensor) -> None:
    """Add what a piece gives to the gradients of inputs, weight and bias."""
    cast = of_logits.to(matrix.dtype)
    gradients[0][piece] = cast @ matrix
    if cast.dtype == gradients[1].dtype:
        gradients[1].addmm_(cast.t(), inputs)
    else:
        gradients[1] += cast.t() @ inputs
    gradients[2] += of_logits.sum(0)
