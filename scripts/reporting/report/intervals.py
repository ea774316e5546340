"""Intervals over seeds: of a mean, of a difference between means, and how many seeds would settle a question.

All are 95 % intervals by Student's t. A difference is Welch's: the two sides may differ in spread and in their number
of seeds, and are not paired. No interval is corrected for the number of claims.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.special import stdtrit

from scripts.reporting.series import CONFIDENCE, Spread

LEAST_SEEDS = 3  # of each side of a verdict
MOST_SEEDS = 1000  # more are not counted out


@dataclass(frozen=True)
class Interval:
    """A middle and the ends around it."""

    middle: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high

    def shifted(self, by: float) -> Interval:
        return Interval(self.middle + by, self.low + by, self.high + by)

    def within(self, margin: float) -> bool:
        """Return whether the whole interval lies in ± margin."""
        return -margin <= self.low and self.high <= margin

    def outside(self, margin: float) -> bool:
        """Return whether no point of the interval lies in ± margin."""
        return self.low > margin or self.high < -margin


def quantile(degrees: float) -> float:
    """Return by how many standard errors an interval reaches to each side."""
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def of_mean(spread: Spread) -> Interval | None:
    """Return the interval of a mean, or None where there is none: of one seed, or of what is not finite."""
    return None if spread.low is None or spread.high is None else Interval(spread.mean, spread.low, spread.high)


def of_published(mean: float, deviation: float | None, seeds: int | None) -> Interval:
    """Return the interval of a published mean: the value alone where no deviation over several seeds is published."""
    if deviation is None or seeds is None or seeds < 2:
        return Interval(mean, mean, mean)
    half = quantile(seeds - 1) * deviation / math.sqrt(seeds)
    return Interval(mean, mean - half, mean + half)


def of_difference(first: Spread, second: Spread) -> Interval | None:
    """Return Welch's interval of first - second, or None where a side has one seed or is not finite."""
    if first.std is None or second.std is None:
        return None
    middle = first.mean - second.mean
    parts = [side.std**2 / side.seeds for side in (first, second)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Interval(middle, middle, middle)
    shares = [part**2 / (side.seeds - 1) for part, side in zip(parts, (first, second), strict=True)]
    half = quantile(sum(parts) ** 2 / sum(shares)) * error
    return Interval(middle, middle - half, middle + half)


def seeds_to_exclude(distance: float, *deviations: float) -> int | None:
    """Return with how many seeds of each side a middle so far from the value in question would exclude it.

    The deviations over seeds, one per side, are taken as they were seen. None where more than MOST_SEEDS are needed.
    """
    variances = [deviation**2 for deviation in deviations]
    total = sum(variances)
    if total == 0:
        return LEAST_SEEDS if distance > 0 else None
    # Welch's degrees of freedom, with as many seeds on each side.
    degrees_per_seed = total**2 / sum(variance**2 for variance in variances)

    def decided(seeds: int) -> bool:
        return quantile((seeds - 1) * degrees_per_seed) * math.sqrt(total / seeds) < distance

    return least(decided)


def least(decided: Callable[[int], bool]) -> int | None:
    """Return the least number of seeds that is enough, None where MOST_SEEDS are not; more are never worse."""
    if not decided(MOST_SEEDS):
        return None
    low, high = LEAST_SEEDS, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle + 1, high)
    return low
