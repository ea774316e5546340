"""Figure 11: one fixed alpha, and only a few updates, on the noisy quadratic, and what it depends on."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.captions import caption, titled
from scripts.reporting.claims import changed_labels, claims_of, draw_shares
from scripts.reporting.draws import Draws
from scripts.reporting.noisy import alpha_bar, draw_convergence, draw_margin, model_in_words, rates_in_words
from scripts.reporting.panels import Panel, draw_not_run
from scripts.reporting.records import Run, analysis_run
from scripts.reporting.style import blank, legend

DRAWS = (Draws("fig11_noisy_convergence"),)
PANELS = (
    Panel("(a)", "final loss", "expected loss after 1000 updates − final loss"),
    Panel("(b)", "final loss", "expected loss after 50 updates − final loss"),
)


FEW = "few_updates"
ANALYSES = ("fixed_alpha", FEW)  # of the panels


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    found = {"fig11_noisy_convergence": figure_11(runs)}
    if FEW in _analyses(runs):
        found["fig11_sensitivity"] = figure_11_sensitivity(runs)
    return found


def _analyses(runs: Sequence[Run]) -> set[str]:
    return {run.config.analysis.name for run in runs}


def figure_11(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """Figure 11: (a) one fixed alpha; (b) after a few updates."""
    there = _analyses(runs)
    # Of neither the error says what is wanted.
    by_name = {name: analysis_run(runs, name) for name in ANALYSES if name in there or not there & set(ANALYSES)}
    figure = blank(11, 5.4)
    figure.suptitle(titled("Figure 11, the noisy quadratic", runs), fontsize=10)
    for axes, name, panel in zip(figure.subplots(1, 2), ANALYSES, PANELS, strict=True):
        if name not in by_name:
            draw_not_run(axes, panel, DRAWS[0].experiment)
            continue
        draw_convergence(axes, by_name[name])
        axes.set_title(panel.title, fontsize=10)
        if name == FEW:
            alpha_bar(figure, axes, by_name[name])
    last = by_name[max(by_name, key=ANALYSES.index)].config
    choice = [f'(b)\'s "only a few updates" are {last.analysis.updates} here.'] if FEW in by_name else []
    caption(figure, f"k = {last.analysis.k}.", *choice, model_in_words(last), rates_in_words(last), runs=runs)
    return figure, pd.concat([claims_of(run) for run in by_name.values()], keys=by_name)


def figure_11_sensitivity(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """From how many updates on an alpha below 1 wins, and whether that depends on what is open."""
    run = analysis_run(runs, FEW)
    figure = blank(14, 5)
    figure.suptitle(titled("What Figure 11 depends on", runs), fontsize=10)
    (left, middle, right) = figure.subplots(1, 3)
    draw_margin(figure, left, run)
    horizons = run.table("horizons")
    middle.plot(
        horizons["updates"],
        100 * horizons["share_of_alphas"],
        label="α below 1 that win at some rate",
    )
    middle.plot(horizons["updates"], 100 * horizons["best_margin"], label="largest margin (of SGD's gap)")
    middle.axhline(0, color="black", linewidth=0.6)
    middle.set(xscale="log", xlabel="updates", ylabel="%")
    middle.set_title("by number of updates", fontsize=10)
    legend(middle, below=True)
    middle.grid(alpha=0.3)
    claims = claims_of(run, "the same risk sooner", "an alpha wins early")
    after, early = (rows.reset_index(drop=True) for _, rows in claims.groupby("claim", sort=False))
    firsts = early["first_win"].map("{:.0f}".format)
    labels = [f"{label}: {first}" for label, first in zip(changed_labels(after), firsts, strict=True)]
    shares = {
        "of the α, at some rate": after["alphas_that_win_somewhere"],
        "of the settings": after["holds"] / after[["holds", "ties", "fails"]].sum(axis="columns"),
    }
    draw_shares(right, labels, shares)
    right.set(xlabel=f"Lookahead's loss is lower after {run.config.analysis.updates} updates (%)")
    legend(right, below=True, ncols=2)
    caption(
        figure,
        "Compared with SGD at exactly the same final loss, at the multiples of k. Right, behind the colon: the "
        "first at which an α below 1 wins.",
        model_in_words(run.config),
        rates_in_words(run.config),
        runs=[run],
    )
    return figure, claims
