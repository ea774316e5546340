"""Verdicts: what a comparison over seeds finds of a statement, and what several findings make together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scripts.reporting.report.intervals import (
    LEAST_SEEDS,
    MOST_SEEDS,
    Interval,
    of_difference,
    of_mean,
    seeds_to_exclude,
)
from scripts.reporting.series import Spread

REPRODUCED, PARTLY, NOT_REPRODUCED, UNDECIDED, NOT_RUN, UNREADABLE = VERDICTS = (
    "reproduced",
    "partly",
    "not reproduced",
    "undecided",
    "not run",
    "unreadable",  # where runs are recorded, and no record can be read
)


@dataclass(frozen=True)
class Finding:
    """What one comparison found: between what, the numbers in words, and the verdict that follows from them."""

    what: str
    found: str
    verdict: str
    needs: str = ""  # what would decide it, where it is undecided
    metric: str = ""  # what was compared, with its unit


def together(findings: Sequence[Finding]) -> str:
    """Return the verdict of a statement about all of several comparisons.

    Where one comparison has the contrary it is partly reproduced if another has what was claimed, and not reproduced
    if none has; without a contrary, one that is undecided, was not run or cannot be read leaves it undecided.
    """
    verdicts = {finding.verdict for finding in findings} or {NOT_RUN}
    if verdicts == {NOT_RUN, UNREADABLE}:
        return UNREADABLE
    if len(verdicts) == 1:
        return verdicts.pop()
    if PARTLY in verdicts or {REPRODUCED, NOT_REPRODUCED} <= verdicts:
        return PARTLY
    return NOT_REPRODUCED if NOT_REPRODUCED in verdicts else UNDECIDED


def greater(what: str, first: Spread, second: Spread, sign: int = 1, digits: int = 2) -> Finding:
    """Judge whether the first mean is greater than the second, or with `sign` -1 less: the difference excludes 0."""

    def decide(difference: Interval) -> tuple[str, float]:
        side = REPRODUCED if sign * difference.middle > 0 else NOT_REPRODUCED
        return side if difference.outside(0) else UNDECIDED, abs(difference.middle)

    return _only_one_ends(what, first, second) or _of_difference(what, first, second, digits, "", decide)


def alike(what: str, first: Spread, second: Spread, margin: float, digits: int = 2) -> Finding:
    """Judge whether two means are within a margin of each other: their difference's whole interval is."""

    def decide(difference: Interval) -> tuple[str, float]:
        verdict = REPRODUCED if difference.within(margin) else UNDECIDED
        return NOT_REPRODUCED if difference.outside(margin) else verdict, abs(margin - abs(difference.middle))

    return _of_difference(what, first, second, digits, f", margin {margin:g}", decide)


def no_lead(what: str, first: Spread, second: Spread, margin: float, digits: int = 2) -> Finding:
    """Judge whether the first mean, of which less is better, is not below the second by more than a margin."""
    return _of_difference(
        what, first, second, digits, f", margin {margin:g}", lambda difference: _at_least_0(difference.shifted(margin))
    )


def reaches(what: str, found: Spread, value: float, sign: int = 1, digits: int = 2) -> Finding:
    """Judge whether a mean is at least a published value, or with `sign` -1 at most: its interval excludes less."""
    return _of_mean(what, found, f"{value:g}", digits, lambda mean: _at_least_0(mean.shifted(-value), sign))


def meets(what: str, found: Spread, published: Interval, digits: int = 2) -> Finding:
    """Judge whether a value is the published one: the intervals overlap."""

    def decide(mean: Interval) -> tuple[str, float]:
        return REPRODUCED if mean.overlaps(published) else NOT_REPRODUCED, 0.0

    return _of_mean(what, found, f"{published.middle:.{digits}f}", digits, decide)


Decide = Callable[[Interval], tuple[str, float]]  # the verdict of an interval, and how far from another its middle is


def _at_least_0(distance: Interval, sign: int = 1) -> tuple[str, float]:
    ahead = sign * (distance.low if sign > 0 else distance.high) >= 0
    verdict = REPRODUCED if ahead else NOT_REPRODUCED if distance.outside(0) else UNDECIDED
    return verdict, abs(distance.middle)


def _of_difference(what: str, first: Spread, second: Spread, digits: int, told: str, decide: Decide) -> Finding:
    if not (math.isfinite(first.mean) and math.isfinite(second.mean)):  # no mean may hide what diverged
        return Finding(what, f"{first.text()} and {second.text()}", UNDECIDED, "runs that end")
    difference = of_difference(first, second)
    text = _difference_text(first.mean - second.mean, difference, digits) + told
    return _decided(what, text, difference, decide, first, second)


def _of_mean(what: str, found: Spread, against: str, digits: int, decide: Decide) -> Finding:
    if not math.isfinite(found.mean):
        return Finding(what, found.text(), UNDECIDED, "runs that end")
    return _decided(what, f"{_mean_text(found, digits)} against {against}", of_mean(found), decide, found)


def _decided(what: str, text: str, interval: Interval | None, decide: Decide, *sides: Spread) -> Finding:
    few = _too_few(*sides)
    if interval is None or few:
        return Finding(what, text, UNDECIDED, few)
    verdict, distance = decide(interval)
    return Finding(what, text, verdict, _seeds_text(distance, *sides) if verdict == UNDECIDED else "")


def interval_text(interval: Interval, digits: int) -> str:
    """Return the ends of an interval of a difference, with their signs."""
    return f"[{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"


def _difference_text(middle: float, difference: Interval | None, digits: int) -> str:
    text = f"{middle:+.{digits}f}"
    return text if difference is None else f"{text} {interval_text(difference, digits)}"


def _mean_text(found: Spread, digits: int) -> str:
    text = f"{found.mean:.{digits}f}"
    return text if found.low is None else f"{text} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _too_few(*sides: Spread) -> str:
    return f"{LEAST_SEEDS} seeds" if min(side.seeds for side in sides) < LEAST_SEEDS else ""


def _seeds_text(distance: float, *sides: Spread) -> str:
    count = seeds_to_exclude(distance, *(side.std for side in sides))
    return f"{count} seeds" if count is not None else f"more than {MOST_SEEDS} seeds"


def _only_one_ends(what: str, first: Spread, second: Spread) -> Finding | None:
    """Return the finding that one side is better, where all of its seeds end and all of the other's diverge."""
    ends = [not side.diverged and math.isfinite(side.mean) for side in (first, second)]
    diverges = [side.diverged == side.seeds for side in (first, second)]
    if _too_few(first, second) or ends not in ([True, False], [False, True]) or diverges != ends[::-1]:
        return None
    return Finding(what, f"{first.text()} and {second.text()}", REPRODUCED if ends[0] else NOT_REPRODUCED)
