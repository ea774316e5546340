"""What part of an update is Lookahead's own work: timed in the updates themselves, not as a difference of two runs."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from experiments.engine.loop import Trainer
from experiments.engine.task import Update

GOAL = 1.0  # percent of an update
MARKS = 6  # of an update: its begin, those of Lookahead's step and of the inner step in it, and the ends of all three


@dataclass(frozen=True)
class OwnWork:
    """Seconds, as medians: of an update, and of what Lookahead's step does beside the inner optimizer's.

    `between` is that of a step that does not synchronize, `synchronizing` that of one that does.
    """

    update: float
    between: float
    synchronizing: float
    k: int

    @property
    def seconds(self) -> float:
        """Return the seconds for each update, the synchronization shared out over its k."""
        return ((self.k - 1) * self.between + self.synchronizing) / self.k

    @property
    def percent(self) -> float:
        return 100 * self.seconds / self.update


class Clock:
    """Moments in the work of a device: on a CUDA device events in its queue, which wait for nothing."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.moments: list[Any] = []

    def mark(self) -> None:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.moments.append(event)
        else:
            self.moments.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Return the seconds from each moment to the next one, once the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return [begin.elapsed_time(end) / 1000 for begin, end in pairwise(self.moments)]
        return [end - begin for begin, end in pairwise(self.moments)]


@contextlib.contextmanager
def marked(optimizer: Any, clock: Clock) -> Iterator[None]:
    """Mark, inside the context, the begin and the end of each step of an optimizer."""
    step, before = optimizer.step, vars(optimizer).get("step")  # a scheduler may have put one of its own there

    def marking(*args: Any, **kwargs: Any) -> Any:
        clock.mark()
        result = step(*args, **kwargs)
        clock.mark()
        return result

    optimizer.step = marking
    try:
        yield
    finally:
        if before is None:
            del optimizer.step
        else:
            optimizer.step = before


def own_work(trainer: Trainer, updates: Iterator[Update], loops: int) -> OwnWork:
    """Take so many inner loops of updates, after one to warm up, and return what was Lookahead's own work in them."""
    optimizer = trainer.parts.optimizer
    k = optimizer.k
    for _ in range(k + -trainer.position.step % k):
        trainer.update(next(updates))
    clock = Clock(trainer.device)
    with marked(optimizer, clock), marked(optimizer.inner, clock):
        for _ in range(loops * k):
            update = next(updates)
            clock.mark()
            trainer.update(update)
            clock.mark()
    return summed_up(clock.seconds(), k)


def summed_up(seconds: list[float], k: int) -> OwnWork:
    """Return what the seconds between the marks of whole inner loops of updates come to."""
    updates = [seconds[first : first + MARKS - 1] for first in range(0, len(seconds), MARKS)]
    own = [before_inner + after_inner for _, before_inner, _, after_inner, _ in updates]
    between = [value for number, value in enumerate(own, 1) if number % k]
    return OwnWork(
        update=statistics.median(sum(parts) for parts in updates),
        between=statistics.median(between) if between else 0.0,
        synchronizing=statistics.median(own[k - 1 :: k]),
        k=k,
    )
