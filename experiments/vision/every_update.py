"""The probe of Figure 10: how good the fast and the slow weights are after every update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.engine.average import slow_weights
from experiments.engine.errors import ConfigurationError
from experiments.engine.evaluation import autocast, check_splits, measure
from experiments.engine.probe import Findings

if TYPE_CHECKING:
    from experiments.engine.loop import Trainer
    from experiments.engine.parts import Parts


class EveryUpdate:
    """Measure, after each of `updates` updates from 0-based epoch `start` on, the splits of fast and slow weights.

    The table every_update.csv has one row per update: its number in the window (from 1), the run's step, whether it
    synchronized, and `fast/<metric>` and `slow/<metric>`. Without slow weights, as those are of a Lookahead alone, both
    are of the weights that are trained.

    Batch-norm statistics are kept as they are. Raises ValueError where the window is empty or goes beyond the run, that
    has `epochs` epochs or else `steps` updates, or where `splits` are none of the task's.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        start: int,
        updates: int,
        splits: Sequence[str],
        epochs: int | None,
        steps: int | None = None,
    ) -> None:
        for name, value, least in (("start", start, 0), ("updates", updates, 1)):
            if type(value) is not int or value < least:
                raise ValueError(f"probe.{name}={value} is not possible; give a whole number of at least {least}")
        self.splits = probed_splits(parts, splits)
        self.first = sum(parts.task.steps(epoch) for epoch in range(start))
        total = steps if steps is not None else sum(parts.task.steps(epoch) for epoch in range(epochs))
        if self.first + updates > total:
            raise ValueError(
                f"probe.start={start} and probe.updates={updates} are updates {self.first + 1} to "
                f"{self.first + updates}, but the run has {total}; give a window inside it"
            )
        self.updates = updates
        self.rows: list[dict[str, Any]] = []

    def after(self, event: str, trainer: Trainer) -> None:
        """Measure where the update is in the window; the run goes on as if nothing had been measured."""
        step = trainer.position.step
        if event != "update" or not self.first < step <= self.first + self.updates or self._has(step):
            return
        parts, processes = trainer.parts, trainer.processes
        processes.broadcast_tensors(parts.task.model.buffers())
        with trainer.undisturbed(), autocast(trainer.precision, trainer.device):
            fast = measure(parts, self.splits, trainer.share, processes)
        # Not those that the run evaluates: an average may be beside the slow weights.
        with trainer.undisturbed(), autocast(trainer.precision, trainer.device), slow_weights(parts.optimizer):
            slow = measure(parts, self.splits, trainer.share, processes)
        row: dict[str, Any] = {"update": step - self.first, "step": step, "synchronized": synchronizes(parts, step)}
        row |= {f"fast/{name}": value for name, value in fast.items()}
        self.rows.append(row | {f"slow/{name}": value for name, value in slow.items()})

    def _has(self, step: int) -> bool:
        return bool(self.rows) and self.rows[-1]["step"] >= step

    def metrics(self) -> dict[str, float]:
        return {}

    def findings(self) -> Findings:
        import pandas as pd

        return Findings({"every_update": pd.DataFrame(self.rows)})

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])


def synchronizes(parts: Parts, step: int) -> bool:
    """Say whether the update that made it `step` updates synchronized fast and slow weights."""
    periods = [group.get("lookahead_k") for group in parts.optimizer.param_groups]
    return any(k is not None and step % k == 0 for k in periods)


def probed_splits(parts: Parts, splits: Sequence[str]) -> list[str]:
    """Return the names in probe.splits; a ValueError where they are none of the task's."""
    if isinstance(splits, str) or not splits:
        raise ValueError(f"probe.splits={splits} is not possible; give a list of names")
    try:
        check_splits(parts.task, splits)
    except ConfigurationError as error:
        raise ValueError(str(error).replace("evaluation.splits", "probe.splits")) from error
    return list(splits)
