"""Candidates of a benchmark that take turns, each in a process of its own: the machine's speed changes meanwhile."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from benchmarks.report import met
from benchmarks.trainers import Worker


class Turns:
    """What was measured of one candidate: a rate per round, the losses of its turns, and its peak memory in bytes."""

    name: str
    rates: list[float]
    losses: list[float]
    memory: int

    def ratios(self, plain: Turns) -> list[float]:
        """Return the rates over those of another candidate, round by round."""
        return [rate / other for rate, other in zip(self.rates, plain.rates, strict=True)]

    def against(self, plain: Turns, goal: float) -> str:
        """Say how many times the rate of another candidate this one's is, and whether that is the goal at least."""
        ratios = self.ratios(plain)
        median = statistics.median(ratios)
        return (
            f"{median:.2f} times {plain.name} (rounds {min(ratios):.2f} to {max(ratios):.2f}). The goal of at least "
            f"{goal:.1f} times is {met(median >= goal)}."
        )


Case = TypeVar("Case", bound=Turns)


def peer_of(case: Case, cases: Sequence[Case], peers: Mapping[str, str]) -> Case:
    """Return the case that this one is compared with, by name: itself where `peers` does not have it."""
    return next(one for one in cases if one.name == peers.get(case.name, case.name))


def answer_of(script: str, arguments: Sequence[str]) -> Any:
    """Return the one answer of a process of a benchmark's script."""
    with Worker(script, arguments) as worker:
        worker.ask()
        return worker.answer()


def measured(
    script: str, arguments: Sequence[str], cases: Sequence[Case], rounds: int, say: Callable[[int, Case, float], str]
) -> list[Case]:
    """Give each candidate its turn in each round, print what `say` makes of it, and return the cases.

    Each is a process of the script, given --only and its name, which answers with rate, loss and peak memory. The first
    of `rounds` + 1 warms up threads, caches and compiled kernels: its rates are left out.
    """
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(script, [*arguments, "--only", case.name])) for case in cases]
        for number in range(rounds + 1):
            for case, worker in zip(cases, workers, strict=True):
                worker.ask()
                rate, loss, case.memory = worker.answer()
                print(say(number, case, rate), flush=True)
                case.losses.append(loss)
                if number > 0:
                    case.rates.append(rate)
    return list(cases)
