"""Follow a run on, from where it is, with an optimizer of one's own, and leave it as it was."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments.engine.update import Updater

if TYPE_CHECKING:
    from experiments.engine.loop import Trainer
    from experiments.engine.task import Update


@contextlib.contextmanager
def branched(trainer: Trainer, optimizer: Optimizer) -> Iterator[Callable[[], None]]:
    """Give a function that takes the next update by `optimizer`, on the batch that the run will see then.

    At the end of the context the run is where it was, to the bit, random numbers included, so that two branches draw
    the same ones. The learning rate stays what it is.
    """
    own = trainer.updater
    parts = copy.copy(trainer.parts)
    parts.optimizer, parts.captured = optimizer, False  # for some updates a graph of its own is not worth its memory
    how = (trainer.precision, own.clip, own.fixed, own.first_pass_counts)
    updater = Updater(parts, trainer.device, trainer.processes, *how)
    updater.largest = own.largest
    coming = coming_updates(trainer)
    with weights_put_back(trainer):
        yield lambda: updater(next(coming))


def copy_for_same_weights(optimizer: Optimizer) -> Optimizer:
    """Return a copy of an optimizer, its settings and its state, that moves the same parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return copy.deepcopy(optimizer, {id(p): p for p in parameters})


def coming_updates(trainer: Trainer) -> Iterator[Update]:
    """Yield the updates that follow the run's position, as the run itself will see them, also beyond its end."""
    task, position = trainer.parts.task, trainer.position
    yield from task.updates(position.epoch, position.batch, trainer.share)
    for epoch in itertools.count(position.epoch + 1):
        yield from task.updates(epoch, 0, trainer.share)


@contextlib.contextmanager
def weights_put_back(trainer: Trainer) -> Iterator[None]:
    """Put back, at the end, weights and all that passes may move, to the bit."""
    parameters = list(trainer.parts.task.model.parameters())
    kept = [p.detach().clone() for p in parameters]
    with trainer.undisturbed():
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(parameters, kept)


def vector_of(model: nn.Module) -> Tensor:
    """Return the weights as one vector [weights] on the CPU, a copy."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).cpu()


@torch.no_grad()
def hold(model: nn.Module, point: Tensor) -> None:
    """Let the model hold the weights of a vector as `vector_of` returns it, in place, rounded to their own dtype."""
    parameters = list(model.parameters())
    for p, piece in zip(parameters, point.split([p.numel() for p in parameters]), strict=True):
        p.copy_(piece.view(p.shape))
