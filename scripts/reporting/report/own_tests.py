"""Tests of claims that are not a comparison of final metrics: quadratics, two probes, and the optimizer's own cost."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scripts.reporting.claims import claims_of
from scripts.reporting.figures.fig01_loss_surface import ends_of_paths
from scripts.reporting.figures.fig10_inner_and_outer_loop import changes_of
from scripts.reporting.modules import REPOSITORY
from scripts.reporting.records import Run, analysis_run, ended_well
from scripts.reporting.report import one_line
from scripts.reporting.report.evidence import Evidence, Place
from scripts.reporting.report.labels import MINUS, measured_as
from scripts.reporting.report.verdicts import NOT_REPRODUCED, PARTLY, REPRODUCED, Finding, reaches
from scripts.reporting.series import spread

Found = tuple[str, list[Finding]]  # where it was found, and what
Test = Mapping[str, Any]
BENCHMARK = REPOSITORY / "results" / "benchmarks" / "optimizer.json"
OURS = ("ours", "ours, fused")


def theory(test: Test, evidence: Evidence) -> Found:
    """Judge a claim on quadratics by how many of an analysis' comparisons hold."""
    runs = next(iter(evidence.runs(test["experiment"]).values()), [])
    if not runs:
        return "", []
    table = claims_of(analysis_run(runs, test["analysis"]))
    rows = table[table["claim"] == test["claim"]]
    if "case" in rows:
        rows = rows[rows["case"] == test.get("case", "")]
    if len(rows) != 1:
        raise ValueError(f"the analysis {test['analysis']} counted {len(rows)} claims {test['claim']!r}, not one")
    (row,) = rows.to_dict("records")
    if "column" in test:
        share = float(row[test["column"]])
        return _closed_form(test, f"{test['column'].replace('_', ' ')}: {share:.1%}", share, 1)
    counts = {name: int(row[name]) for name in ("holds", "ties", "fails")}
    total = sum(counts.values())
    text = f"{counts['holds']:,} of {total:,} hold, {counts['ties']:,} tie, {counts['fails']:,} fail"
    if "some" in test:
        return _closed_form(test, text, float(counts[test["some"]] > 0), 1)
    return _closed_form(test, text, counts["holds"] / total, test.get("share", 1))


def _closed_form(test: Test, text: str, share: float, enough: float) -> Found:
    verdict = REPRODUCED if share >= enough else PARTLY if share > 0 else NOT_REPRODUCED
    text += f" (at least {enough:.0%} are asked for)" if enough < 1 else ""
    return "closed form", [Finding(test["claim"], text, verdict)]


def loops(test: Test, evidence: Evidence) -> Found:
    """Judge Figure 10: an inner loop worsens a metric, a synchronization betters it, in the mean of a run's loops."""
    place, runs = _largest(evidence, test["experiment"])
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    for run in runs:
        name = f"k={run.config.optim.k}, α={run.config.optim.alpha:g}"
        for metric in test["metric"]:
            groups.setdefault((name, metric), []).append(changes_of(run.table("every_update"), metric))
    return place, [
        _change(f"{name}, {what}", metric, [one[what] for one in changes], sign)
        for (name, metric), changes in groups.items()
        for what, sign in (("inner loop", -1), ("synchronization", 1))
    ]


def _change(what: str, metric: str, changes: Sequence[float], better: int) -> Finding:
    is_loss = metric.endswith("loss")
    found = reaches(what, spread(changes), 0, -better if is_loss else better, digits=3 if is_loss else 2)
    return replace(found, metric=measured_as(metric))


def surface(test: Test, evidence: Evidence) -> Found:
    """Judge Figure 1: the slow weights after one inner loop are more accurate than SGD after its updates."""
    place, runs = _largest(evidence, test["experiment"])
    leads = []
    for run in runs:
        accuracy = ends_of_paths(run.arrays("loss_surface"))["test accuracy (%)"]
        leads.append(float(accuracy["slow, synchronized"] - accuracy.filter(like="SGD").iloc[0]))
    if not leads:
        return place, []
    return place, [replace(reaches(f"slow weights{MINUS}SGD", spread(leads), 0), metric="test accuracy (points)")]


def _largest(evidence: Evidence, experiment: str) -> tuple[str, list[Run]]:
    """Return the runs at the largest scale that has any, and its name."""
    place, runs = next(iter(evidence.runs(experiment).items()), (Place("", "fp32"), []))
    return place.text, ended_well(runs) if runs else []


def overhead(test: Test, evidence: Evidence) -> Found:
    """Judge O((k+1)/k): what Lookahead adds in k steps is at most a stated number of inner steps' time."""
    rows = json.loads(BENCHMARK.read_text(encoding="utf-8"))["rows"]
    inner = {_case(row): row["ms a step"] for row in rows if row["Lookahead"] == "none"}
    added = [row["k"] * row["added ms a step"] / inner[_case(row)] for row in rows if row["Lookahead"] in OURS]
    text = f"a synchronization takes {min(added):.2f} to {max(added):.2f} inner steps' time in {len(added)} cases"
    enough = max(added) <= test["at_most"]
    return _measured(f"{text}; the limit is {test['at_most']}", enough)


def copies(test: Test, evidence: Evidence) -> Found:
    """Judge "a single additional copy": the memory that a step takes more, in copies of the parameters."""
    rows = json.loads(BENCHMARK.read_text(encoding="utf-8"))["rows"]
    added = np.array([float(row["added copies"]) for row in rows if row["Lookahead"] in OURS])
    text = f"{added.min():.3f} to {added.max():.3f} copies in {added.size} cases"
    return _measured(text, bool((np.abs(added - 1) < 5e-4).all()))


def one_line_changes(test: Test, evidence: Evidence) -> Found:
    """Judge "one single line": two programs that differ in one line, both of which train."""
    texts = [inspect.getsource(program).splitlines()[1:] for program in (one_line.alone, one_line.inside)]
    lines = [line for line in difflib.ndiff(*texts) if line.startswith("+ ")]
    losses = [program() for program in (one_line.alone, one_line.inside)]
    train = all(last < first for first, last in losses)
    text = f"{len(lines)} line differs between the programs of scripts/reporting/report/one_line.py, and both train"
    return _measured(text, train and len(lines) == 1)


def _measured(text: str, holds: bool) -> Found:
    return "measured", [Finding("the optimizer", text, REPRODUCED if holds else NOT_REPRODUCED)]


def _case(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["model"], row["inner"], row["k"]


TESTS = {
    "theory": theory,
    "loops": loops,
    "surface": surface,
    "overhead": overhead,
    "copies": copies,
    "one_line": one_line_changes,
}
