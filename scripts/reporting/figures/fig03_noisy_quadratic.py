"""Figure 3: SGD and Lookahead on the noisy quadratic at the same final loss, and what it depends on."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.captions import caption, grid_in_words, titled
from scripts.reporting.claims import changed_labels, claims_of, draw_shares
from scripts.reporting.draws import Draws
from scripts.reporting.noisy import alpha_bar, draw_convergence, draw_margin, model_in_words, rates_in_words
from scripts.reporting.panels import Panel
from scripts.reporting.records import Run, analysis_run
from scripts.reporting.style import blank, legend

DRAWS = (Draws("fig03_noisy_quadratic"),)
PANELS = (Panel("", "final loss", "expected loss after 1000 updates − final loss"),)


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    return {"fig03_noisy_quadratic": figure_3(runs), "fig03_sensitivity": figure_3_sensitivity(runs)}


def figure_3(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """Figure 3: each vertical slice compares settings of the same final loss."""
    run = analysis_run(runs, "convergence")
    figure = blank(6.4, 5.8)
    figure.suptitle(titled("Figure 3, the noisy quadratic", [run]), fontsize=10)
    axes = figure.subplots()
    draw_convergence(axes, run)
    alpha_bar(figure, axes, run)
    analysis = run.config.analysis
    axes.set_title(f"SGD and Lookahead (k = {analysis.k}) on the noisy quadratic", fontsize=10)
    setting = f"Expected losses in closed form; α: {grid_in_words(analysis.alphas)}; α = 1 is SGD."
    where = "Small α are at the left edge, and apart in fig03_sensitivity."
    caption(figure, setting, model_in_words(run.config), rates_in_words(run.config), where, runs=runs)
    return figure, claims_of(run)


def figure_3_sensitivity(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """Where Lookahead's loss is lower at exactly equal final loss, and whether that depends on what is open."""
    run = analysis_run(runs, "convergence")
    figure = blank(16, 5.4)
    figure.suptitle(titled("What Figure 3 depends on", [run]), fontsize=10)
    (left, middle, right) = figure.subplots(1, 3)
    draw_convergence(left, run, excess=True)
    left.set_title("Figure 3 without the irreducible loss", fontsize=10)
    alpha_bar(figure, left, run)
    draw_margin(figure, middle, run)
    claims = claims_of(run, "the same risk sooner")
    cells = claims[["holds", "ties", "fails"]].sum(axis="columns")
    shares = {
        "of the settings": claims["holds"] / cells,
        "of the α, at some rate": claims["alphas_that_win_somewhere"],
        "of the α, at every rate": claims["alphas_that_win_everywhere"],
    }
    draw_shares(right, changed_labels(claims), shares)
    right.set_xlabel("Lookahead's loss is lower (%)")
    legend(right, below=True, ncols=2, fontsize=7)
    caption(
        figure,
        "SGD has the learning rate at which its final loss is exactly that of Lookahead, α below 1.",
        "Where theta_0 is so near that the loss rises to its final value, the slower has the lower loss.",
        model_in_words(run.config),
        rates_in_words(run.config),
        runs=runs,
    )
    return figure, claims
