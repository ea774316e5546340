"""The paper's claims on quadratics as a record holds them: where each holds, ties and fails; as rows and as dots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from scripts.reporting.records import Run

Rows = list[dict[str, Any]]
ROUNDING = 1e-9
COUNTS = {name: name for name in ("holds", "ties", "fails")}
MARGINS = {f"margin_{name}": f"{name} margin" for name in ("min", "median", "max")}
ENDS = {
    "margin_at_lowest": "margin at the lowest final loss",
    "margin_median": "median margin",
    "margin_at_highest": "margin at the highest",
    "margin_min": "min margin",
}
ALPHAS = {
    "alphas_that_win_somewhere": "α that win at some rate",
    "alphas_that_win_everywhere": "α that win at every rate",
}


def claims_of(run: Run, *names: str) -> pd.DataFrame:
    """Return the claims of a record in a readable form: one row per claim, without columns that none of them has."""
    claims = run.table("claims")
    claims = claims[claims["claim"].isin(names)] if names else claims[claims["changed"] == ""]
    return claims.dropna(axis="columns", how="all").reset_index(drop=True)


def changed_labels(claims: pd.DataFrame) -> list[str]:
    return [changed.removeprefix("analysis.").removeprefix("model.") or "as drawn" for changed in claims["changed"]]


def draw_shares(axes: Axes, labels: list[str], shares: dict[str, pd.Series]) -> None:
    """Draw one row of dots per changed value, the unchanged one on top."""
    rows = np.arange(len(labels))
    for marker, size, (name, values) in zip("osD", (9, 6, 4), shares.items(), strict=False):  # none hides another
        axes.plot(100 * np.asarray(values), rows, marker, label=name, markersize=size, alpha=0.8)
    axes.set(yticks=rows, yticklabels=labels, xlim=(-3, 103))
    axes.set_title("with one value changed", fontsize=10)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(alpha=0.3)


def claims_with(run: Run, part: str, changed: bool = False) -> pd.DataFrame:
    """Return the claims whose words have a part in them; those with one value changed too, or the drawn setting's."""
    claims = run.table("claims")
    which = claims["claim"].str.contains(part, regex=False) & (changed | (claims["changed"] == ""))
    return claims[which].dropna(axis="columns", how="all").reset_index(drop=True)


def verdict_in_words(row: Mapping[str, Any]) -> str:
    """Return holds/ties/fails and the median margin of a claim in one cell; a margin that is rounding is 0."""
    margin = row["margin_median"] if abs(row["margin_median"]) > ROUNDING else 0
    return f"{row['holds']:.0f}/{row['ties']:.0f}/{row['fails']:.0f}, {margin:.3g}"


def picked(claims: pd.DataFrame, columns: dict[str, str]) -> Rows:
    """Return rows of the columns, by their new names, in a readable form."""
    return [{label: readable(row.get(name)) for name, label in columns.items()} for row in claims.to_dict("records")]


def readable(value: Any) -> Any:
    """Return a value of a table as it is read best: a whole number as such, and what was not found as "-"."""
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return "-"
    return int(value) if float(value).is_integer() else float(value)


def changed(claims: pd.DataFrame, columns: dict[str, str]) -> Rows:
    """Return one row per changed value, the unchanged one first."""
    return picked(claims.assign(changed=changed_labels(claims)), {"changed": "changed", **columns})
