"""The probe of Figure 10: how good the fast and the slow weights are after every update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.engine.average import slow_weights
from experiments.engine.errors import ConfigurationError
from experiments.engine.evaluation import autocast, check_splits, measure
from experiments.engine.probe import Findings
from experiments.engine.task import updates_in
from experiments.vision.branch import branched, copy_for_same_weights

if TYPE_CHECKING:
    from experiments.engine.loop import Trainer
    from experiments.engine.parts import Parts


class EveryUpdate:
    """Measure, after each of `updates` updates from 0-based epoch `start` on, the splits of fast and slow weights.

    The table every_update.csv has one row per update: its number in the window (from 1), the run's step, whether it
    synchronized, and `fast/<metric>` and `slow/<metric>`. A synchronization puts the slow weights in the place of the
    fast ones within that same update; its row has the fast weights that the inner optimizer ended with before that,
    which goes there ahead, on a copy (but for the run's very first update). Without slow weights, as those are of a
    Lookahead alone, both are of the weights that are trained.

    Batch-norm statistics are as the passes left them. Raises ValueError where the window is empty or goes beyond the
    run, that has `epochs` epochs or else `steps` updates, or where `splits` are none of the task's.
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
        self.first = updates_in(parts.task, start)
        total = updates_in(parts.task, epochs, steps)
        if self.first + updates > total:
            raise ValueError(
                f"probe.start={start} and probe.updates={updates} are updates {self.first + 1} to "
                f"{self.first + updates}, but the run has {total}; give a window inside it"
            )
        self.updates = updates
        self.rows: list[dict[str, Any]] = []
        self.ahead: dict[str, Any] = {}  # the step that synchronizes next, and the fast weights' metrics just before

    def after(self, event: str, trainer: Trainer) -> None:
        """Measure where the update is in the window; the run goes on as if nothing had been measured."""
        position = trainer.position
        if event == "update" and self._is_in_window(position.step) and not self._has(position.step):
            self._measure(trainer)
        # After an epoch's last update the schedule is still to set the next one's rate.
        epoch_over = position.batch == trainer.parts.task.steps(position.epoch)
        if (event == "epoch") == epoch_over and self._is_in_window(position.step + 1):
            self._look_ahead(trainer)

    def _measure(self, trainer: Trainer) -> None:
        parts, processes, step = trainer.parts, trainer.processes, trainer.position.step
        processes.broadcast_tensors(parts.task.model.buffers())
        fast = self.ahead.get("fast") if self.ahead.get("step") == step else None
        if fast is None:
            with trainer.undisturbed(), autocast(trainer.precision, trainer.device):
                fast = measure(parts, self.splits, trainer.share, processes)
        # Not those that the run evaluates: an average may be beside the slow weights.
        with trainer.undisturbed(), autocast(trainer.precision, trainer.device), slow_weights(parts.optimizer):
            slow = measure(parts, self.splits, trainer.share, processes)
        row: dict[str, Any] = {"update": step - self.first, "step": step, "synchronized": synchronizes(parts, step)}
        row |= {f"fast/{name}": value for name, value in fast.items()}
        self.rows.append(row | {f"slow/{name}": value for name, value in slow.items()})

    def _look_ahead(self, trainer: Trainer) -> None:
        """Where the next update synchronizes, measure the fast weights that it makes before it does."""
        parts, step = trainer.parts, trainer.position.step + 1
        if not synchronizes(parts, step) or self.ahead.get("step") == step:
            return
        with branched(trainer, copy_for_same_weights(parts.optimizer.inner)) as take_update:
            take_update()
            trainer.processes.broadcast_tensors(parts.task.model.buffers())
            with autocast(trainer.precision, trainer.device):
                fast = measure(parts, self.splits, trainer.share, trainer.processes)
        self.ahead = {"step": step, "fast": fast}

    def _is_in_window(self, step: int) -> bool:
        return self.first < step <= self.first + self.updates

    def _has(self, step: int) -> bool:
        return bool(self.rows) and self.rows[-1]["step"] >= step

    def metrics(self) -> dict[str, float]:
        return {}

    def findings(self) -> Findings:
        import pandas as pd

        return Findings({"every_update": pd.DataFrame(self.rows)})

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "ahead": self.ahead}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.ahead = list(state["rows"]), dict(state["ahead"])


def synchronizes(parts: Parts, step: int) -> bool:
    """Say whether the update that made it `step` updates synchronized fast and slow weights."""
    periods = [group.get("lookahead_k") for group in parts.optimizer.param_groups]
    return any(k is not None and step % k == 0 for k in periods)


def probed_splits(parts: Parts, splits: Sequence[str]) -> list[str]:
    """Return the names in probe.splits; a ValueError where they are none of the task's."""
    if isinstance(splits, str) or not splits:
        raise ValueError(f"probe.splits={splits} is not possible; give a list of names")
    try:
        unmeasured = check_splits(parts.task, splits)
    except ConfigurationError as error:
        raise ValueError(str(error).replace("evaluation.splits", "probe.splits")) from error
    if unmeasured:
        raise ValueError(f"probe.splits: nothing is measured of {', '.join(unmeasured)} in this run; name other splits")
    return list(splits)
