"""Table 3: perplexity on Penn Treebank, beside the paper's numbers and independent ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reporting import penn_treebank
from scripts.reporting.cells import measured, quoted
from scripts.reporting.claims import Rows
from scripts.reporting.draws import Draws
from scripts.reporting.markdown import markdown_table
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

DRAWS = (Draws("table3_ptb"),)
INNER = {"sgd": "la_sgd", "adam": "la_adam"}
Published = Mapping[str, dict[str, Any]]  # rows by optimizer


def page(runs: Sequence[Run]) -> Page:
    """Return the page: the table, Lookahead's leads, what else was measured, and where the numbers are from."""
    paper, reproduction, code = published("table3"), published("reproduction_ptb"), published("awd_lstm")
    groups = {group.values[0]: group for group in series(runs)}
    papers = {row["optim"]: row for row in paper["rows"]}
    others = _at_our_rates(reproduction["rows"], groups)
    what = " ".join(penn_treebank.what_is_shown(runs))
    (readme,) = code["rows"]
    return page_of(
        "Table 3: perplexity on Penn Treebank",
        _rows(papers, others, {readme["optim"]: readme}, groups, runs),
        what_our_column_is(runs, all_that_was_trained(runs), what),
        f"{penn_treebank.values_in_words(list(groups.values()))}The paper has the grids that it searched, and "
        f"not {penn_treebank.UNSAID}. {penn_treebank.WORKED_BEST}.",
        " ".join([penn_treebank.ON_SLOW_WEIGHTS, *penn_treebank.averaging_in_words(list(groups.values()))]),
        "By how much Lookahead's mean is below that of its inner optimizer:\n\n"
        + markdown_table(_leads(papers, others, groups, runs)),
        *_besides(groups),
        f"The paper: {cited(paper)}. It has no deviations, does not say with how many seeds, and has no training "
        f"perplexity of Polyak. Rounded, that row is {readme['val']} and {readme['test']}, which {cited(code)} has "
        f"{code['how']}: it may be taken from there.",
        f"The reproduction: {cited(reproduction)}, with code of its own, whose perplexities may be exact ones, and "
        "350 epochs mostly; its Lookahead is with k = 10 and α = 0.8. It has other rates of Adam too "
        "(`make dispute_ptb`).",
        where_published(
            table3="the paper's numbers", reproduction_ptb="the reproduction's", awd_lstm="those of AWD-LSTM's code"
        ),
    )


def _at_our_rates(rows: Sequence[dict[str, Any]], groups: Mapping[str, Series]) -> Published:
    """Return the reproduction's row of each optimizer at the rate that was run here, or its first one if none was."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row["optim"]
        if name not in groups or row["lr"] == groups[name].runs[0].config.optim.lr:
            found.setdefault(name, row)
    return found


def _rows(
    papers: Published, others: Published, code: Published, groups: Mapping[str, Series], runs: Sequence[Run]
) -> Rows:
    return [
        {
            "optimizer": TABLE3_LABELS[name],
            "perplexity": of_split,
            "the paper": quoted(row[split]),
            "the reproduction": quoted(others.get(name, {}).get(split)),
            "AWD-LSTM's code": quoted(code.get(name, {}).get(split)),
            our_heading(runs): cell(groups.get(name), PERPLEXITY[split]),
            "seeds here": seeds_number(groups.get(name)),
        }
        for name, row in papers.items()
        for split, of_split in SPLITS.items()
    ]


def _leads(papers: Published, others: Published, groups: Mapping[str, Series], runs: Sequence[Run]) -> Rows:
    return [
        {
            "inner optimizer": TABLE3_LABELS[inner],
            "perplexity": of_split,
            "the paper": lead_number(published_lead(papers[inner], papers[around], split)),
            "the reproduction": lead_number(published_lead(others.get(inner), others.get(around), split)),
            our_heading(runs): lead_number(lead_here(groups.get(inner), groups.get(around), PERPLEXITY[split])),
        }
        for inner, around in INNER.items()
        for split, of_split in SPLITS.items()
    ]


def _besides(groups: Mapping[str, Series]) -> list[str]:
    """Return the paragraph, with its table, on what a run records besides: best epoch, dropout on, exact values."""
    rows: Rows = []
    if not groups:
        return []
    for name, group in groups.items():
        found = penn_treebank.at_the_best(group)
        rows.append(
            {
                "optimizer": TABLE3_LABELS[name],
                "best epoch": measured(found.final(penn_treebank.BEST_EPOCH), digits=0),
                "training, with dropout": cell(found, penn_treebank.RUNNING_PERPLEXITY),
                **{f"{of_split}, exact": cell(found, f"{split}/perplexity") for split, of_split in SPLITS.items()},
            }
        )
    return [
        "Besides: the epoch of the weights that are best on validation, the running perplexity of that epoch, which is "
        f"that of the weights as they are trained, with dropout, and the exact perplexities:\n\n{markdown_table(rows)}"
    ]
