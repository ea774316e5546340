"""Numbers that were published, from results/paper/: the paper's and others', as text, and ours beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from scripts.reporting.captions import provenance
from scripts.reporting.classification import NOT_RUN, OVER_SEEDS
from scripts.reporting.markdown import markdown_table, read_text
from scripts.reporting.modules import REPOSITORY
from scripts.reporting.records import Run
from scripts.reporting.series import Series
from scripts.reporting.style import LABELS, TASKS
from scripts.reporting.trained import what_was_trained

NONE, NOT_MEASURED = "-", "not measured"


def published(name: str) -> dict[str, Any]:
    """Return what results/paper/<name>.yaml holds: numbers, the metric that they are of, and where they can be read."""
    text = read_text(REPOSITORY / "results" / "paper" / f"{name}.yaml")
    return OmegaConf.to_container(OmegaConf.create(text))


def cited(numbers: dict[str, Any]) -> str:
    """Return the source of published numbers as a link."""
    return f"[{numbers['source']}]({numbers['address']})"


def value_text(row: dict[str, Any] | None) -> str:
    """Return a published mean ± deviation, starred where one source alone has the mean; "-" of none."""
    if row is None:
        return NONE
    deviation = "" if row.get("std") is None else f" ± {row['std']:.2f}"
    return f"{row['mean']:.2f}{deviation}" + ("" if row.get("verified", True) else " \\*")


def our_heading(runs: Sequence[Run]) -> str:
    """Return what our column is called: it names the scale, unless that is the paper's."""
    scale = runs[0].summary["scale"]
    return "here" if scale == "paper" else f"here, at {scale} scale"


def final_text(group: Series | None, metric: str, digits: int = 2) -> str:
    """Return a final accuracy in percent, perplexity, loss or BLEU of a series, or that it has not been run."""
    return group.final(metric).text(f".{digits}f", f".{digits}f") if group else NOT_RUN


def is_measured(group: Series, metric: str) -> bool:
    """Return whether all runs of a series that did not diverge ended with this metric."""
    return all(metric in run.summary["final"] for run in group.runs if not run.diverged)


def cell(group: Series | None, metric: str, digits: int = 2) -> str:
    """Return the final value of a series as text, or that it was not run or not measured."""
    return NOT_MEASURED if group is not None and not is_measured(group, metric) else final_text(group, metric, digits)


def lead_text(lead: float) -> str:
    """Return a lead with its sign, positive where Lookahead is better."""
    return f"{lead:+.2f}" if math.isfinite(lead) else NONE


def our_cells(group: Series | None, metric: str, runs: Sequence[Run]) -> dict[str, str]:
    """Return the two cells of a series that stand beside published ones: its final accuracy and its seeds."""
    return {
        our_heading(runs): final_text(group, metric),
        "seeds here": str(group.seeds) if group else NONE,
    }


def what_our_column_is(runs: Sequence[Run], trained: str | None = None, what: str = OVER_SEEDS) -> str:
    """Return the sentences on our column: `what` it shows, what was trained, how often and where, what compares."""
    warning = ""
    if runs[0].summary["scale"] != "paper":
        warning = "**Rows of one column compare; columns of different scales do not compare.** "
    return f"{what} {warning}{trained or what_was_trained(runs[0])}; {provenance(runs)}."


def page_of(title: str, rows: Sequence[dict[str, Any]], *paragraphs: str) -> str:
    """Return a page: its title, a table, and what is said below it."""
    return "\n\n".join([f"# {title}", markdown_table(rows), *paragraphs]) + "\n"


def other_networks(*tasks: str) -> str:
    """Return the paragraph, with its table, on SGD and Lookahead as others measured them on other networks."""
    others = published("slrla")
    rows = [
        {
            "data set": TASKS[row["task"]],
            "network": row["network"],
            **{LABELS[name]: f"{row[name]:.2f}" for name in ("sgd", "la_sgd")},
        }
        for row in others["rows"]
        if row["task"] in tasks
    ]
    return f"Others have measured SGD and Lookahead on other networks ({cited(others)}):\n\n{markdown_table(rows)}"
