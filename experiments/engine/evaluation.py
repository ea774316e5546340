"""Evaluations: of which weights, over all processes, and without a trace in what is trained."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from experiments.engine.average import slow_weights
from experiments.engine.errors import ConfigurationError, choices
from experiments.engine.processes import ALONE, Processes
from experiments.engine.seeding import random_state, set_random_state
from experiments.engine.task import Mean, Share, Task

if TYPE_CHECKING:
    from experiments.engine.parts import Parts

REESTIMATED, KEPT = "reestimated", "kept"


def no_tick() -> None:
    """Interrupt nothing."""


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    """Return the context of `precision`: for bf16 autocast, else float32 (with or without TF32)."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


@contextlib.contextmanager
def evaluated_weights(parts: Parts, batch_norm: str | None, tick: Callable[[], None] = no_tick) -> Iterator[str]:
    """Hold, inside the context, the weights that are evaluated, and say which: "averaged", "slow" or "weights".

    They are the average once there is one, else Lookahead's slow weights (Appendix C.1), else those that are trained.
    With `batch_norm` "reestimated" the statistics of the first two are estimated by a pass over the task's
    `batch_norm_inputs()`, under the autocast that is on; with "kept" they are not; None leaves it to the average,
    and keeps those of slow weights. `tick()` comes before each batch and may raise.
    """
    averaged = parts.average is not None and parts.average.mean.has_mean
    if batch_norm is None:
        batch_norm = REESTIMATED if averaged and parts.average.wants_reestimated else KEPT
    batches = _ticking(parts.task, tick) if batch_norm == REESTIMATED else None
    if averaged:
        with parts.average.mean.averaged_weights(batches):
            yield "averaged"
    elif hasattr(parts.optimizer, "slow_weights"):
        with slow_weights(parts.optimizer, parts.task.model if batches is not None else None, batches):
            yield "slow"
    else:
        yield "weights"


def _ticking(task: Task, tick: Callable[[], None]) -> Iterator[Any]:
    # Nothing of this runs, and the task needs no inputs, where the model has no batch norm.
    for inputs in task.batch_norm_inputs():
        tick()
        yield inputs


def measure(
    parts: Parts,
    splits: Iterable[str],
    share: Share | None = None,
    processes: Processes = ALONE,
    tick: Callable[[], None] = no_tick,
) -> dict[str, float]:
    """Return the metrics of the weights that the model holds on `splits`, summed over processes, and derived ones."""
    share = share or Share()
    found: dict[str, Mean | float] = {}
    for split in splits:
        with refused_as_configuration():
            found |= parts.task.evaluate(parts.forward, split, share, processes, tick)
    plain = {name: (float(v.total), float(v.count)) if isinstance(v, Mean) else float(v) for name, v in found.items()}
    metrics = _summed(processes.gather(plain))
    return metrics | dict(parts.task.derive(metrics))


def _summed(everyone: list[Mapping[str, tuple[float, float] | float]]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, value in everyone[0].items():
        if isinstance(value, tuple):
            totals, counts = zip(*(their[name] for their in everyone), strict=True)
            metrics[name] = sum(totals) / sum(counts) if sum(counts) else math.nan
        else:
            metrics[name] = value
    return metrics


class _Begun(Exception):
    """An evaluation has come to its first batch."""


def check_splits(task: Task, splits: Iterable[str]) -> list[str]:
    """Raise ConfigurationError for a split that the task does not have, before anything is trained.

    Each is evaluated up to its first batch, as if by one process: the caller may be one of several. Return those of
    which nothing is measured, as of the training set without its pass.
    """

    def begun() -> None:
        raise _Begun

    generators = random_state()
    unmeasured = []
    for split in splits:
        with contextlib.suppress(_Begun), refused_as_configuration():
            if not task.evaluate(task.model, split, Share(), ALONE, begun):
                unmeasured.append(split)
    set_random_state(generators)
    return unmeasured


@contextlib.contextmanager
def refused_as_configuration() -> Iterator[None]:
    """Turn a task's ValueError for a split that there is not into one of the configuration."""
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


@contextlib.contextmanager
def undisturbed(task: Task, processes: Processes = ALONE) -> Iterator[None]:
    """Put back, at the end, all that passes may move: random states, buffers, training mode, carried state.

    Values that autocast has cached are dropped on both sides, as the weights may be swapped inside. All processes
    enter it together.
    """
    model = task.model
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    generators, carried = random_state(), copy.deepcopy(task.state_dict())
    torch.clear_autocast_cache()
    whole = processes.alone  # several processes that do not all come to the end cannot speak to each other
    try:
        yield
        whole = True
    finally:
        torch.clear_autocast_cache()
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)
        for module, training in modes:
            module.training = training
        set_random_state(generators)
        if whole:
            put_back(task, carried, processes)


def put_back(task: Task, carried: dict[str, Any], processes: Processes) -> None:
    """Give a task what it carried, on every process."""
    if carried:
        task.load_state_dict(processes.gather(carried))


class Best:
    """The best evaluated weights by `metric`, the least with `mode` "min" and the greatest with "max".

    Without a metric nothing is kept. `weights` is then a state dict on the CPU, and `row` what was measured of it.
    """

    def __init__(self, metric: str | None = None, mode: str = "min") -> None:
        self.metric, self.sign = metric, 1.0 if mode == "max" else -1.0
        self.value = -math.inf
        self.weights: dict[str, torch.Tensor] | None = None
        self.row: dict[str, Any] = {}

    def better(self, metrics: Mapping[str, float]) -> bool:
        """Say whether these metrics are the best so far; ConfigurationError where the metric is not among them."""
        if self.metric is None:
            return False
        if self.metric not in metrics:
            raise ConfigurationError(f"keep.metric={self.metric} is not measured{choices(self.metric, metrics)}")
        return self.sign * metrics[self.metric] > self.value

    def keep(self, metrics: Mapping[str, float], model: nn.Module, **where: int | str) -> None:
        """Copy the weights that the model holds; `where` says when they were measured, and which they are."""
        self.value = self.sign * metrics[self.metric]
        self.weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        self.row = {**where, **metrics}

    @contextlib.contextmanager
    def held(self, model: nn.Module) -> Iterator[str]:
        """Let the model hold the best weights inside the context; say "best"."""
        before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.weights)
        try:
            yield "best"
        finally:
            model.load_state_dict(before)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "weights": self.weights, "row": self.row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value, self.weights, self.row = state["value"], state["weights"], state["row"]
