"""The probe of Figure 1: the test accuracy on a plane through an inner loop, and the paths of Lookahead and of SGD."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import update_bn

from experiments.engine.errors import ConfigurationError
from experiments.engine.evaluation import KEPT, REESTIMATED, autocast, measure, no_tick
from experiments.engine.interruption import Interrupted
from experiments.engine.probe import Findings
from experiments.engine.task import updates_in
from experiments.vision.branch import branched, copy_for_same_weights, hold, vector_of, weights_put_back
from experiments.vision.plane import Plane

if TYPE_CHECKING:
    from experiments.engine.loop import Trainer
    from experiments.engine.parts import Parts

SPLIT = "val"
METRICS = ("accuracy", "loss")


class LossSurface:
    """Measure the test accuracy on a plane through the weights of one inner loop (Figure 1).

    The inner loop is that which begins with the first synchronization in the 0-based epoch `start`. The plane passes
    through its first, middle (number k // 2) and last fast weights. As an inner loop is k updates of the inner
    optimizer, it is followed on a copy, from the weights, the optimizer's settings and state, and the batches that come
    next, bit for bit what the run itself does then; the inner optimizer goes on alone to `sgd_updates` updates in all.

    The `grid` of [x, y] points covers the paths, and on each side `margin` of the longer side of what they cover. Batch
    norm statistics are "reestimated" for each point from the first `batch_norm_batches` training batches (null: from an
    epoch's), or "kept" as they are when the inner loop begins.

    loss_surface.npz has `x` [X], `y` [Y], `accuracy` and `loss` [Y, X]; for the paths `fast` [k + 1 points], `slow` (2:
    before and after the synchronization) and `sgd` [sgd_updates + 1] their coordinates [points, 2], and as
    <path>_distance, <path>_accuracy and <path>_loss how far from the plane each point is, and what it has itself;
    `step`, the updates before the inner loop; and k. Raises ValueError where a value is not possible, where the run is
    over before the inner loop begins, or where it has no inner loop.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        start: int,
        sgd_updates: int,
        grid: Sequence[int],
        margin: float,
        batch_norm: str,
        batch_norm_batches: int | None,
        epochs: int | None,
        steps: int | None = None,
    ) -> None:
        _check(start, sgd_updates, grid, margin, batch_norm, batch_norm_batches)
        self.k = _checked_k(parts.optimizer)
        before = updates_in(parts.task, start)
        self.first = (before // self.k + 1) * self.k
        total = updates_in(parts.task, epochs, steps)
        if self.first > total:
            raise ValueError(
                f"probe.start={start} is an inner loop that begins after update {self.first}, but the run has {total}; "
                "give an earlier epoch"
            )
        self.sgd_updates, self.grid, self.margin = sgd_updates, tuple(grid), margin
        self.batch_norm, self.batch_norm_batches = batch_norm, batch_norm_batches
        self.found: dict[str, Tensor] = {}  # the paths and the axes of the grid; empty before the inner loop
        self.frame: dict[str, Any] | None = None  # what measuring the grid needs, as long as it goes on
        self.values: list[list[float]] = []  # accuracy and loss of the grid's points, row by row

    def after(self, event: str, trainer: Trainer) -> None:
        """Measure when the inner loop begins, and what a signal left over; the run goes on as if nothing had been.

        What is left over at the end of an epoch is measured to the end, as the run may be over then.
        """
        if trainer.position.step < self.first or (self.found and self.frame is None):
            return
        if not self.found:
            self._follow(trainer)
        with contextlib.suppress(Interrupted):  # the run stops after this update, and keeps what was measured
            self._measure_grid(trainer, trainer.tick if event == "update" else no_tick)

    def _follow(self, trainer: Trainer) -> None:
        """Follow Lookahead and SGD on copies, span the plane, and measure along their paths."""
        model, optimizer = trainer.parts.task.model, trainer.parts.optimizer
        trainer.processes.broadcast_tensors(model.buffers())
        # Without synchronizations the inner loop just goes on: the first k of these are the fast weights.
        alone = follow(trainer, copy_for_same_weights(optimizer.inner), max(self.k, self.sgd_updates))
        synchronized = follow(trainer, copy_for_same_weights(optimizer), self.k)[-1]
        fast = alone[: self.k + 1]
        try:
            plane = Plane.through(fast[0], fast[self.k // 2], fast[-1])
        except ValueError as error:
            raise ConfigurationError(
                f"the first, middle and last fast weights of the inner loop after update {self.first} lie on a line, "
                f"which spans no plane; give another probe.start or a greater optim.k, now {self.k}, or optim.lr"
            ) from error
        with weights_put_back(trainer):
            of_alone = [self._measured(trainer, point, no_tick) for point in alone]
            of_synchronized = self._measured(trainer, synchronized, no_tick)
        paths = {
            "fast": (fast, of_alone[: self.k + 1]),
            "slow": ([fast[0], synchronized], [of_alone[0], of_synchronized]),
            "sgd": (alone[: self.sgd_updates + 1], of_alone[: self.sgd_updates + 1]),
        }
        for name, (points, values) in paths.items():
            self.found[name], self.found[f"{name}_distance"] = plane.projected(points)
            for metric, column in zip(METRICS, zip(*values, strict=True), strict=True):
                self.found[f"{name}_{metric}"] = torch.tensor(column, dtype=torch.float64)
        everything = torch.cat([self.found[name] for name in paths])
        self.found["x"], self.found["y"] = axes_around(everything, self.grid, self.margin)
        buffers = [buffer.detach().cpu().clone() for buffer in model.buffers()]
        self.frame = {**{name: getattr(plane, name) for name in ("origin", "right", "up")}, "buffers": buffers}

    def _measure_grid(self, trainer: Trainer, tick: Callable[[], None]) -> None:
        """Measure the points of the grid that are left. Raises Interrupted between two batches."""
        plane = Plane(*(self.frame[name] for name in ("origin", "right", "up")))
        points = [(x.item(), y.item()) for y in self.found["y"] for x in self.found["x"]]
        with weights_put_back(trainer):
            with torch.no_grad():
                for buffer, kept in zip(trainer.parts.task.model.buffers(), self.frame["buffers"], strict=True):
                    buffer.copy_(kept)
            for x, y in points[len(self.values) :]:
                self.values.append(self._measured(trainer, plane.point(x, y), tick))
        self.frame = None

    def _measured(self, trainer: Trainer, point: Tensor, tick: Callable[[], None]) -> list[float]:
        """Return accuracy (percent) and loss of the weights `point`, which the model holds afterwards."""
        parts = trainer.parts
        hold(parts.task.model, point)
        with autocast(trainer.precision, trainer.device):
            if self.batch_norm == REESTIMATED:
                inputs = itertools.islice(parts.task.batch_norm_inputs(), self.batch_norm_batches)
                update_bn(inputs, parts.task.model, trainer.device)
            metrics = measure(parts, [SPLIT], trainer.share, trainer.processes, tick)
        return [metrics[f"{SPLIT}/{metric}"] for metric in METRICS]

    def metrics(self) -> dict[str, float]:
        return {}

    def findings(self) -> Findings:
        arrays = {name: tensor.numpy() for name, tensor in self.found.items()}
        surface = torch.tensor(self.values, dtype=torch.float64).reshape(self.grid[1], self.grid[0], len(METRICS))
        arrays |= {metric: surface[..., number].numpy() for number, metric in enumerate(METRICS)}
        arrays |= {"step": torch.tensor(self.first).numpy(), "k": torch.tensor(self.k).numpy()}
        return Findings(arrays={"loss_surface": arrays})

    def state_dict(self) -> dict[str, Any]:
        return {"found": self.found, "frame": self.frame, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # On the CPU, wherever the checkpoint was loaded to.
        self.found = {name: tensor.cpu() for name, tensor in state["found"].items()}
        self.frame, self.values = state["frame"], list(state["values"])
        if self.frame is not None:
            self.frame = {name: kept if name == "buffers" else kept.cpu() for name, kept in self.frame.items()}


def _check(start: Any, sgd_updates: Any, grid: Any, margin: Any, batch_norm: Any, batch_norm_batches: Any) -> None:
    """Raise ValueError, naming value and choices, for the first argument out of range."""
    rows = [("start", start, 0), ("sgd_updates", sgd_updates, 1)]
    if batch_norm_batches is not None:
        rows.append(("batch_norm_batches", batch_norm_batches, 1))
    for name, value, least in rows:
        if type(value) is not int or value < least:
            also = "null or " if name == "batch_norm_batches" else ""
            raise ValueError(f"probe.{name}={value} is not possible; give {also}a whole number of at least {least}")
    is_list = isinstance(grid, Sequence) and not isinstance(grid, str)
    if not is_list or len(grid) != 2 or any(type(count) is not int or count < 2 for count in grid):
        raise ValueError(f"probe.grid={grid} is not possible; give two whole numbers of at least 2, such as [21, 21]")
    if type(margin) not in (int, float) or not 0 <= margin < math.inf:
        raise ValueError(f"probe.margin={margin} is not possible; give a number of at least 0")
    if batch_norm not in (REESTIMATED, KEPT):
        raise ValueError(f"probe.batch_norm={batch_norm} is not possible; give {REESTIMATED} or {KEPT}")


def _checked_k(optimizer: Optimizer) -> int:
    """Return Lookahead's k. Raises ValueError where it spans no plane, and for an optimizer that is no Lookahead."""
    if not hasattr(optimizer, "slow_weights"):
        raise ValueError(
            f"probe=loss_surface needs slow weights, which {type(optimizer).__name__} has not; "
            "choose optim=la_sgd or another Lookahead"
        )
    if optimizer.k < 2:
        raise ValueError(
            f"optim.k={optimizer.k} is not possible with probe=loss_surface: first, middle and last fast weights are "
            "three; give at least 2"
        )
    return optimizer.k


def axes_around(points: Tensor, grid: Sequence[int], margin: float) -> list[Tensor]:
    """Return x [grid[0]] and y [grid[1]], evenly spaced, that cover `points` [n, 2] and `margin` of the longer side."""
    low, high = points.min(dim=0).values, points.max(dim=0).values
    more = margin * (high - low).max().item()
    bounds = zip(low.tolist(), high.tolist(), grid, strict=True)
    return [torch.linspace(least - more, most + more, count, dtype=torch.float64) for least, most, count in bounds]


def follow(trainer: Trainer, optimizer: Optimizer, updates: int) -> list[Tensor]:
    """Return the weights before and after each of `updates` updates by `optimizer`, as vectors on the CPU."""
    model = trainer.parts.task.model
    points = [vector_of(model)]
    with branched(trainer, optimizer) as take_update:
        for _ in range(updates):
            take_update()
            points.append(vector_of(model))
    return points
