"""What the figures and tables of translation share: names, metrics, the learning rate in words, and the figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.captions import conclude
from scripts.reporting.curves import Look, draw_falling
from scripts.reporting.draws import value_of
from scripts.reporting.panels import Panel
from scripts.reporting.published import is_measured
from scripts.reporting.records import Run
from scripts.reporting.series import Series, final_table, is_recorded, series
from scripts.reporting.style import COLORS, TABLE4_LABELS, blank, legend
from scripts.reporting.trained import all_that_was_trained

RUNNING_LOSS, VALIDATION_LOSS = "train/running_loss", "val/loss"
LOSSES = {RUNNING_LOSS: "training loss", VALIDATION_LOSS: "validation loss"}
LOSS_PANELS = tuple(Panel("", "updates", name) for name in LOSSES.values())
BLEU = {"val": "val/bleu", "test": "test/bleu"}  # sacreBLEU's, with its tokenization 13a
INTL = {split: f"{metric}_intl" for split, metric in BLEU.items()}  # with that of mteval-v14
SETS = {
    "wmt14": {"val": "newstest2013", "test": "newstest2014"},
    "multi30k": {"val": "validation", "test": "test_2016_flickr"},
}
WHICH_LOSSES = (
    "The training loss is the mean of the updates since the point before, at the weights as they are trained "
    "(Lookahead's fast ones), with dropout and smoothed labels, less its least possible value, as tensor2tensor has "
    "it; the paper does not say. The validation loss is without dropout and smoothing; both are in nats per subword."
)
STAND_IN = (
    "A stand-in on data that the paper does not have, for machines on which WMT14 is too much: "
    "nothing of it is a result of the paper"
)
BEST_WEIGHTS = "BLEU is that of the weights that are best on validation; losses are those at the end."
LAST_WEIGHTS = "BLEU is that of the last weights: no checkpoints are averaged."
LINES = {"la_adam_no_warmup": "--", "adafactor": "-."}


def look(group: Series) -> Look:
    """Return the look of a series whose first value is its optimizer, as Table 4 calls it."""
    name = group.values[0]
    return Look(TABLE4_LABELS[name], COLORS[name], LINES.get(name, "-"))


def missing(groups: Sequence[Series]) -> list[str]:
    """Return what Table 4 has and was not run."""
    drawn = {group.values[0] for group in groups}
    return [label for name, label in TABLE4_LABELS.items() if name not in drawn]


def at_the_end(groups: Sequence[Series]) -> list[Series]:
    """Return the same runs, whose final metrics have the losses of their last row, whichever weights were kept."""
    return [Series(group.values, [run if run.diverged else _at_the_end(run) for run in group.runs]) for group in groups]


def _at_the_end(run: Run) -> Run:
    row = run.history.iloc[-1]
    losses = {column: float(row[column]) for column in LOSSES if column in row.index}
    return replace(run, summary=run.summary | {"final": run.summary["final"] | losses})


def which_weights(runs: Sequence[Run]) -> str:
    """Return the sentence on the weights whose BLEU is shown: the last ones, or those that were kept as the best."""
    return BEST_WEIGHTS if value_of(runs[0].config, "keep") else LAST_WEIGHTS


def greatest_rate(run: Run) -> float:
    """Return the greatest rate of the inverse square root schedule: that of the end of its warm-up, or of its start."""
    schedule = run.config.schedule
    return constant(run) / math.sqrt(schedule.warmup * (schedule.hidden_size or 1))


def constant(run: Run) -> float:
    """Return the constant of a run's schedule."""
    return run.config.optim.lr * (value_of(run.config, "schedule.multiplier") or 1)


def rates_in_words(groups: Sequence[Series]) -> str:
    """Return the sentences on each optimizer's constant, warm-up and greatest rate, and on k and alpha."""
    each = "; ".join(f"{look(group).label} {_rate_in_words(group.runs[0])}" for group in groups)
    return f"{each}. Then the rate falls with the inverse square root of the updates."


def _rate_in_words(run: Run) -> str:
    optim, schedule = run.config.optim, run.config.schedule
    over = f" over √{schedule.hidden_size}" if schedule.hidden_size else ""
    updates = f"{round(schedule.warmup * (value_of(schedule, 'time') or 1)):,} updates"
    rate = f"a rate of {greatest_rate(run):.3g}" + (
        " relative to each parameter's size" if optim.name == "adafactor" else ""
    )
    words = f"with a constant of {constant(run):g}{over}: " + (
        f"up to {rate} in {updates}" if schedule.linear_warmup else f"{rate} for {updates}"
    )
    return words + (f", k = {optim.k}, α = {optim.alpha:g}" if "lookahead" in optim else "")


def signatures(runs: Sequence[Run]) -> str:
    """Return the sentences on BLEU, with sacreBLEU's signatures as the runs recorded them."""
    found = [
        " and ".join(
            dict.fromkeys(f"`{run.summary['data'][key]}`" for run in runs if key in run.summary.get("data", {}))
        )
        for key in ("signature of bleu", "signature of bleu_intl")
    ]
    usual, intl = (f" ({text})" if text else "" for text in found)
    return (
        f"BLEU is sacreBLEU's of whole, detokenized sentences with their case: with its usual tokenization{usual}, "
        f"and, as intl, with that of mteval-v14, which tensor2tensor's own has{intl}. The paper does not say which its "
        "own is."
    )


def loss_figure(runs: Sequence[Run], title: str, sentences: Sequence[str] = ()) -> tuple[Figure, pd.DataFrame]:
    """Return one panel per loss, over updates, one curve per optimizer; and the final losses and BLEU.

    `sentences` begin the caption.
    """
    groups = at_the_end(series(runs))
    columns = [column for column in LOSSES if is_recorded(groups, column)]
    figure = blank(4.5 * len(columns) + 2.5, 4.2)
    for axes, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        draw_falling(axes, groups, column, LOSSES[column], look, over="step")
    legend(axes)
    caption = [*sentences, f"{all_that_was_trained(runs)}.", WHICH_LOSSES, rates_in_words(groups)]
    conclude(figure, title, groups, missing(groups), caption)
    sets = SETS[runs[0].config.task.name]
    metrics = LOSSES | {metric: f"BLEU, {sets[split]}" for split, metric in BLEU.items()}
    measured = {key: name for key, name in metrics.items() if all(is_measured(group, key) for group in groups)}
    return figure, final_table(groups, measured, [look(group).label for group in groups])
