"""The probe of Figures 15 and 16: how good the weights are that an average is made of, beside the average."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.engine.evaluation import autocast, evaluated_weights, measure
from experiments.engine.probe import Findings
from experiments.vision.every_update import probed_splits

if TYPE_CHECKING:
    from experiments.engine.loop import Trainer
    from experiments.engine.parts import Parts


class Unaveraged:
    """Measure, at each epoch's end that has an evaluation, the splits of what would be evaluated without the average.

    These are Lookahead's slow weights, or else the weights that are trained. The table unaveraged.csv has one row per
    evaluation: epoch, step and metrics, under the names that history.csv has for those of the average.

    Raises ValueError where there is no average, or where `splits` are none of the task's.
    """

    def __init__(self, parts: Parts, *, splits: Sequence[str]) -> None:
        if parts.average is None:
            raise ValueError("probe=unaveraged looks beside an average, and the run has none; give average=swa")
        self.splits = probed_splits(parts, splits)
        self.rows: list[dict[str, Any]] = []

    def after(self, event: str, trainer: Trainer) -> None:
        """Measure where an epoch's end has just been evaluated; the run goes on as if nothing had been measured."""
        position = trainer.position
        if event != "epoch" or position.evaluated_step != position.step:
            return
        parts = dataclasses.replace(trainer.parts, average=None)
        trainer.processes.broadcast_tensors(parts.task.model.buffers())
        with (
            trainer.undisturbed(),
            autocast(trainer.precision, trainer.device),
            evaluated_weights(parts, trainer.batch_norm),
        ):
            metrics = measure(parts, self.splits, trainer.share, trainer.processes)
        self.rows.append({"epoch": position.epoch + 1, "step": position.step, **metrics})

    def metrics(self) -> dict[str, float]:
        return {}

    def findings(self) -> Findings:
        import pandas as pd

        return Findings({"unaveraged": pd.DataFrame(self.rows)})

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])
