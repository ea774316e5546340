"""The theory against the optimizer itself: sampled chains against Lemma 1, long runs against the spectral radius."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from scripts.reporting.captions import caption, titled
from scripts.reporting.claims import claims_of
from scripts.reporting.draws import Draws
from scripts.reporting.noisy import coordinate_in_words, draw_moments
from scripts.reporting.panels import Panel
from scripts.reporting.records import Run, analysis_run
from scripts.reporting.style import INNER_STATES, blank, legend

DRAWS = (Draws("theory_and_optimizer"),)
PANELS = (
    Panel("", "inner updates", "mean of the slow weights"),
    Panel("", "inner updates", "variance of the slow weights"),
    Panel("", "η a", "contraction ρ of an update"),
)


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    return {"theory_and_optimizer": theory_and_optimizer(runs)}


def theory_and_optimizer(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """Moments of sampled chains against Lemma 1, and long runs without noise against the spectral radius."""
    run = analysis_run(runs, "optimizer_runs")
    moments, contraction = run.table("moments"), run.table("contraction")
    analysis = run.config.analysis
    figure = blank(14, 4.8)
    figure.suptitle(titled("The theory against the optimizer itself", [run]), fontsize=10)
    (left, middle, right) = figure.subplots(1, 3)
    draw_moments(left, middle, moments, ("k", "alpha"), lambda k, alpha: f"k = {k}, α = {alpha:g}")
    for state, rows in contraction.groupby("inner_state", sort=False):
        right.plot(rows["rate"], rows["expected"], color=INNER_STATES[state], label=state)
        look = {"color": INNER_STATES[state], "markeredgecolor": "black", "markeredgewidth": 0.4, "markersize": 4}
        right.plot(rows["rate"][::5], rows["measured"][::5], "o", **look)
    right.axhline(1, color="black", linewidth=0.6)
    right.set(xlabel="η a", ylabel="contraction ρ of an update")
    for axes in (left, middle, right):
        legend(axes, below=True, ncols=2)
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    caption(
        figure,
        "Lines: theory. Dots: Lookahead around torch's SGD (right, every fifth). Left and middle: "
        f"{analysis.chains} chains on sampled noisy quadratics, learning rate {analysis.rate:g}, "
        f"{coordinate_in_words(run)}. Right: {analysis.rounds} rounds "
        f"without noise, β = {analysis.beta:g}, k = {analysis.k}, α = {analysis.alpha:g}, the velocity as named.",
        runs=runs,
    )
    return figure, claims_of(run)
