"""Adam and Lookahead around it on Penn Treebank at three rates: does Lookahead only rescue a rate that is too high?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reporting import penn_treebank
from scripts.reporting.cells import quoted
from scripts.reporting.draws import Draws
from scripts.reporting.pages import Page, page_of
from scripts.reporting.penn_treebank import PERPLEXITY, SPLITS, lead_here, published_lead
from scripts.reporting.published import (
    cell,
    cited,
    lead_number,
    our_heading,
    published,
    seeds_number,
    what_our_column_is,
    where_published,
)
from scripts.reporting.records import Run
from scripts.reporting.series import Series, series
from scripts.reporting.style import TABLE3_LABELS
from scripts.reporting.trained import all_that_was_trained

DRAWS = (Draws("dispute_ptb_adam_rate"),)
RATES = (0.001, 0.005, 0.01)
COMPARED = ("adam", "la_adam")
Groups = Mapping[tuple[str, float], Series]  # by optimizer and rate


def page(runs: Sequence[Run]) -> Page:
    """Return the page: for each rate both optimizers in the reproduction and here, and both at their best rates."""
    paper, reproduction = published("table3"), published("reproduction_ptb")
    others = {(row["optim"], row["lr"]): row for row in reproduction["rows"]}
    groups = {group.values: group for group in series(runs, by=("optim.name", "optim.lr"))}
    adam, around = ({row["optim"]: row for row in paper["rows"]}[name] for name in COMPARED)
    what = " ".join(penn_treebank.what_is_shown(runs))
    return page_of(
        "Lookahead around Adam at three learning rates: perplexity on Penn Treebank",
        [_row(rate, split, others, groups, runs) for rate in RATES for split in SPLITS],
        f"A reproduction of Table 3 ({cited(reproduction)}) reads its numbers so: Lookahead rescues a rate that is too "
        "high, and adds nothing at the best one. Its runs are of 350 epochs mostly, with k = 10, and α = 0.8 at a rate "
        f"of 0.005 and 0.5 at 0.01. The paper ({cited(paper)}), which does not say which rates it chose, has "
        f"{adam['val']} and {around['val']} on validation, {adam['test']} and {around['test']} on test, in 750 epochs.",
        *_at_the_best_rates(groups),
        what_our_column_is(runs, all_that_was_trained(runs), what),
        f"{penn_treebank.ON_SLOW_WEIGHTS} Lead: by how much its mean perplexity is below Adam's. "
        f"{penn_treebank.values_in_words(list(groups.values()))}".strip(),
        where_published(reproduction_ptb="the reproduction's numbers and their source"),
    )


def _row(
    rate: float, split: str, others: Mapping[tuple[str, float], Any], groups: Groups, runs: Sequence[Run]
) -> dict[str, Any]:
    published_rows = [others.get((name, rate)) for name in COMPARED]
    measured = [groups.get((name, rate)) for name in COMPARED]
    labels = [TABLE3_LABELS[name] for name in COMPARED]
    return {
        "learning rate": f"{rate:g}",
        "perplexity": SPLITS[split],
        **{
            f"{label}, the reproduction": quoted(row[split] if row else None)
            for label, row in zip(labels, published_rows, strict=True)
        },
        "lead, the reproduction": lead_number(published_lead(*published_rows, split)),
        **{
            f"{label}, {our_heading(runs)}": cell(group, PERPLEXITY[split])
            for label, group in zip(labels, measured, strict=True)
        },
        "lead, here": lead_number(lead_here(*measured, PERPLEXITY[split])),
        "seeds here": seeds_number(*measured),
    }


def _at_the_best_rates(groups: Groups) -> list[str]:
    """Return the sentence on both optimizers, each at the rate that is best on validation; none without a choice."""
    best, ends = [], []
    for name in COMPARED:
        means = {rate: groups[name, rate].final(PERPLEXITY["val"]).mean for rate in RATES if (name, rate) in groups}
        finite = [rate for rate, mean in means.items() if math.isfinite(mean)]
        if len(finite) < 2:
            return []
        rate = min(finite, key=means.__getitem__)
        best.append((name, rate, len(means)))
        if rate in (min(means), max(means)):
            ends.append(f"{TABLE3_LABELS[name]} is best at the {'least' if rate == min(means) else 'greatest'}")
    each = " and ".join(f"{TABLE3_LABELS[name]}'s {rate:g} of {count}" for name, rate, count in best)
    adam, around = (groups[name, rate] for name, rate, _ in best)
    leads = ", ".join(
        f"{lead_number(lead_here(adam, around, PERPLEXITY[split]))} on {split_name}"
        for split, split_name in (("val", "validation"), ("test", "test"))
    )
    found = [f"Each at the rate that is best on validation here ({each}), Lookahead leads by {leads}."]
    if ends:
        found.append(
            f"{' and '.join(ends)} of the rates that were run: another may do better, and the question is not answered."
        )
    return [" ".join(found)]
