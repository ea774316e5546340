"""Intervals of differences and the seeds that would settle a question, against numbers worked by hand and scipy's."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from scripts.reporting.report.intervals import (
    MOST_SEEDS,
    Interval,
    least,
    of_difference,
    of_mean,
    of_published,
    seeds_to_exclude,
)
from scripts.reporting.series import spread

ONE, OTHER = [1.0, 2.0, 3.0], [2.0, 4.0, 6.0]  # means 2 and 4, variances 1 and 4


def test_a_difference_is_welchs():
    """By hand: variances 1/3 and 4/3 of the means, degrees (5/3)^2 / (1/18 + 16/18) = 50/17, error sqrt(5/3)."""
    found = of_difference(spread(ONE), spread(OTHER))
    half = stats.t.ppf(0.975, 50 / 17) * math.sqrt(5 / 3)
    assert (found.middle, found.low, found.high) == pytest.approx((-2, -2 - half, -2 + half))
    theirs = stats.ttest_ind(ONE, OTHER, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def test_sides_may_have_different_numbers_of_seeds():
    found = of_difference(spread([1.0, 2.0]), spread(OTHER))
    theirs = stats.ttest_ind([1.0, 2.0], OTHER, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def test_one_seed_has_no_interval_and_equal_values_have_a_point():
    assert of_difference(spread([1.0]), spread(OTHER)) is None
    assert of_difference(spread(OTHER), spread([1.0])) is None
    assert of_mean(spread([1.0])) is None
    assert of_difference(spread([2.0, 2.0]), spread([1.0, 1.0])) == Interval(1, 1, 1)


def test_the_interval_of_a_published_mean():
    """Three seeds: 4.3027 (t of two degrees) times .18 over the root of 3 is .44715."""
    found = of_published(78.24, 0.18, 3)
    assert (found.middle, found.low, found.high) == pytest.approx((78.24, 78.24 - 0.44715, 78.24 + 0.44715), abs=1e-5)
    assert of_published(77.72, None, 3) == of_published(77.72, 0.2, 1) == of_published(77.72, 0.2, None)
    assert of_published(77.72, None, None) == Interval(77.72, 77.72, 77.72)


def test_overlap_margin_and_outside():
    interval = Interval(0.5, -0.5, 1.5)
    assert interval.overlaps(Interval(2, 1.5, 2.5))
    assert interval.overlaps(Interval(-1, -1, -0.5))
    assert not interval.overlaps(Interval(2, 1.6, 2.4))
    assert not interval.overlaps(Interval(-2, -3, -0.6))
    assert interval.within(1.5)
    assert not interval.within(1.4)
    assert not interval.outside(0)
    assert Interval(2, 1, 3).outside(0.9)
    assert not Interval(2, 1, 3).outside(1)
    assert Interval(-2, -3, -1).outside(0.9)
    assert not Interval(-2, -3, -1).outside(1)
    assert interval.shifted(2) == Interval(2.5, 1.5, 3.5)


def test_as_many_seeds_as_are_needed_and_not_one_more():
    """One standard deviation each and a distance of one: n such that t(2n - 2) sqrt(2/n) < 1 is 9, not 8."""
    assert stats.t.ppf(0.975, 16) * math.sqrt(2 / 9) < 1 < stats.t.ppf(0.975, 14) * math.sqrt(2 / 8)
    assert seeds_to_exclude(1.0, 1.0, 1.0) == 9
    # of one mean: t(n - 1) / sqrt(n) < 1 from n = 7 on
    assert stats.t.ppf(0.975, 6) / math.sqrt(7) < 1 < stats.t.ppf(0.975, 5) / math.sqrt(6)
    assert seeds_to_exclude(1.0, 1.0) == 7
    # of unequal spreads: degrees (n - 1) (1 + 4)^2 / (1 + 16)
    count = seeds_to_exclude(1.0, 1.0, 2.0)
    half = [stats.t.ppf(0.975, (n - 1) * 25 / 17) * math.sqrt(5 / n) for n in (count - 1, count)]
    assert half[1] < 1 < half[0]


def test_what_no_number_of_seeds_settles():
    assert seeds_to_exclude(1e-3, 1.0, 1.0) is None
    assert seeds_to_exclude(0.0, 0.0, 0.0) is None
    assert seeds_to_exclude(0.1, 0.0, 0.0) == 3
    assert least(lambda seeds: seeds >= MOST_SEEDS) == MOST_SEEDS
    assert least(lambda seeds: True) == 3
