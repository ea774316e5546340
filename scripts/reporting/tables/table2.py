"""Table 2: validation accuracy on ImageNet late in the aggressive schedule and at its end; and ResNet-152's (5.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scripts.reporting import imagenet
from scripts.reporting.cells import Number, measured, quoted
from scripts.reporting.claims import Rows
from scripts.reporting.classification import ACCURACY, NOT_RUN, TOP5
from scripts.reporting.markdown import markdown_table
from scripts.reporting.pages import Page, page_of
from scripts.reporting.published import (
    cited,
    lead_number,
    other_networks,
    our_heading,
    published,
    seeds_number,
    what_our_column_is,
    where_published,
)
from scripts.reporting.records import Run
from scripts.reporting.series import Series, Spread, series
from scripts.reporting.style import LABELS
from scripts.reporting.trained import IMAGENET, NAMES, all_that_was_trained, network_name, network_of

DRAWS = imagenet.DRAWS
TOPS = {ACCURACY: "top 1", TOP5: "top 5"}
COMPARED = ("la_sgd", "sgd")  # in the order of the paper's columns
SMALLER = (
    "A smaller network stands for ResNet-50; ResNet-152 has none of its own, and no run counts as one of it. The "
    "epochs here are the same part of the run."
)


def page(runs: Sequence[Run]) -> Page:
    """Return the page: the paper's rows with ours beside them, and how the conventional schedule ends here."""
    paper = published("table2")
    groups = {(stands_for(group), *group.values[1::-1]): group for group in series(runs, by=imagenet.BY)}
    rows = [_row(row, paper["epochs"], groups, runs) for row in paper["rows"]]
    smaller = [SMALLER] if any(network_of(run) not in IMAGENET.networks for run in runs) else []
    return page_of(
        "Table 2: ImageNet, single-crop validation accuracy (%), aggressive schedule",
        rows,
        what_our_column_is(runs, all_that_was_trained(runs), "Mean ± one standard deviation over seeds."),
        " ".join(
            [
                *([imagenet.schedules_in_words(runs)] if runs else []),
                "Lookahead is evaluated on its slow weights.",
                *smaller,
            ]
        ),
        f"The paper: {cited(paper)}. It has no deviations, does not say with how many seeds, and has no numbers of SGD "
        "with ResNet-152.",
        *_conventional(groups),
        other_networks(imagenet.CONVENTIONAL),
        where_published(table2="the paper's numbers", slrla="the others'"),
    )


def stands_for(group: Series) -> str:
    """Return the network of the paper that a series is of: a smaller one stands for the first."""
    network = network_of(group.runs[0])
    return network if network in IMAGENET.networks else IMAGENET.networks[0]


def epoch_here(epoch: int, papers_epochs: int, run: Run) -> int:
    """Return the epoch of a run that is as far in it as the paper's is in its own.

    It is rounded up where the cuts are rounded down: the paper's epochs lie behind the cut at 48.
    """
    return math.ceil(epoch * run.config.epochs / papers_epochs - 1e-3)


def _row(
    row: dict[str, Any], papers_epochs: int, groups: dict[tuple[str, str, str], Series], runs: Sequence[Run]
) -> dict[str, Any]:
    """Return a row of the paper's with what was measured here, and Lookahead's lead over SGD in both."""
    here: dict[str, Spread] = {}
    epochs = []
    for optimizer in COMPARED:
        group = groups.get((row["network"], imagenet.AGGRESSIVE, optimizer))
        if group is not None:
            epochs.append(epoch_here(row["epoch"], papers_epochs, group.runs[0]))
            here[optimizer] = group.after(row["metric"], epochs[-1])
    heading = our_heading(runs)
    other = [str(epoch) for epoch in dict.fromkeys(epochs) if epoch != row["epoch"]]
    published_lead = float(row["la_sgd"]) - float(row["sgd"]) if row["sgd"] else math.nan
    our_lead = here["la_sgd"].mean - here["sgd"].mean if len(here) == len(COMPARED) else math.nan
    return {
        "network": NAMES[row["network"]],
        "epoch": f"{row['epoch']}" + (f" (here {', '.join(other)})" if other else ""),
        "accuracy": TOPS[row["metric"]],
        **{f"{LABELS[name]}, the paper": quoted(row[name]) for name in COMPARED},
        "lead, the paper": lead_number(published_lead),
        **{
            f"{LABELS[name]}, {heading}": measured(here[name]) if name in here else Number(words=NOT_RUN)
            for name in COMPARED
        },
        "lead, here": lead_number(our_lead),
        "seeds here": seeds_number(*(groups.get((row["network"], imagenet.AGGRESSIVE, name)) for name in COMPARED)),
    }


def _conventional(groups: dict[tuple[str, str, str], Series]) -> list[str]:
    """Return the paragraph, with its table, on how the conventional schedule ends here; none without such runs."""
    found = [group for (_, task, _), group in groups.items() if task == imagenet.CONVENTIONAL]
    if not found:
        return []
    rows: Rows = [
        {
            "network": network_name(group.runs[0]),
            "optimizer": imagenet.look(group).label,
            **{name: measured(group.final(metric)) for metric, name in TOPS.items()},
            "seeds": group.seeds,
        }
        for group in imagenet.in_order(found)
    ]
    return [f"How the conventional schedule ends here; the paper has curves of it alone:\n\n{markdown_table(rows)}"]
