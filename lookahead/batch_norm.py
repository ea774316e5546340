"""Batch-norm statistics of weights that are evaluated but were never trained on: slow weights and averages."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from lookahead.inplace import copy_


@contextmanager
def reestimated(model: nn.Module, batches: Iterable[Any]) -> Iterator[None]:
    """Let the model hold, inside the `with` block, batch-norm statistics of its present weights; put them back after.

    The estimate is torch's `update_bn` (Izmailov et al., 2018): one pass in training mode, whose batches count the
    same each. All else is as it was when the block begins, the random generators included (dropout draws in the
    pass), and so is every buffer after it, in place. A batch norm that the pass does not reach in training mode
    keeps its statistics. May be nested.

    Args:
        model: without batch norm that tracks statistics it is left alone, and `batches` is not touched.
        batches: inputs, or tuples or lists that begin with the input; they go to the model's device.

    Raises:
        ValueError: `batches` is empty.
    """
    if not any(norm.running_mean is not None for norm in _batch_norms(model)):
        yield
        return
    buffers = list(model.buffers())
    kept = [buffer.detach().clone() for buffer in buffers]
    try:
        _estimate(model, batches)
        estimated = _statistics(model)
        others = [(b, k) for b, k in zip(buffers, kept, strict=True) if id(b) not in estimated]
        copy_([b for b, _ in others], [k for _, k in others])
        yield
    finally:
        copy_(buffers, kept)


def _estimate(model: nn.Module, batches: Iterable[Any]) -> None:
    """Run `update_bn`, and put back what it changes besides buffers, also where `batches` or the model raises."""
    device = next(itertools.chain(model.parameters(), model.buffers())).device
    accelerators = {t.device for t in itertools.chain(model.parameters(), model.buffers()) if t.is_cuda}
    # update_bn itself would put all modules in the model's own mode, and leave momentum=None behind an exception.
    modes = [(module, module.training) for module in model.modules()]
    momenta = [(norm, norm.momentum) for norm in _batch_norms(model)]
    try:
        with torch.random.fork_rng(accelerators):
            inputs = iter(batches)
            first = list(itertools.islice(inputs, 1))
            if not first:
                raise ValueError("batches is empty: batch-norm statistics cannot be estimated; give at least one batch")
            update_bn(itertools.chain(first, inputs), model, device)
    finally:
        for module, training in modes:
            module.training = training
        for norm, momentum in momenta:
            norm.momentum = momentum


def _statistics(model: nn.Module) -> set[int]:
    """Return the ids of the buffers that the pass has estimated."""
    found: list[Tensor] = []
    for norm in _batch_norms(model):
        # update_bn set the count to zero; it stays there in a module whose own `train()` keeps it in eval mode.
        if norm.num_batches_tracked is not None and norm.num_batches_tracked > 0:
            found += [norm.running_mean, norm.running_var, norm.num_batches_tracked]
    return {id(buffer) for buffer in found}


def _batch_norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]
