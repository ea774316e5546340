"""Time of the exact analysis of outer momentum over a whole grid, against a plain loop over its settings.

Both find the final loss, the distance from it after 1000 updates and the asymptotic speed of 100 learning rates, 50
alphas and 10 momenta, each with heavy ball and with Nesterov. The plain loop takes one setting after the other: it
unrolls mean and covariance round by round, solves the fixed point as three linear equations in each coordinate, and
asks LAPACK for eigenvalues. It takes some of the settings, and must find the same numbers before anything is timed.

Run `make bench-outer-momentum` on an idle machine (under a minute). Writes results/benchmarks/outer_momentum.{md,json};
a partial run only prints its table, unless given --out.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from benchmarks.quadratic import seconds
from benchmarks.report import RESULTS, met, show_report, whole_number
from experiments.quadratic.arguments import Array
from experiments.quadratic.noisy import NoisyQuadratic, worst_case
from experiments.quadratic.outer_momentum import Found, on_grid

UPDATES, K, CONDITION_NUMBER, DIMENSION = 1000, 5, 1000.0, 100
RATES, ALPHAS, MOMENTA = np.linspace(0.005, 0.995, 100), np.linspace(0.02, 1.0, 50), np.linspace(0.0, 0.9, 10)
KINDS = (False, True)  # heavy ball, Nesterov
STRIDE = 97  # of the plain loop, through the grid: prime to its sides
# Relative: the plain loop's linear equations are nearly singular where a round moves little; its distance is a
# difference of nearly equal numbers, of the size of the final loss, and eigenvalues that meet have half the digits.
TOLERANCE, SPEED_TOLERANCE = 1e-8, 1e-7
GOAL_SECONDS, GOAL_RATIO = 10.0, 10.0

Setting = tuple[float, float, float, bool]  # mu, alpha, rate, nesterov


def settings_of(stride: int) -> list[Setting]:
    """Return every stride-th setting, in the order of our grids, heavy ball first."""
    whole = ((mu, alpha, rate, nesterov) for nesterov in KINDS for mu in MOMENTA for alpha in ALPHAS for rate in RATES)
    return list(itertools.islice(whole, 0, None, stride))


def plain_setting(model: NoisyQuadratic, updates: int, k: int, setting: Setting) -> tuple[float, float, float]:
    """Return final loss, distance and speed of one setting, from the lines of the update, for all coordinates."""
    mu, alpha, rate, nesterov = setting
    inner = 1 - rate * model.a
    r = inner**k
    noise = sum(inner ** (2 * i) for i in range(k)) * rate**2 * model.a**2 * model.noise
    step, kept = (alpha * (1 + mu), alpha * mu**2) if nesterov else (alpha, alpha * mu)
    # (phi, b) <- [[p, q], [s, mu]] (phi, b) + (step, -1) noise
    p, q, s = 1 - step * (1 - r), -kept, 1 - r
    mean, velocity = model.start, np.zeros_like(model.a)
    phi, both, b = (np.zeros_like(model.a) for _ in range(3))
    for _ in range(updates // k):
        mean, velocity = p * mean + q * velocity, s * mean + mu * velocity
        phi, both, b = (
            p**2 * phi + 2 * p * q * both + q**2 * b + step**2 * noise,
            p * s * phi + (p * mu + q * s) * both + q * mu * b - step * noise,
            s**2 * phi + 2 * s * mu * both + mu**2 * b + noise,
        )
    zero, one = np.zeros_like(r), np.ones_like(r)
    matrix = np.array(
        [
            [1 - p**2, -2 * p * q, -(q**2) * one],
            [-p * s, 1 - p * mu - q * s, -q * mu * one],
            [-(s**2), -2 * s * mu, (1 - mu**2) * one],
        ]
    )
    added = np.array([step**2 * noise, -step * noise, noise])
    steady = np.linalg.solve(np.moveaxis(matrix, -1, 0), added.T[..., None])[:, 0, 0]
    round_matrix = np.moveaxis(np.array([[p, q + zero], [s, mu + zero]]), -1, 0)
    radius = np.abs(np.linalg.eigvals(round_matrix)).max()
    return steady @ model.a / 2, np.abs(mean**2 + phi - steady) @ model.a / 2, -np.log(radius) / k


def plain_loop(model: NoisyQuadratic, updates: int, k: int, settings: Iterable[Setting]) -> Array:
    """Return final losses, distances and speeds of settings, shape (settings, 3)."""
    return np.array([plain_setting(model, updates, k, setting) for setting in settings])


def whole_grid(model: NoisyQuadratic, updates: int, k: int) -> list[Found]:
    """Return ours of the whole grid, heavy ball and Nesterov."""
    return [on_grid(model, k, RATES, ALPHAS, MOMENTA, updates, nesterov) for nesterov in KINDS]


def check_agreement(ours: Sequence[Found], plain: Array, stride: int) -> None:
    """Raise an AssertionError unless both found the same numbers."""
    final, distance, speed = (
        np.concatenate([values.ravel() for values in both])[::stride] for both in zip(*ours, strict=True)
    )
    np.testing.assert_allclose(final, plain[:, 0], rtol=TOLERANCE, err_msg="final losses")
    assert np.all(np.abs(distance - plain[:, 1]) <= TOLERANCE * (final + plain[:, 1])), "distances differ"
    np.testing.assert_allclose(speed, plain[:, 2], rtol=0, atol=SPEED_TOLERANCE, err_msg="speeds")


@dataclass
class Case:
    """Seconds of each run, and over how many settings."""

    dimension: int
    ours: list[float]
    plain: list[float]
    ours_settings: int
    plain_settings: int

    @property
    def ratio(self) -> float:
        """How many times as long the plain loop takes a setting, by the medians."""
        ours, plain = statistics.median(self.ours), statistics.median(self.plain)
        return (plain / self.plain_settings) / (ours / self.ours_settings)


def measure(dimension: int, rounds: int, stride: int) -> Case:
    """Check that both agree, which also warms up, then time them."""
    model, settings = worst_case(dimension, CONDITION_NUMBER), settings_of(stride)
    ours, plain = partial(whole_grid, model, UPDATES, K), partial(plain_loop, model, UPDATES, K, settings)
    found = ours()
    check_agreement(found, plain(), stride)
    count = sum(one.speed.size for one in found)
    return Case(dimension, [seconds(ours) for _ in range(rounds)], [seconds(plain)], count, len(settings))


def rows_of(case: Case) -> list[dict[str, Any]]:
    """Return the rows of the table: ours, then the plain loop."""
    runs = (("ours", case.ours, case.ours_settings, case.ratio), ("plain loop", case.plain, case.plain_settings, 1.0))
    return [
        {
            "what": what,
            "settings": settings,
            "seconds (median)": statistics.median(times),
            "lowest": min(times),
            "highest": max(times),
            "microseconds a setting": statistics.median(times) / settings * 1e6,
            "ratio": ratio,
        }
        for what, times, settings, ratio in runs
    ]


def verdicts(case: Case) -> list[str]:
    """Return a line for each goal, which says whether it is met."""
    median = statistics.median(case.ours)
    return [
        f"Goal: at most {GOAL_SECONDS:g} s for the whole grid: {met(median <= GOAL_SECONDS)}, {median:.3g} s.",
        f"Goal: at least {GOAL_RATIO:g} times as fast a setting as the plain loop: "
        f"{met(case.ratio >= GOAL_RATIO)}, {case.ratio:.3g} times.",
    ]


def notes_on(case: Case, rounds: int, load: float, elapsed: float) -> str:
    """Say how the numbers were made, and which goals are met."""
    method = (
        f"Final loss, distance from it after {UPDATES:,} updates and asymptotic speed of {len(RATES)} learning rates, "
        f"{len(ALPHAS)} alphas and {len(MOMENTA)} momenta, each with heavy ball and Nesterov, k = {K}, on the "
        f"worst-case spectrum of dimension {case.dimension} with condition number {CONDITION_NUMBER:g}. Plain loop: "
        f"one setting after the other in numpy, vectorized over coordinates alone, mean and covariance unrolled round "
        f"by round, the fixed point by linear equations, eigenvalues by LAPACK; of {case.plain_settings:,} settings "
        f"spread over the grid. Both found the same numbers for these, to {TOLERANCE:g} relative, before they were "
        f"timed. Ours: the median of {rounds} runs, in one thread; the plain loop ran once. Ratio: of the time "
        f"a setting. Load average of other programs at the start: {load:.2f}. The run took {elapsed:.0f} seconds."
    )
    return "\n".join([f"{method}\n", *(f"- {line}" for line in verdicts(case))])


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimension", type=partial(whole_number, least=2), default=DIMENSION)
    parser.add_argument("--rounds", type=partial(whole_number, least=1), default=5, help="timed runs of ours")
    parser.add_argument(
        "--stride", type=partial(whole_number, least=1), default=STRIDE, help="of the plain loop's settings"
    )
    parser.add_argument("--out", type=Path, help=f"folder of the report; {RESULTS} for a full run, else none")
    return parser


def main(given: list[str] | None = None) -> None:
    parser = arguments()
    options = parser.parse_args(given)
    load, begin = os.getloadavg()[0], time.perf_counter()  # of others: nothing has run yet
    case = measure(options.dimension, options.rounds, options.stride)
    notes = notes_on(case, options.rounds, load, time.perf_counter() - begin)
    folder = options.out or (RESULTS if options == parser.parse_args([]) else None)
    show_report(
        "outer_momentum",
        "The exact analysis of outer momentum over a grid",
        rows_of(case),
        notes,
        folder,
        options,
        load,
        [case],
    )


if __name__ == "__main__":
    main()
