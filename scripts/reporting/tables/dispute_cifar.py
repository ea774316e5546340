"""The published failure to reproduce Table 1: Lookahead around SGD with and without momentum and weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from scripts.reporting.captions import provenance
from scripts.reporting.cifar import ACCURACY, NOT_RUN, papers_table, what_was_trained
from scripts.reporting.claims import Rows
from scripts.reporting.draws import Draws
from scripts.reporting.markdown import markdown_table, read_text
from scripts.reporting.modules import REPOSITORY
from scripts.reporting.records import Run
from scripts.reporting.series import Series, series
from scripts.reporting.style import TASKS

DRAWS = (Draws("dispute_plain_inner_sgd"), Draws("table1_cifar", optim=["la_sgd", "sgd"]))
REPRODUCTION = REPOSITORY / "results" / "paper" / "reproduction.yaml"
BY = ("task.name", "optim.name", "optim.momentum", "optim.weight_decay")
SETTINGS = {
    "plain": "Lookahead, inner SGD without momentum and weight decay",
    "la_sgd": "Lookahead, as in the paper",
    "sgd": "SGD",
}


def page(runs: Sequence[Run]) -> str:
    """Return the page: for each data set three settings, the paper's accuracy, the reproduction's and ours."""
    groups = {(group.values[0], kind_of(group)): group for group in series(runs, by=BY)}
    paper = {(row["task"], row["optim"]): row for row in papers_table()["rows"]}
    reproduction = {(row["task"], row["setting"]): row for row in reproductions()["rows"]}
    scale = runs[0].summary["scale"]
    rows: Rows = []
    for task in ("cifar10", "cifar100"):
        for setting, name in SETTINGS.items():
            group = groups.get((task, setting))
            rows.append(
                {
                    "data set": TASKS[task],
                    "setting": name,
                    "the paper": _number(paper.get((task, setting))),
                    "the reproduction": _number(reproduction.get((task, setting))),
                    "here" if scale == "paper" else f"here, at {scale} scale": (
                        group.final(ACCURACY).text(".2f", ".2f") if group else NOT_RUN
                    ),
                    "seeds here": str(group.seeds) if group else "-",
                }
            )
    return "\n\n".join(
        [
            "# A published failure to reproduce Table 1: CIFAR final validation accuracy (%)",
            markdown_table(rows),
            "A student reproduction of 2020 has Lookahead two and five points below the paper, and its baselines as in "
            "the paper. In its code the inner optimizer is SGD with neither momentum nor weight decay, while SGD "
            "itself has both: the first row is that setting.",
            f"Here: mean ± one standard deviation over seeds, at the last epoch. {what_was_trained(runs[0])}; "
            f"{provenance(runs)}."
            + ("" if scale == "paper" else " **Columns of different scales do not compare; rows of one column do.**"),
            "[results/paper](../paper/reproduction.yaml) has the reproduction's numbers and their source.\n",
        ]
    )


def reproductions(path: Path = REPRODUCTION) -> dict[str, Any]:
    """Return what the reproduction measured, with its source."""
    return OmegaConf.to_container(OmegaConf.create(read_text(path)))


def kind_of(group: Series) -> str:
    """Return which of the settings a series is."""
    _, name, momentum, _ = group.values
    return "plain" if name == "la_sgd" and momentum == 0 else name


def _number(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{row['mean']:.2f}" + (f" ± {row['std']:.2f}" if row.get("std") is not None else "")
