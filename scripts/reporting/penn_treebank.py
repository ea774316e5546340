"""What the figure and tables of Penn Treebank share: names, perplexities, Lookahead's lead, and what captions say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from lookahead import NonMonotonicASGD
from scripts.reporting.curves import Look
from scripts.reporting.published import is_measured
from scripts.reporting.records import Run, precision_of
from scripts.reporting.series import Series
from scripts.reporting.style import COLORS, TABLE3_LABELS
from scripts.reporting.trained import SPLITS

PERPLEXITY = {split: f"{split}/original_perplexity" for split in SPLITS}  # what is compared with the paper's
RUNNING_LOSS, RUNNING_PERPLEXITY, BEST_EPOCH = "train/running_loss", "train/running_perplexity", "best/epoch"
AT_THE_BEST = "Mean ± one standard deviation over seeds, of the weights that are best on validation."
AS_THE_ORIGINAL = (
    "Perplexity as the code of AWD-LSTM, which the paper used, has it: a little below the exact one, as it divides the "
    "losses of all rows of a split but the first by the number of all."
)
WITHOUT_DROPOUT = (
    "Training perplexity is of a pass over the text without dropout; the paper does not say whether its own is."
)
ON_SLOW_WEIGHTS = "Lookahead is evaluated on its slow weights."
LAYERS_IN_BF16 = "In bf16 the LSTM layers are in float32 with TF32's products."
UNSAID = "which learning rates it chose"  # by the paper
WORKED_BEST = "Of k and α the paper says only that 5 or 10, and 0.5 or 0.8, worked best"  # C.3
LINES = {"nt_asgd": "--"}  # which is SGD's own curve until its averaging is triggered


def look(group: Series) -> Look:
    """Return the look of a series whose first value is its optimizer, as Table 3 calls it."""
    name = group.values[0]
    return Look(TABLE3_LABELS[name], COLORS[name], LINES.get(name, "-"))


def missing(groups: Sequence[Series]) -> list[str]:
    """Return what Table 3 has and was not run."""
    drawn = {group.values[0] for group in groups}
    return [label for name, label in TABLE3_LABELS.items() if name not in drawn]


def values_in_words(groups: Sequence[Series]) -> str:
    """Return the sentence, with a space behind it, on the rate, k and alpha of each optimizer; nothing of none."""
    each = "; ".join(f"{look(group).label} at a rate of {_values_in_words(group.runs[0])}" for group in groups)
    return f"Here: {each}. " if each else ""


def _values_in_words(run: Run) -> str:
    optim = run.config.optim
    return f"{optim.lr:g}" + (f" with k = {optim.k} and α = {optim.alpha:g}" if "lookahead" in optim else "")


def what_is_shown(runs: Sequence[Run]) -> list[str]:
    """Return the sentences on what perplexity a table has, of which weights and in which precision of the layers."""
    return [AT_THE_BEST, AS_THE_ORIGINAL, WITHOUT_DROPOUT, *precision_in_words(runs)]


def precision_in_words(runs: Sequence[Run]) -> list[str]:
    """Return the sentence on the precision of the LSTM layers, where the runs' is another."""
    return [LAYERS_IN_BF16] if any(precision_of(run.config) == "bf16" for run in runs) else []


def averaging_in_words(groups: Sequence[Series]) -> list[str]:
    """Return the sentence on Polyak: in how many seeds the weights that were kept are an average, if it was run."""
    found = [run for group in groups if group.values[0] == "nt_asgd" for run in group.runs if not run.diverged]
    if not found:
        return []
    averaged = sum(map(_is_averaged, found))
    text = (
        "Polyak is SGD until its averaging is triggered. Averaging had begun at the kept weights in "
        f"{averaged} of {len(found)} seeds"
    )
    return [f"{text}; those of the others are SGD's own." if averaged < len(found) else f"{text}."]


def _is_averaged(run: Run) -> bool:
    """Return whether the kept weights are an average: as the summary has it, or, where it has not, by the trigger."""
    kept = _kept(run)
    if "weights" in kept:
        return kept["weights"] == "averaged"
    average = NonMonotonicASGD(nn.Linear(1, 1), run.config.average.n)
    metric = run.config.average.metric
    rows = run.columns("step", metric)
    for loss in rows.loc[rows["step"] < kept["step"], metric]:
        average.observe(float(loss))
    return average.triggered


def _kept(run: Run) -> Mapping[str, Any]:
    return run.summary.get("kept", {"step": run.summary["steps"]})


def lead_here(inner: Series | None, around: Series | None, metric: str) -> float:
    """Return by how much Lookahead's mean perplexity is below its inner optimizer's; nan where one of them has none."""
    if any(group is None or not is_measured(group, metric) for group in (inner, around)):
        return math.nan
    return inner.final(metric).mean - around.final(metric).mean


def published_lead(inner: Mapping[str, Any] | None, around: Mapping[str, Any] | None, split: str) -> float:
    """Return the same of two published rows; nan also where their learning rates differ."""
    if not inner or not around or inner.get("lr") != around.get("lr"):
        return math.nan
    return float(inner[split]) - float(around[split])


def at_the_best(group: Series) -> Series:
    """Return the same runs, whose final metrics have the epoch of the weights and its running perplexity besides."""
    return Series(group.values, [run if run.diverged else _at_the_best(run) for run in group.runs])


def _at_the_best(run: Run) -> Run:
    rows = run.columns("epoch", "step", RUNNING_LOSS)
    row = rows[rows["step"] == _kept(run)["step"]].iloc[-1]
    more = {BEST_EPOCH: float(row["epoch"]), RUNNING_PERPLEXITY: math.exp(row[RUNNING_LOSS])}
    return replace(run, summary=run.summary | {"final": run.summary["final"] | more})
