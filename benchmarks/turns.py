"""Candidates of a benchmark that take turns, each in a process of its own: the machine's speed changes meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.trainers import Worker


class Turns:
    """What was measured of one candidate: a rate per round, the losses of its turns, and its peak memory in bytes."""

    rates: list[float]
    losses: list[float]
    memory: int

    def ratios(self, plain: Turns) -> list[float]:
        """Return the rates over those of another candidate, round by round."""
        return [rate / other for rate, other in zip(self.rates, plain.rates, strict=True)]


def take_turns(
    cases: Sequence[Turns], workers: Sequence[Worker], rounds: int, say: Callable[[int, Turns, float], str]
) -> None:
    """Give each candidate its turn in each round, and print what `say` makes of it.

    A worker answers with rate, loss and peak memory. The first of `rounds` + 1 warms up threads, caches and compiled
    kernels: its rates are left out.
    """
    for number in range(rounds + 1):
        for case, worker in zip(cases, workers, strict=True):
            worker.ask()
            rate, loss, case.memory = worker.answer()
            print(say(number, case, rate), flush=True)
            case.losses.append(loss)
            if number > 0:
                case.rates.append(rate)
