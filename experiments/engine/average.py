"""Averages of the weights, driven by the run: updated by epoch or by update, told of validations, and evaluated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from experiments.engine.errors import ConfigurationError, choices
from lookahead.averaging import WeightAverage

if TYPE_CHECKING:
    from experiments.engine.configuration import Parts
    from experiments.engine.task import Task


class Average:
    """A weight average and when to update it: after each `per` ("epoch" or "step") from the 0-based `start`-th on.

    Per epoch Lookahead's slow weights are averaged (Appendix D.3), per step its fast ones: slow weights would have to
    be swapped in at every update. An average that observes validations (NT-ASGD) gets the metric named `metric`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        mean: Callable[[nn.Module], WeightAverage],
        per: str,
        start: int = 0,
        metric: str = "val/loss",
        **_: Any,
    ) -> None:
        self.mean = mean(model)
        self.optimizer, self.per, self.next = optimizer, per, start
        self.metric = metric if hasattr(self.mean, "observe") else None

    def after(self, event: str, number: int) -> None:
        """Update the mean where `event` ("epoch" or "step") is its own and its 0-based `number` has not counted yet.

        A run that stopped in the evaluation at an epoch's end comes by the same end again on resume.
        """
        if event != self.per or number < self.next:
            return
        with slow_weights(self.optimizer) if event == "epoch" else contextlib.nullcontext():
            self.mean.update()
        self.next = number + 1

    def observe(self, metrics: dict[str, float]) -> None:
        """Tell an average that asks what a validation measured; a ConfigurationError where `metric` is not in it."""
        if self.metric is None:
            return
        if self.metric not in metrics:
            raise ConfigurationError(f"average.metric={self.metric} is not measured{choices(self.metric, metrics)}")
        self.mean.observe(metrics[self.metric])

    def state_dict(self) -> dict[str, Any]:
        return {"next": self.next, "mean": self.mean.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean.load_state_dict(state["mean"])
        self.next = state["next"]


def slow_weights(optimizer: Optimizer) -> contextlib.AbstractContextManager:
    """Hold Lookahead's slow weights inside the context; for another optimizer do nothing."""
    return optimizer.slow_weights() if hasattr(optimizer, "slow_weights") else contextlib.nullcontext()


@contextlib.contextmanager
def evaluated_weights(parts: Parts, batch_norm: str, tick: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Hold, inside the context, the weights that are evaluated, and say which: "averaged", "slow" or "weights".

    They are the average once there is one, else Lookahead's slow weights (Appendix C.1), else those that are trained.
    With `batch_norm` "reestimated" the statistics of the first two are estimated by a pass over the task's
    `batch_norm_inputs()`, under the autocast that is on; `tick()` comes before each batch and may raise.
    """
    batches = _ticking(parts.task, tick) if batch_norm == "reestimated" else None
    if parts.average is not None and parts.average.mean.has_mean:
        with parts.average.mean.averaged_weights(batches):
            yield "averaged"
    elif hasattr(parts.optimizer, "slow_weights"):
        with parts.optimizer.slow_weights(parts.task.model if batches is not None else None, batches):
            yield "slow"
    else:
        yield "weights"


def _ticking(task: Task, tick: Callable[[], None]) -> Iterator[Any]:
    # Nothing of this runs, and the task needs no inputs, where the model has no batch norm.
    for inputs in task.batch_norm_inputs():
        tick()
        yield inputs
