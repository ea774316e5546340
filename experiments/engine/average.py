"""Averages of the weights, driven by the run: updated by epoch or by update, told of validations, and evaluated."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from experiments.engine.errors import ConfigurationError, choices
from experiments.engine.task import Task, updates_in
from lookahead import WeightAverage


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

    def check_begins(self, task: Task, epochs: int | None, steps: int | None) -> None:
        """Raise ConfigurationError where a run of so many epochs, or of `steps` updates, is over before `start`."""
        length = _length(task, self.per, epochs, steps)
        if self.next < length:
            return
        units = f"whole {self.per}" + ("" if length == 1 else "s")
        wanted = f"an average.start of at most {length - 1}" if length else "a longer run"
        raise ConfigurationError(
            f"average.start={self.next} is after the run's end: it has {length} {units}, so that nothing would be "
            f"averaged; give {wanted}"
        )

    @property
    def wants_reestimated(self) -> bool:
        """Whether batch-norm statistics are to be estimated anew: its class does not average them."""
        return not getattr(self.mean, "averages_buffers", True)

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


def _length(task: Task, per: str, epochs: int | None, steps: int | None) -> int:
    """Return how many epochs end in a run, or how many updates it has where `per` is "step"."""
    if per == "epoch" and steps is None:
        return epochs
    if per == "step":
        return updates_in(task, epochs, steps)
    ends = itertools.accumulate(map(task.steps, itertools.count()))
    return sum(1 for _ in itertools.takewhile(lambda end: end <= steps, ends))


def slow_weights(
    optimizer: Optimizer, model: nn.Module | None = None, batches: Iterable[Any] | None = None
) -> contextlib.AbstractContextManager:
    """Hold Lookahead's slow weights inside the context; for another optimizer do nothing."""
    return optimizer.slow_weights(model, batches) if hasattr(optimizer, "slow_weights") else contextlib.nullcontext()
