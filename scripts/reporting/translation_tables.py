"""What the pages of translation have in common: BLEU beside published numbers, leads, and how far optimizers differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from scripts.reporting.cells import NONE, Number, measured, quoted
from scripts.reporting.claims import Rows
from scripts.reporting.markdown import markdown_table
from scripts.reporting.published import (
    cell,
    cited,
    is_measured,
    lead_number,
    our_heading,
    published,
    seeds_number,
    what_our_column_is,
)
from scripts.reporting.records import Run
from scripts.reporting.series import Series, series, spread
from scripts.reporting.style import TABLE4_LABELS
from scripts.reporting.trained import all_that_was_trained
from scripts.reporting.translation import (
    BLEU,
    INTL,
    LOSSES,
    RUNNING_LOSS,
    SETS,
    WHICH_LOSSES,
    at_the_end,
    rates_in_words,
    signatures,
    which_weights,
)

NOT_READ = "\\*: not read in its source."
SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)  # of a run, at which training losses are compared
Groups = Mapping[str, Series]  # by optimizer
Published = Mapping[str, Mapping[str, Any]]  # rows by optimizer


def by_optimizer(runs: Sequence[Run]) -> dict[str, Series]:
    """Return the series of each optimizer, in the order of Table 4."""
    found = {group.values[0]: group for group in at_the_end(series(runs))}
    return {name: found[name] for name in TABLE4_LABELS if name in found}


def bleu_rows(
    task: str,
    groups: Groups,
    runs: Sequence[Run],
    papers: Published | None = None,
    others: Published | None = None,
) -> Rows:
    """Return one row per optimizer and test set: the paper's BLEU, others', the two measured here, and seeds.

    The columns of the paper and of others, who have a row for some optimizers, are there if their numbers are given.
    """
    heading = our_heading(runs)
    return [
        {
            "optimizer": label,
            "BLEU on": of_split,
            **({"the paper": quoted(papers[name][split])} if papers is not None else {}),
            **{row["name"]: quoted(row[split] if key == name else None) for key, row in (others or {}).items()},
            heading: cell(groups.get(name), BLEU[split]),
            f"{heading}, intl": cell(groups.get(name), INTL[split]),
            "seeds here": seeds_number(groups.get(name)),
        }
        for name, label in TABLE4_LABELS.items()
        for split, of_split in SETS[task].items()
    ]


def what_is_shown(groups: Groups, runs: Sequence[Run]) -> list[str]:
    """Return the paragraphs on our columns: what was trained where, which BLEU, with which rates; none of no runs."""
    if not runs:
        return []
    return [
        what_our_column_is(
            runs, all_that_was_trained(runs), f"Mean ± one standard deviation over seeds. {which_weights(runs)}"
        ),
        signatures(runs),
        f"{rates_in_words(list(groups.values()))} Lookahead is evaluated on its slow weights. "
        "[docs/deviations.md](../../docs/deviations.md) has the readings behind these values.",
    ]


def leads(task: str, groups: Groups, runs: Sequence[Run], papers: Published | None = None) -> str:
    """Return the paragraph, with its table, on the BLEU of all others less Adam's; empty where there is none."""
    if not groups and papers is None:
        return ""
    rows: Rows = []
    for name, label in list(TABLE4_LABELS.items())[1:]:
        for split, of_split in SETS[task].items():
            found: dict[str, Any] = {"optimizer": label, "BLEU on": of_split}
            if papers is not None:
                found["the paper"] = lead_number(float(papers[name][split]) - float(papers["adam"][split]))
            both = [_mean(groups.get(each), BLEU[split]) for each in (name, "adam")]
            rows.append(found | {our_heading(runs): lead_number(both[0] - both[1])})
    return f"By how much BLEU is above Adam's:\n\n{markdown_table(rows)}"


def _mean(group: Series | None, metric: str) -> float:
    return group.final(metric).mean if group is not None and is_measured(group, metric) else math.nan


def differences(task: str, groups: Groups, runs: Sequence[Run], papers: Published | None = None) -> list[str]:
    """Return the paragraph, with its table, on the largest difference between optimizers' means; none of one optimizer.

    The paper says that all converge to similar losses and BLEU.
    """
    rows: Rows = []
    sets = SETS[task]
    wanted = LOSSES | {metric: f"BLEU on {sets[split]}" for split, metric in BLEU.items()}
    splits = {metric: split for split, metric in BLEU.items()}
    for metric, name in wanted.items():
        measured = {TABLE4_LABELS[key]: _mean(group, metric) for key, group in groups.items()}
        digits = 3 if metric in LOSSES else 2
        found: dict[str, str] = {"at the end": name}
        if papers is not None:
            split = splits.get(metric)
            printed = {TABLE4_LABELS[key]: float(row[split]) for key, row in papers.items() if split is not None}
            found["the paper"] = largest_difference(printed, digits)
        rows.append(found | {our_heading(runs): largest_difference(measured, digits)})
    if all(row[our_heading(runs)] == NONE for row in rows):
        return []
    return [
        'Section 5.4: "All the methods converge to similar training loss and BLEU score at the end". The largest '
        f"difference between two optimizers:\n\n{markdown_table(rows)}"
    ]


def largest_difference(values: Mapping[str, float], digits: int) -> str:
    """Return the greatest less the least of the finite values, with their names; "-" of fewer than two."""
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    if len(finite) < 2:
        return NONE
    least, greatest = (pick(finite, key=finite.__getitem__) for pick in (min, max))
    if least == greatest:  # all are equal
        return f"{0:.{digits}f}"
    return (
        f"{finite[greatest] - finite[least]:.{digits}f} ({least}: {finite[least]:.{digits}f}, "
        f"{greatest}: {finite[greatest]:.{digits}f})"
    )


def early(groups: Groups) -> list[str]:
    """Return the paragraph, with its table, on the training loss after shares of the updates; none of one optimizer.

    The paper says that Lookahead is faster early on. Points are those that all runs have; a run that diverged has none.
    """
    curves = {name: group.curve(RUNNING_LOSS, "step") for name, group in groups.items() if not group.diverged}
    if len(curves) < 2:
        return []
    of_all = [set(curve.index[curve["seeds"] == groups[name].seeds]) for name, curve in curves.items()]
    common = sorted(set.intersection(*of_all))
    if not common:
        return []
    steps = list(dict.fromkeys(min(common, key=lambda step: abs(step - share * common[-1])) for share in SHARES))
    least = {step: min(curve["mean"][step] for curve in curves.values()) for step in steps}
    rows: Rows = []
    for name in groups:
        cells = {
            f"{step:,} updates": _loss(groups[name], step, least[step]) if name in curves else "diverged"
            for step in steps
        }
        rows.append({"optimizer": TABLE4_LABELS[name], **cells})
    return [
        "Section 5.4: Lookahead speeds up the early stage of the training over Adam and Adafactor. The training loss, "
        f"the least of a column in bold:\n\n{markdown_table(rows)}\n\n{WHICH_LOSSES}"
    ]


def _loss(group: Series, step: int, least: float) -> Number:
    found = spread(run.history.loc[run.history["step"] == step, RUNNING_LOSS].iloc[-1] for run in group.runs)
    return replace(measured(found, digits=3), bold=found.mean == least)


def anchors(name: str, task: str, introduction: str) -> str:
    """Return the paragraph, with its table, on BLEU that others measured, from results/independent/<name>.yaml."""
    rows = published(name)["rows"]
    table = [
        {
            "model": row["model"],
            "trained": row["trained"],
            **{
                of_split: quoted(row[split], "" if row["verified"] or not row[split] else "*")
                for split, of_split in SETS[task].items()
                if any(split in each for each in rows)
            },
            "BLEU": row["bleu"],
            "source": cited(row),
        }
        for row in rows
    ]
    marked = [NOT_READ] if not all(row["verified"] for row in rows) else []
    return "\n\n".join([introduction, markdown_table(table), *marked])


def rows_by_optimizer(numbers: Mapping[str, Any]) -> Published:
    """Return published rows by their optimizer."""
    return {row["optim"]: row for row in numbers["rows"]}
