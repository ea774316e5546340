"""Numbers that were published, the paper's and others', as cells of tables, and ours beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from scripts.reporting.captions import provenance
from scripts.reporting.cells import Number, measured, quoted
from scripts.reporting.classification import NOT_RUN, OVER_SEEDS
from scripts.reporting.markdown import markdown_table, read_text
from scripts.reporting.modules import REPOSITORY
from scripts.reporting.records import Run
from scripts.reporting.series import Series
from scripts.reporting.style import LABELS, TASKS
from scripts.reporting.trained import what_was_trained

NOT_MEASURED = "not measured"
FOLDERS = tuple(REPOSITORY / "results" / folder for folder in ("paper", "independent"))


def path_of(name: str) -> Path:
    """Return the file of that name in results/paper/, where the paper's own numbers are, or results/independent/."""
    found = [folder / f"{name}.yaml" for folder in FOLDERS if (folder / f"{name}.yaml").exists()]
    if len(found) != 1:
        raise ValueError(f"one file {name}.yaml is read, not {len(found)}, of {' and '.join(map(str, FOLDERS))}")
    return found[0]


def published(name: str) -> dict[str, Any]:
    """Return what the file of that name holds: numbers, the metric that they are of, and where they can be read."""
    return OmegaConf.to_container(OmegaConf.create(read_text(path_of(name))))


def where_published(**what: str) -> str:
    """Return the sentences on the files that have numbers, for a page of results/tables/: `what` each has, by name."""
    sentences = []
    for name, numbers in what.items():
        path = path_of(name)
        sentences.append(f"[results/{path.parent.name}](../{path.parent.name}/{path.name}) has {numbers}.")
    return " ".join(sentences)


def cited(numbers: dict[str, Any]) -> str:
    """Return the source of published numbers as a link."""
    return f"[{numbers['source']}]({numbers['address']})"


def published_number(row: dict[str, Any] | None) -> Number:
    """Return a published mean and deviation, starred where one source alone has the mean; an empty cell of none."""
    if row is None:
        return Number()
    deviation = "" if row.get("std") is None else f"{row['std']:.2f}"
    return Number(f"{row['mean']:.2f}", deviation, mark="" if row.get("verified", True) else "*")


def our_heading(runs: Sequence[Run]) -> str:
    """Return what our column is called: it names the scale, unless that is the paper's."""
    scale = runs[0].summary["scale"] if runs else "paper"
    return "here" if scale == "paper" else f"here, at {scale} scale"


def final_number(group: Series | None, metric: str, digits: int = 2) -> Number:
    """Return a final accuracy in percent, perplexity, loss or BLEU of a series, or that it has not been run."""
    return measured(group.final(metric), digits) if group else Number(words=NOT_RUN)


def is_measured(group: Series, metric: str) -> bool:
    """Return whether a run of a series ended with this metric, or all diverged: one that lacks it then is left out."""
    ended = [run for run in group.runs if not run.diverged]
    return not ended or any(metric in run.summary["final"] for run in ended)


def cell(group: Series | None, metric: str, digits: int = 2) -> Number:
    """Return the final value of a series, or that it was not run or not measured."""
    if group is not None and not is_measured(group, metric):
        return Number(words=NOT_MEASURED)
    return final_number(group, metric, digits)


def lead_number(lead: float) -> Number:
    """Return a lead with its sign, positive where Lookahead is better."""
    return Number(f"{lead:+.2f}" if math.isfinite(lead) else "")


def our_cells(group: Series | None, metric: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Return the two cells of a series that stand beside published ones: its final accuracy and its seeds."""
    return {our_heading(runs): final_number(group, metric), "seeds here": seeds_number(group)}


def seeds_number(*groups: Series | None) -> Number:
    """Return how many seeds each of the series that were run has, said once where it is the same."""
    return quoted(" and ".join(dict.fromkeys(str(group.seeds) for group in groups if group)))


def what_our_column_is(runs: Sequence[Run], trained: str | None = None, what: str = OVER_SEEDS) -> str:
    """Return the sentences on our column: `what` it shows, what was trained, how often and where, what compares.

    Of no runs there are none.
    """
    if not runs:
        return ""
    warning = ""
    if runs[0].summary["scale"] != "paper":
        warning = "**Rows of one column compare; columns of different scales do not compare.** "
    return f"{what} {warning}{trained or what_was_trained(runs[0])}; {provenance(runs)}."


def other_networks(*tasks: str) -> str:
    """Return the paragraph, with its table, on SGD, Lookahead and an extension of it as others measured them."""
    others = published("slrla")
    rows = [
        {
            "data set": TASKS[row["task"]],
            "network": row["network"],
            **{LABELS[name]: f"{row[name]:.2f}" for name in ("sgd", "la_sgd")},
            "SLRLA": f"{row['slrla']:.2f}",
        }
        for row in others["rows"]
        if row["task"] in tasks
    ]
    return (
        f"Others have measured SGD, Lookahead and their own extension of it on other networks ({cited(others)}):\n\n"
        f"{markdown_table(rows)}"
    )
