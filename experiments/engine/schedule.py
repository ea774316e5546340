"""Learning-rate schedules: torch's schedulers, stepped by epoch or by update."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from experiments.engine.errors import ConfigurationError, choices


def multistep(optimizer: Optimizer, milestones: Sequence[int], gamma: float, delay: int = 0) -> MultiStepLR:
    """Return the step schedule of Section 5.1: `gamma` times the rate from 0-based epoch `milestone + delay` on."""
    return MultiStepLR(optimizer, [milestone + delay for milestone in milestones], gamma)


class Schedule:
    """A torch scheduler and when to step it: `per` "epoch" or "step".

    A scheduler whose `step` takes metrics (ReduceLROnPlateau) gets the validation metric named `metric`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        scheduler: Callable[[Optimizer], LRScheduler],
        per: str,
        metric: str = "val/loss",
        **_: Any,
    ) -> None:
        self.scheduler = scheduler(optimizer)
        self.per = per
        self.metric = metric if "metrics" in inspect.signature(self.scheduler.step).parameters else None

    def after(self, event: str, metrics: dict[str, float] | None = None) -> None:
        """Step the scheduler where `event` ("epoch" or "step") is its own.

        One that needs a metric waits where there are none: nothing was evaluated.
        """
        if event != self.per or (self.metric and metrics is None):
            return
        if self.metric:
            if self.metric not in metrics:
                raise ConfigurationError(
                    f"schedule.metric={self.metric} is not measured{choices(self.metric, metrics)}"
                )
            self.scheduler.step(metrics[self.metric])
        else:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state)
