"""Claims, each with the verdict that recorded runs give it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scripts.reporting.cells import digits_of
from scripts.reporting.draws import Draws, value_of
from scripts.reporting.modules import MISTAKES, made_of
from scripts.reporting.published import published
from scripts.reporting.report import own_tests
from scripts.reporting.report.evidence import PAPER, Candidate, Evidence, Place, measured, said_of, until_best
from scripts.reporting.report.intervals import LEAST_SEEDS
from scripts.reporting.report.labels import Names, measured_as
from scripts.reporting.report.verdicts import (
    NOT_RUN,
    REPRODUCED,
    UNDECIDED,
    UNREADABLE,
    Finding,
    alike,
    greater,
    no_lead,
    reaches,
    together,
)
from scripts.reporting.series import Series, Spread

SIGNS = {"greater": 1, "less": -1}
COMPARISONS = (*SIGNS, "alike", "no_lead", "at_least")


@dataclass(frozen=True)
class Claim:
    """A claim of results/paper/claims.yaml, with the test that decides it."""

    claim: str
    where: str
    test: Mapping[str, Any]
    shown: Sequence[str] = ()
    by: str = "the paper"
    stand_in: str = ""
    caution: str = ""
    beyond: bool = False  # what neither the paper nor those who tried it speak of

    @property
    def experiments(self) -> list[str]:
        sides = [self.test, self.test.get("first", {}), self.test.get("second", {})]
        return list(dict.fromkeys(side["experiment"] for side in sides if "experiment" in side))


@dataclass(frozen=True)
class Judgement:
    """A claim, its verdict, and the findings that it follows from; `others` are the findings at other scales."""

    claim: Claim
    verdict: str
    scale: str
    findings: Sequence[Finding]
    others: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    mistake: str = ""  # why records could not be read

    @property
    def needs(self) -> str:
        """Return what would decide it: the most that one of its findings needs, and how many comparisons have none."""
        found = [finding.needs for finding in self.findings if finding.verdict == UNDECIDED and finding.needs]
        most = max(dict.fromkeys(found), key=_how_much, default="")
        parts = [most] if most else []
        for verdict, what in ((NOT_RUN, "runs"), (UNREADABLE, "readable records")):
            count = sum(finding.verdict == verdict for finding in self.findings)
            parts += [f"{what} for {count} comparison" + "s" * (count > 1)] if count else []
        return ", and ".join(parts)


def _how_much(needs: str) -> tuple[bool, float]:
    words = needs.split()
    numbers = [float(word) for word in words if word.isdigit()]
    return not numbers, (numbers or [0])[0] + needs.startswith("more")


def claims() -> list[Claim]:
    """Return the claims of the paper and of others, in the order of the paper."""
    return [Claim(**claim) for claim in published("claims")["claims"]]


def judge(claim: Claim, evidence: Evidence) -> Judgement:
    """Return the verdict on a claim at the largest scale that decides it, or that has enough seeds of everything.

    Where there is none, the largest at which everything has run counts, else the largest at which anything has. What
    keeps a record from being read leaves the claim undecided, and is said.
    """
    try:
        with made_of("this claim's test", claim.experiments):
            if claim.test["kind"] not in COMPARISONS:
                scale, findings = own_tests.TESTS[claim.test["kind"]](claim.test, evidence)
                if not findings:
                    wrong = evidence.unreadable(*claim.experiments)
                    findings = [Finding("its records", text, UNREADABLE) for text in wrong]
                return Judgement(claim, together(findings), scale, findings)
            return _judge_comparisons(claim, evidence)
    except MISTAKES as error:
        reason = said_of(error)
        return Judgement(claim, UNDECIDED, "", [Finding("its records", reason, UNDECIDED)], mistake=reason)


def _judge_comparisons(claim: Claim, evidence: Evidence) -> Judgement:
    places = evidence.places(*claim.experiments)
    if claim.test["kind"] == "at_least":  # a published value is of the paper's scale
        places = [place for place in places if place.scale == PAPER.scale]
    found = {place: _findings(claim.test, evidence, place) for place in places}
    found = {place: findings for place, findings in found.items() if together(findings) != NOT_RUN}
    if not found:
        return Judgement(claim, NOT_RUN, "", [])
    chosen = max(found, key=lambda place: _decides(found[place]))  # the first of equals, which is the largest
    others = {place.text: findings for place, findings in found.items() if place != chosen}
    return Judgement(claim, together(found[chosen]), chosen.text, found[chosen], others)


def _findings(test: Mapping[str, Any], evidence: Evidence, place: Place) -> list[Finding]:
    """Return what a test finds, or where its premise does not hold that this is so: then nothing is decided."""
    found = list(comparisons(test, evidence, place))
    premise = list(comparisons(test["premise"], evidence, place)) if "premise" in test else []
    if not premise or together(premise) in (REPRODUCED, NOT_RUN, UNREADABLE):
        return found
    failed = [one for one in premise if one.verdict != REPRODUCED]
    needs = "runs where its premise holds"
    return [replace(one, what=f"the premise: {one.what}", verdict=UNDECIDED, needs=needs) for one in failed]


def _decides(findings: Sequence[Finding]) -> int:
    """Return 2 of a scale that decides, or could with what was run there, 1 where everything was run at least once.

    Less than 0 is one of which no record can be read.
    """
    whole = together(findings)
    if whole == UNREADABLE:
        return -1
    complete = all(finding.verdict not in (NOT_RUN, UNREADABLE) for finding in findings)
    enough = all(finding.needs != f"{LEAST_SEEDS} seeds" for finding in findings)
    return 2 if whole != UNDECIDED or (complete and enough) else int(complete)


def comparisons(test: Mapping[str, Any], evidence: Evidence, place: Place) -> Iterator[Finding]:
    """Yield what each comparison of a test finds at a scale and in a precision."""
    metrics = test["metric"] if isinstance(test["metric"], list) else [test["metric"]]
    first, second = (_settings(test.get(side), evidence, place) for side in ("first", "second"))
    names = Names([*first, *second])
    for sides in _sides(test, first, second):
        for metric, part in itertools.product(metrics, test.get("at", [1])):
            name = measured_as(metric, part, len(sides) > 1, test.get("until_best"))
            found = _compare(test, names.of(*sides), sides, metric, part) or _lacking(names, sides)
            yield replace(found, metric=name)


def _settings(side: Mapping[str, Any] | None, evidence: Evidence, place: Place) -> list[Candidate]:
    return evidence.candidates(_draws(side), place, side.get("weights", "")) if side else []


def _lacking(names: Names, sides: Sequence[Candidate]) -> Finding:
    """Return that sides have no runs, or none that can be read."""
    lacking = [side for side in sides if side.series is None]
    missing = " and ".join(names.name(side) for side in lacking if not side.unreadable)
    wrong = [f"{names.name(side)} unreadable ({', '.join(side.unreadable)})" for side in lacking if side.unreadable]
    found = "; ".join([*([f"{missing} not run"] if missing else []), *wrong])
    return Finding(names.of(*sides), found, UNREADABLE if wrong else NOT_RUN)


def _sides(
    test: Mapping[str, Any], first: Sequence[Candidate], second: Sequence[Candidate]
) -> Iterator[tuple[Candidate, ...]]:
    """Yield the settings that are compared with each other; what stands on the first side is left out of the second."""
    if "second" not in test:
        yield from (itertools.combinations(first, 2) if test["kind"] == "alike" else ((one,) for one in first))
        return
    by, known = test.get("by"), {(one.name, one.weights) for one in first}
    others = [other for other in second if (other.name, other.weights) not in known]
    for one, other in itertools.product(first, others):
        if by is None or value_of(one.values, by) == value_of(other.values, by):
            yield one, other


def _draws(side: Mapping[str, Any]) -> Draws:
    filters = {key: value for key, value in side.items() if key not in ("experiment", "where", "weights")}
    return Draws(side["experiment"], {**filters, **side.get("where", {})})


def _compare(
    test: Mapping[str, Any], what: str, sides: Sequence[Candidate], metric: str, part: float
) -> Finding | None:
    """Return what a comparison finds, or None where a side has no runs."""
    if any(side.series is None for side in sides):
        return None
    found = _decided(test, what, metric, *(_measured(test, side.series, metric, part) for side in sides))
    unreadable = sum(len(side.unreadable) for side in sides)
    return replace(found, found=f"{found.found}; {unreadable} unreadable") if unreadable else found


def _measured(test: Mapping[str, Any], series: Series, metric: str, part: float) -> Spread:
    return until_best(series, metric, test["until_best"]) if "until_best" in test else measured(series, metric, part)


def _decided(test: Mapping[str, Any], what: str, metric: str, *sides: Spread) -> Finding:
    digits = digits_of(metric)
    if test["kind"] == "at_least":
        return reaches(what, *sides, test["value"], digits=digits)
    if "margin" in test:
        return (alike if test["kind"] == "alike" else no_lead)(what, *sides, test["margin"], digits)
    return greater(what, *sides, SIGNS[test["kind"]], digits)
