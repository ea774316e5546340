"""The theory of outer momentum against the optimizer itself, on sampled chains."""

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
from scripts.reporting.style import blank, legend

DRAWS = (Draws("outer_momentum_and_optimizer"),)
PANELS = (
    Panel("", "inner updates", "mean of the slow weights"),
    Panel("", "inner updates", "variance of the slow weights"),
)


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    return {"outer_momentum_and_optimizer": outer_momentum_and_optimizer(runs)}


def outer_momentum_and_optimizer(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """Mean and variance of the slow weights over chains, beside the closed form."""
    run = analysis_run(runs, "outer_momentum_runs")
    analysis = run.config.analysis
    figure = blank(11, 5.2)
    figure.suptitle(titled("The theory of outer momentum against the optimizer itself", [run]), fontsize=10)
    left, right = figure.subplots(1, 2)
    draw_moments(left, right, run.table("moments"), ("k", "alpha", "mu", "nesterov"), _in_words)
    for axes in (left, right):
        legend(axes, below=True, ncols=2, fontsize=7)
        axes.grid(alpha=0.3)
    caption(
        figure,
        f"Lines: theory. Dots: Lookahead with outer momentum around torch's SGD, {analysis.chains} chains on sampled "
        f"noisy quadratics, learning rate {analysis.rate:g}, {coordinate_in_words(run)}.",
        runs=runs,
    )
    return figure, claims_of(run)


def _in_words(k: int, alpha: float, mu: float, nesterov: bool) -> str:
    return f"k = {k}, α = {alpha:g}, {'Nesterov' if nesterov else 'heavy ball'} μ = {mu:g}"
