"""The paper's claims on quadratics, as rows of tables: where each holds, ties and fails on our numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scripts.drawing import changed_labels, claims_of
from scripts.noisy_figures import grid_in_words
from scripts.records import Run, the_only

Rows = list[dict[str, Any]]
COUNTS = {name: name for name in ("holds", "ties", "fails")}
MARGINS = {f"margin_{name}": f"{name} margin" for name in ("min", "median", "max")}
ALPHAS = {
    "alphas_that_win_somewhere": "α that win at some rate",
    "alphas_that_win_everywhere": "α that win at every rate",
}


def picked(claims: pd.DataFrame, columns: dict[str, str]) -> Rows:
    """Return rows of the columns, by their new names; whole numbers as such, and what was not found as "-"."""
    return [{label: _value(row.get(name)) for name, label in columns.items()} for row in claims.to_dict("records")]


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return "-"
    return int(value) if float(value).is_integer() else float(value)


def changed(claims: pd.DataFrame, columns: dict[str, str]) -> Rows:
    """Return a row for each changed value, the unchanged one first."""
    return picked(claims.assign(changed=changed_labels(claims)), {"changed": "changed", **columns})


def same_risk(runs: list[Run]) -> Rows:
    run = the_only(runs, "convergence")
    return picked(claims_of(run), {"claim": "claim", **COUNTS, **MARGINS})


def same_risk_changed(runs: list[Run]) -> Rows:
    run = the_only(runs, "convergence")
    return changed(claims_of(run, "the same risk sooner"), COUNTS | MARGINS | ALPHAS)


def early(runs: list[Run]) -> Rows:
    """Return Figure 11's rows: at its two choices of alpha and updates, with when the first alpha wins."""
    rows = []
    for run in sorted(runs, key=lambda run: run.config.analysis.updates):
        claims = claims_of(run, "the same risk sooner", "an alpha wins early")
        first = claims["first_win"].max() if "first_win" in claims else None
        claims = claims[(claims["changed"] == "") & (claims["claim"] == "the same risk sooner")]
        columns = {"updates": "updates", "alphas": "α", **COUNTS, **MARGINS, "first": "first win of any α"}
        analysis = run.config.analysis
        alphas = grid_in_words(analysis.alphas)
        rows += picked(claims.assign(updates=analysis.updates, alphas=alphas, first=first), columns)
    return rows


def every_horizon(runs: list[Run]) -> Rows:
    run = the_only(runs, "finite_horizon")
    claims = claims_of(run).assign(case=lambda rows: rows["case"].replace("", "the paper's grid"))
    at_multiples = {f"at_multiples_{name}": f"{name} at multiples of k" for name in COUNTS}
    firsts = {"first_strict_win": "first win", "last_fail": "last fail"}
    edges = {
        f"{name.lower()}_at_the_largest_rate_until": f"{name} at the largest rate until"
        for name in ("SGD", "Lookahead")
    }
    return picked(claims, {"case": "grid", **COUNTS, **at_multiples, **firsts, **MARGINS, **edges})


def every_horizon_changed(runs: list[Run]) -> Rows:
    """Return the counts on the grid, against a finer one for SGD and on a wider range: a row a changed value."""
    run = the_only(runs, "finite_horizon")
    claims = claims_of(run, "Lookahead dominates at every horizon")
    of_case = {
        name: changed(claims[claims["case"].str.endswith(end)], COUNTS)
        for name, end in (("finer", "times finer"), ("wider", "range of learning rates"))
    }
    rows = changed(claims[claims["case"] == ""], COUNTS | {"margin_median": "median margin"})
    for name, others in of_case.items():
        for row, other in zip(rows, others, strict=True):
            row |= {f"{count}, {name}": other[count] for count in COUNTS}
    return rows


def damping(runs: list[Run]) -> Rows:
    """Return a row for each coefficient, spectrum and inner state: up to where Lookahead is better, and by how much."""
    run = the_only(runs, "momentum_rates")
    claims = claims_of(run)
    under = claims[claims["claim"] == "better when under-damped"].set_index("case")
    over = claims[claims["claim"] == "worse when over-damped"].set_index("case")
    under["under"], under["over"] = under["margin_median"], -over["margin_median"]
    columns = {
        "case": "β, spectrum, velocity",
        "critical": "critical condition number",
        "last_crossing": "last crossing seen",
        "crossings": "crossings seen",
        "holds": "holds, under-damped",
        "fails": "fails, under-damped",
        "under": "median margin, under-damped",
        "over": "median margin, over-damped",
    }
    return picked(under.reset_index(), columns)


def diverging(runs: list[Run]) -> Rows:
    run = the_only(runs, "momentum_rates")
    claims = claims_of(run, "Lookahead diverges").copy()
    claims["share_of_rates"] *= 100
    return picked(claims, {"case": "β, velocity", "share_of_rates": "of momentum's stable learning rates (%)"})


def optimizer(runs: list[Run]) -> Rows:
    run = the_only(runs, "optimizer_runs")
    columns = {
        "claim": "claim",
        "case": "velocity",
        "comparisons": "comparisons",
        "largest_score": "largest score (standard errors)",
        "share_above_2": "share above 2",
        "largest_relative_error": "largest relative error",
        "median_relative_error": "median relative error",
    }
    return picked(claims_of(run), columns)
