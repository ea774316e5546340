"""Table 1: final validation accuracy on CIFAR-10 and CIFAR-100, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.reporting.captions import provenance
from scripts.reporting.cifar import ACCURACY, NOT_RUN, OVER_SEEDS, papers_table, what_was_trained
from scripts.reporting.claims import Rows
from scripts.reporting.draws import Draws
from scripts.reporting.markdown import markdown_table
from scripts.reporting.records import Run
from scripts.reporting.series import series
from scripts.reporting.style import LABELS, OPTIMIZERS, TASKS

DRAWS = (Draws("table1_cifar"),)
METRIC = ACCURACY


def page(runs: Sequence[Run]) -> str:
    """Return the page: the table, what was run, and where the paper's numbers are from."""
    paper = papers_table()
    by_setting = {group.values: group for group in series(runs, by=("task.name", "optim.name"))}
    scale = runs[0].summary["scale"]
    heading = "here" if scale == "paper" else f"here, at {scale} scale"
    rows: Rows = []
    for row in sorted(paper["rows"], key=lambda row: (row["task"], OPTIMIZERS.index(row["optim"]))):
        group = by_setting.get((row["task"], row["optim"]))
        rows.append(
            {
                "data set": TASKS[row["task"]],
                "optimizer": LABELS[row["optim"]],
                "the paper": papers_value(row),
                heading: group.final(METRIC).text(".2f", ".2f") if group else NOT_RUN,
                "seeds here": str(group.seeds) if group else "-",
            }
        )
    if scale == "paper":
        trained = f"Run here: {what_was_trained(runs[0])}"
    else:
        trained = f"**The two columns are of different experiments and do not compare.** {what_was_trained(runs[0])}"
    return "\n\n".join(
        [
            "# Table 1: CIFAR final validation accuracy (%)",
            markdown_table(rows),
            f"{OVER_SEEDS} {trained}; {provenance(runs)}.",
            f"The paper: {paper['seeds']} seeds. \\* {paper['unverified']} [results/paper](../paper/table1.yaml) has "
            "the sources.\n",
        ]
    )


def papers_value(row: dict[str, Any]) -> str:
    """Return the paper's mean ± deviation, starred where one source alone has the mean."""
    return f"{row['mean']:.2f} ± {row['std']:.2f}" + ("" if row["verified"] else " \\*")
