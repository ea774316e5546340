"""A claim on the report's page: its verdict, and the comparisons that it follows from, at every scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from scripts.reporting.markdown import markdown_table
from scripts.reporting.report.judging import Judgement
from scripts.reporting.report.verdicts import NOT_RUN, Finding

NONE = "-"
SHOWN_FINDINGS = 12  # of one claim; the rest is counted
CLAIMED = {
    "greater": "a difference above 0",
    "less": "a difference below 0",
    "alike": "a difference within the margin",
    "no_lead": "a difference not below minus the margin",
    "at_least": "no less than the value",
}


def text_of(judgement: Judgement) -> Iterator[str]:
    """Yield a claim with its verdict, and what it follows from, in paragraphs of Markdown."""
    claim = judgement.claim
    said = f"**{judgement.verdict}**" + (f" ({judgement.scale})" if judgement.scale else "")
    by = "" if claim.by == "the paper" else f" ({claim.by})"
    on = f" On {claim.stand_in}, a stand-in." if claim.stand_in else ""
    yield f"> {claim.claim}{by}: {said}.{on}"
    if not judgement.findings:
        return
    if claim.caution:
        yield f"Caution: {claim.caution}"
    if claim.test["kind"] in CLAIMED:
        what = "Means" if claim.test["kind"] == "at_least" else "The first mean less the second"
        yield f"{what}, with 95 % intervals; claimed is {CLAIMED[claim.test['kind']]}."
    rows = _rows(judgement)
    yield markdown_table(rows[:SHOWN_FINDINGS])
    if len(rows) > SHOWN_FINDINGS:
        counts = Counter(finding.verdict for finding in judgement.findings)
        listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        yield f"And {len(rows) - SHOWN_FINDINGS} more; in all {listed}."


def _rows(judgement: Judgement) -> list[dict[str, str]]:
    """Return a row for each comparison: at the scale that counts, then in a column each at the others."""
    scales = [judgement.findings, *judgement.others.values()]
    keys = list(dict.fromkeys((finding.what, finding.metric) for findings in scales for finding in findings))
    counting, *others = [_by_comparison(findings) for findings in scales]
    measured = any(metric for _, metric in keys)
    rows = []
    for key in keys:
        row = {"compared": key[0], **({"of": key[1] or NONE} if measured else {})}
        its = counting.get(key)
        row |= {"found": its.found, "verdict": its.verdict, "needs": its.needs or NONE} if its else _NOTHING
        for scale, found in zip(judgement.others, others, strict=True):
            row[f"at scale {scale}"] = _in_short(found[key]) if key in found else NONE
        rows.append({name: escaped(text) for name, text in row.items()})
    return rows


def _in_short(finding: Finding) -> str:
    return NOT_RUN if finding.verdict == NOT_RUN else f"{finding.found}: {finding.verdict}"


_NOTHING = {"found": NONE, "verdict": NONE, "needs": NONE}


def _by_comparison(findings: Sequence[Finding]) -> dict[tuple[str, str], Finding]:
    return {(finding.what, finding.metric): finding for finding in findings}


def escaped(text: str) -> str:
    """Return text for a cell of a table."""
    return text.replace("|", "\\|")
