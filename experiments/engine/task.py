"""What a domain gives the training engine: batches, their loss, and an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """What one optimizer step reads, and what the engine must know to count and to weigh it.

    `inputs` and `targets` belong to the task alone: the engine hands them back to `Task.loss` and never looks
    inside.
    """

    inputs: Any  # what the task's loss reads, on the device
    targets: Any
    size: int  # samples, for the counters
    weight: float  # number of targets: the weight of this batch's mean loss in an average
    lr_scale: float = 1.0  # multiplies every group's learning rate for this one step


class Task(Protocol):
    """One training problem: the engine runs the loop, the task says what a batch, a loss and a score are."""

    model: nn.Module
    steps_per_epoch: int

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of `epoch` from number `start` on.

        Batch i is a function of (seed, epoch, i) only, so a resumed run may start at any i and sees the same
        batches.
        """
        ...

    def loss(self, model: Callable[..., Any], batch: Batch) -> Tensor:
        """Return the batch's mean loss, 0-dim; `model` may be a compiled wrapper of `self.model`."""
        ...

    def evaluate(self, model: Callable[..., Any], tick: Callable[[], None]) -> dict[str, float]:
        """Return the metrics of the weights that `model` holds now, such as {"val/loss": 0.7}.

        `tick()` is called before each evaluation batch and may raise to interrupt; the training mode of
        `self.model` is restored all the same.
        """
        ...

    def batch_norm_inputs(self) -> Iterator[Any]:
        """Yield what `self.model` reads, to re-estimate batch-norm statistics: the same at every call.

        A task whose model has no batch norm needs none.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what the task carries from batch to batch beyond its model; {} when it carries nothing."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        ...
