"""Time and memory of Figure 12's whole search on the noisy quadratic, against a plain loop over its settings.

Both find SGD's and Lookahead's least expected losses at every horizon up to 1000 updates over the paper's grid of 100
learning rates and 50 alphas (A.1). The plain loop unrolls Lemma 1 for one setting after the other; it must give the
same losses before anything is timed.

Run `make bench-quadratic` on an idle machine (under a minute). Writes results/benchmarks/quadratic.{md,json}; a partial
run only prints its table, unless given --out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from benchmarks.report import RESULTS, met, show_report, whole_number
from experiments.quadratic.arguments import Array
from experiments.quadratic.comparisons import GRID_ALPHAS, GRID_RATES, Horizons, horizons
from experiments.quadratic.noisy import NoisyQuadratic, worst_case

UPDATES, K = 1000, 5
CONDITION_NUMBER = 1e4  # the paper gives none; the work does not depend on it
# Each side rounds a few times an update, by 1e-16 of the loss: at most about 1e-12 in 1000 updates.
TOLERANCE = 1e-10

# The goals; the first two are at this dimension.
LARGE = 1000
GOAL_SECONDS, GOAL_BYTES, GOAL_RATIO = 1.0, 100_000_000, 10.0


def unrolled(model: NoisyQuadratic, factor: Array, noise: Array, count: int) -> Array:
    """Return the excess after 0, 1, ... `count` steps that contract the mean by `factor` and add `noise`."""
    losses = np.empty(count + 1)
    squared, mean, variance = factor**2, model.start, np.zeros_like(model.a)
    losses[0] = (mean**2 + variance) @ model.a / 2
    for number in range(1, count + 1):
        mean = factor * mean
        variance = squared * variance + noise
        losses[number] = (mean**2 + variance) @ model.a / 2
    return losses


def plain_sgd(model: NoisyQuadratic, updates: int, rates: Iterable[float]) -> Array:
    """Return the least excess after 0, 1, ... `updates` updates by unrolling Equations 8 and 9."""
    best = np.full(updates + 1, np.inf)
    for rate in rates:
        noise = rate**2 * model.a**2 * model.noise
        best = np.minimum(best, unrolled(model, 1 - rate * model.a, noise, updates))
    return best


def plain_lookahead(
    model: NoisyQuadratic, rounds: int, k: int, rates: Iterable[float], alphas: Iterable[float]
) -> Array:
    """Return the least excess of the slow weights after 0, 1, ... `rounds` rounds by unrolling Lemma 1."""
    best = np.full(rounds + 1, np.inf)
    for rate in rates:
        inner = 1 - rate * model.a
        inner_noise = sum(inner ** (2 * i) for i in range(k)) * rate**2 * model.a**2 * model.noise
        for alpha in alphas:
            best = np.minimum(best, unrolled(model, 1 - alpha + alpha * inner**k, alpha**2 * inner_noise, rounds))
    return best


def plain_loop(
    model: NoisyQuadratic, updates: int, k: int, rates: Sequence[float], alphas: Sequence[float]
) -> tuple[Array, Array]:
    """Return SGD's and Lookahead's least excess at the horizons 1, 2, ... `updates`, as `horizons` does."""
    sgd = plain_sgd(model, updates, rates)
    lookahead = plain_lookahead(model, updates // k, k, rates, alphas)
    return sgd[1:], lookahead[np.arange(1, updates + 1) // k]


def check_agreement(ours: Horizons, plain: tuple[Array, Array]) -> None:
    """Raise an AssertionError unless both found the same least losses, up to TOLERANCE, relative."""
    for name, found, expected in (("SGD", ours.sgd, plain[0]), ("Lookahead", ours.lookahead, plain[1])):
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=0, err_msg=f"{name}'s least losses")


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def added_peak_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes that what `work` makes takes at one time: numpy reports its arrays to tracemalloc."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@dataclass
class Case:
    """Seconds of each run at one dimension, and the peak memory in bytes that ours adds."""

    dimension: int
    ours: list[float]
    plain: list[float]
    peak: int

    @property
    def ratio(self) -> float:
        """How many times as long the plain loop takes, by the medians."""
        return statistics.median(self.plain) / statistics.median(self.ours)


def measure(dimension: int, rounds: int) -> Case:
    """Check that both agree at this dimension, which also warms up, then time them; memory in a run of its own."""
    model = worst_case(dimension, CONDITION_NUMBER)
    ours = partial(horizons, model, UPDATES, K, GRID_RATES, GRID_ALPHAS)
    plain = partial(plain_loop, model, UPDATES, K, GRID_RATES, GRID_ALPHAS)
    check_agreement(ours(), plain())
    return Case(
        dimension, [seconds(ours) for _ in range(rounds)], [seconds(plain)], added_peak_bytes(ours)
    )  # tracing would slow the timed runs down


def rows_of(case: Case) -> list[dict[str, Any]]:
    """Return the rows of the table: ours, then the plain loop."""
    runs = (
        ("ours", case.ours, case.ratio, f"{case.peak / 2**20:.2f}"),
        ("plain loop", case.plain, 1.0, "not measured"),
    )
    return [
        {
            "dimension": case.dimension,
            "what": what,
            "seconds (median)": statistics.median(times),
            "lowest": min(times),
            "highest": max(times),
            "ratio": ratio,
            "added peak memory (MiB)": memory,
        }
        for what, times, ratio, memory in runs
    ]


def verdicts(cases: Sequence[Case]) -> list[str]:
    """Return a line for each goal, which says whether it is met."""
    large = [case for case in cases if case.dimension == LARGE]
    time_goal, memory_goal = f"{GOAL_SECONDS:g} s at dimension {LARGE}", f"{GOAL_BYTES / 1e6:g} MB at dimension {LARGE}"
    worst = min(cases, key=lambda case: case.ratio)
    lines = [f"Goal: at most {goal}: not measured." for goal in (time_goal, memory_goal)]
    if large:
        median, peak = statistics.median(large[0].ours), large[0].peak
        lines = [
            f"Goal: at most {time_goal}: {met(median <= GOAL_SECONDS)}, {median:.3g} s.",
            f"Goal: at most {memory_goal}: {met(peak <= GOAL_BYTES)}, {peak / 1e6:.3g} MB.",
        ]
    lines.append(
        f"Goal: at least {GOAL_RATIO:g} times as fast as the plain loop at every dimension: "
        f"{met(worst.ratio >= GOAL_RATIO)}, at worst {worst.ratio:.3g} times, at dimension {worst.dimension}."
    )
    return lines


def notes_on(cases: Sequence[Case], rounds: int, load: float, elapsed: float) -> str:
    """Say how the numbers were made, and which goals are met."""
    method = (
        f"Figure 12's search: {len(GRID_RATES)} learning rates for SGD, these times {len(GRID_ALPHAS)} alphas for "
        f"Lookahead, k = {K}, every horizon up to {UPDATES:,} updates, on the worst-case spectrum with condition "
        f"number {CONDITION_NUMBER:g}, which is ours. Plain loop: the expected dynamics unrolled in numpy for one "
        f"setting after the other, round by round (SGD: update by update), vectorized over coordinates alone. Both "
        f"gave the same least losses at every horizon, to {TOLERANCE:g} relative, before they were timed. Ours: "
        f"`horizons`, the median of {rounds} runs; the plain loop ran once for time. Ratio: the plain loop's time over "
        f"this row's. Memory: all that ours allocates through Python, in a run of its own under tracemalloc, which "
        f"counts numpy's arrays exactly, but not the BLAS library's own buffers. Load average of other programs at "
        f"the start: {load:.2f}. The run took {elapsed:.0f} seconds."
    )
    return "\n".join([f"{method}\n", *(f"- {line}" for line in verdicts(cases))])


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimension", nargs="+", type=partial(whole_number, least=2), default=[100, LARGE])
    parser.add_argument("--rounds", type=partial(whole_number, least=1), default=5, help="timed runs of ours")
    parser.add_argument("--out", type=Path, help=f"folder of the report; {RESULTS} for a full run, else none")
    return parser


def main(given: list[str] | None = None) -> None:
    parser = arguments()
    options = parser.parse_args(given)
    load, begin = os.getloadavg()[0], time.perf_counter()  # of others: nothing has run yet
    cases = []
    for dimension in options.dimension:
        cases.append(measure(dimension, options.rounds))
        print(f"dimension {dimension}: {cases[-1].ratio:.1f} times as fast as the plain loop", flush=True)
    rows = [row for case in cases for row in rows_of(case)]
    notes = notes_on(cases, options.rounds, load, time.perf_counter() - begin)
    folder = options.out or (RESULTS if options == parser.parse_args([]) else None)
    show_report("quadratic", "Figure 12's search on the noisy quadratic", rows, notes, folder, options, load, cases)


if __name__ == "__main__":
    main()
