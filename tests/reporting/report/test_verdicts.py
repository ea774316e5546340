"""Verdicts of comparisons over seeds, on values worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from scripts.reporting.report.intervals import Interval
from scripts.reporting.report.verdicts import (
    NOT_REPRODUCED,
    NOT_RUN,
    PARTLY,
    REPRODUCED,
    UNDECIDED,
    UNREADABLE,
    Finding,
    alike,
    greater,
    meets,
    no_lead,
    reaches,
    together,
)
from scripts.reporting.series import spread

HIGH, LOW, WIDE = spread([9.9, 10.0, 10.1]), spread([8.9, 9.0, 9.1]), spread([5.0, 9.5, 14.0])
# t(4) sqrt(2/3) .1 = .22670: the half width of the difference between HIGH and LOW


def test_a_difference_that_excludes_zero_decides_either_way():
    found = greater("a and b", HIGH, LOW)
    assert (found.verdict, found.found, found.needs) == (REPRODUCED, "+1.00 [+0.77, +1.23]", "")
    assert greater("", LOW, HIGH).verdict == NOT_REPRODUCED
    assert greater("", LOW, HIGH, sign=-1).verdict == REPRODUCED  # of a loss
    assert greater("", HIGH, LOW, sign=-1).verdict == NOT_REPRODUCED


def test_a_difference_that_includes_zero_says_how_many_seeds_would_decide():
    found = greater("", WIDE, LOW)
    assert found.verdict == UNDECIDED
    assert found.needs.endswith("seeds")
    assert int(found.needs.split()[0]) > 3
    assert greater("", HIGH, HIGH).needs == "more than 1000 seeds"


@pytest.mark.parametrize("judge", [greater, lambda *sides: alike(*sides, margin=5)])
def test_two_seeds_are_too_few_whatever_they_say(judge):
    found = judge("", spread([10.0, 10.0]), LOW)
    assert (found.verdict, found.needs) == (UNDECIDED, "3 seeds")
    found = judge("", LOW, spread([10.0]))
    assert (found.verdict, found.needs, found.found[:5]) == (UNDECIDED, "3 seeds", "-1.00")


@pytest.mark.parametrize("judge", [greater, lambda *sides: alike(*sides, margin=5)])
def test_what_diverged_is_no_mean(judge):
    diverged = replace(spread([10.0, None, 10.0]), diverged=1)
    found = judge("", diverged, LOW)
    assert (found.verdict, found.needs) == (UNDECIDED, "runs that end")
    assert "diverged (1 of 3)" in found.found
    assert judge("", LOW, diverged).verdict == UNDECIDED
    assert reaches("", diverged, 1).verdict == meets("", diverged, Interval(1, 1, 1)).verdict == UNDECIDED


def test_where_all_of_one_side_diverge_and_all_of_the_other_end_the_other_is_better():
    diverged = replace(spread([None] * 3), diverged=3)
    assert greater("", LOW, diverged).verdict == REPRODUCED  # of an accuracy as of a loss
    found = greater("", LOW, diverged, sign=-1)
    assert (found.verdict, found.found) == (REPRODUCED, "9 ± 0.1 and diverged (3 of 3)")
    assert greater("", diverged, LOW, sign=-1).verdict == NOT_REPRODUCED
    assert greater("", diverged, diverged).verdict == UNDECIDED
    assert greater("", spread([1.0, 2.0]), diverged).verdict == UNDECIDED
    assert greater("", LOW, replace(spread([None, 1.0, 1.0]), diverged=1)).verdict == UNDECIDED
    assert alike("", LOW, diverged, 5).verdict == no_lead("", LOW, diverged, 5).verdict == UNDECIDED


def test_no_lead_is_not_below_by_more_than_the_margin():
    """Of a perplexity: LOW is below HIGH by 1 ± .2267, HIGH is above LOW by as much."""
    assert no_lead("", HIGH, LOW, 0.1).verdict == REPRODUCED
    assert no_lead("", LOW, HIGH, 1.3).verdict == REPRODUCED
    assert no_lead("", LOW, HIGH, 0.7).verdict == NOT_REPRODUCED
    found = no_lead("", LOW, HIGH, 1.1)
    assert (found.verdict, found.found, found.needs) == (UNDECIDED, "-1.00 [-1.23, -0.77], margin 1.1", "9 seeds")
    assert no_lead("", spread([1.0, 1.0]), HIGH, 1).needs == "3 seeds"


def test_alike_is_the_whole_interval_within_the_margin():
    """The difference is 1 ± .2267: within 1.3, outside .7, and neither of 1.1."""
    assert alike("", HIGH, LOW, 1.3).verdict == alike("", LOW, HIGH, 1.3).verdict == REPRODUCED
    assert alike("", HIGH, LOW, 0.7).verdict == alike("", LOW, HIGH, 0.7).verdict == NOT_REPRODUCED
    found = alike("", HIGH, LOW, 1.1)
    assert (found.verdict, found.found) == (UNDECIDED, "+1.00 [+0.77, +1.23], margin 1.1")
    # .1 from the margin: t(2n - 2) .1 sqrt(2/n) < .1, as of one standard deviation and a distance of one
    assert found.needs == "9 seeds"


def test_reaching_a_value():
    """10 ± .24841: t(2) .1 / sqrt(3)."""
    assert reaches("", HIGH, 9.75).verdict == REPRODUCED
    assert reaches("", HIGH, 9.76).verdict == UNDECIDED
    assert reaches("", HIGH, 10.24).verdict == UNDECIDED
    assert reaches("", HIGH, 10.25).verdict == NOT_REPRODUCED
    assert reaches("", HIGH, 10.25, sign=-1).verdict == REPRODUCED
    assert reaches("", HIGH, 9.75, sign=-1).verdict == NOT_REPRODUCED
    assert reaches("", HIGH, 9.9).found == "10.00 [9.75, 10.25] against 9.9"
    assert reaches("", spread([10.0, 10.0]), 9).needs == "3 seeds"
    # .1 with one standard deviation of .1: t(n - 1) / sqrt(n) < 1 from seven on
    assert reaches("", HIGH, 9.9).needs == "7 seeds"


def test_meeting_a_published_value():
    assert meets("", HIGH, Interval(10.3, 10.2, 10.4)).verdict == REPRODUCED
    assert meets("", HIGH, Interval(10.3, 10.3, 10.3)).verdict == NOT_REPRODUCED
    assert meets("", spread([10.0]), Interval(10, 10, 10)) == Finding("", "10.00 against 10.00", UNDECIDED, "3 seeds")
    assert meets("", spread([10.0, 10.1]), Interval(10, 10, 10)).needs == "3 seeds"


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ([], NOT_RUN),
        ([NOT_RUN, NOT_RUN], NOT_RUN),
        ([REPRODUCED, REPRODUCED], REPRODUCED),
        ([NOT_REPRODUCED, NOT_REPRODUCED], NOT_REPRODUCED),
        ([REPRODUCED, NOT_REPRODUCED], PARTLY),
        ([REPRODUCED, NOT_REPRODUCED, UNDECIDED], PARTLY),
        ([PARTLY, REPRODUCED], PARTLY),
        ([REPRODUCED, UNDECIDED], UNDECIDED),
        ([NOT_REPRODUCED, UNDECIDED], NOT_REPRODUCED),
        ([NOT_REPRODUCED, NOT_RUN, UNDECIDED], NOT_REPRODUCED),
        ([PARTLY, UNDECIDED], PARTLY),
        ([REPRODUCED, NOT_RUN], UNDECIDED),
        ([UNDECIDED, UNDECIDED], UNDECIDED),
        ([UNREADABLE], UNREADABLE),
        ([NOT_RUN, UNREADABLE], UNREADABLE),
        ([REPRODUCED, UNREADABLE], UNDECIDED),
        ([NOT_REPRODUCED, UNREADABLE], NOT_REPRODUCED),
    ],
)
def test_several_findings_together(verdicts, whole):
    assert together([Finding("", "", verdict) for verdict in verdicts]) == whole


def test_a_mean_that_is_not_finite_is_undecided():
    assert greater("", spread([math.nan, 1.0, 2.0]), LOW).found == "not finite and 9 ± 0.1"
