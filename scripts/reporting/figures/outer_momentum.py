"""Momentum on the outer update: each method at its own best settings of the same final loss, and where it is stable."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.reporting.captions import caption, grid_in_words, titled
from scripts.reporting.claims import claims_with
from scripts.reporting.draws import Draws
from scripts.reporting.noisy import METHODS, draw_over_final_loss, model_in_words
from scripts.reporting.panels import Panel
from scripts.reporting.records import Run, analysis_run
from scripts.reporting.style import COLORS, blank, legend

DRAWS = (Draws("outer_momentum"),)
PANELS = (
    Panel("", "final loss − irreducible loss", "distance after 1000 updates over SGD's"),
    Panel("", "final loss − irreducible loss", "asymptotic speed over SGD's"),
    Panel("", "μ", "α (1 − r^k)"),
)
KINDS = {"heavy ball": "--", "Nesterov": ":"}


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    return {"outer_momentum": outer_momentum(runs), "outer_momentum_settings": settings(runs)}


def outer_momentum(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """How near each method is at the end, how fast it is in the long run, and where outer momentum is stable."""
    run = analysis_run(runs, "outer_momentum")
    analysis, best, stability = run.config.analysis, run.table("best"), run.table("stability")
    figure = blank(16, 5.2)
    figure.suptitle(titled("Momentum on the outer update, at exactly equal final loss", [run]), fontsize=10)
    (left, middle, right) = figure.subplots(1, 3)
    nearest, fastest = (best[best["objective"] == goal] for goal in ("distance", "speed"))
    for axes, rows, column in ((left, nearest, "distance"), (middle, fastest, "speed")):
        sgd = rows[rows["method"] == "SGD"][column]
        for method, look in METHODS.items():
            draw_over_final_loss(axes, rows[rows["method"] == method], column, over=sgd, label=method, **look)
    left.set(yscale="log", ylim=(1e-5, 2), ylabel=f"distance after {analysis.updates} updates over SGD's")
    left.set_title("best settings for that many updates", fontsize=10)
    middle.set(yscale="log", ylabel="asymptotic speed over SGD's")
    middle.set_title("best settings for the long run", fontsize=10)
    for kind, line in KINDS.items():
        right.plot(
            stability["mu"], stability[kind], color=COLORS["la_sgd"], linestyle=line, label=f"{kind}, stable below"
        )
    right.axhline(1, color="black", linewidth=0.8, label="the most with α ≤ 1 and r ≥ 0")
    right.set(xlabel="μ", ylabel="α (1 − r^k)", ylim=(0, 4))
    right.set_title("stability", fontsize=10)
    right.grid(alpha=0.3)
    for axes in (left, middle, right):
        legend(axes, below=True, ncols=2 if axes is right else 1, fontsize=7)
    caption(
        figure,
        "Each method is at its own best learning rate, α and momentum with the final loss of SGD at the learning rates "
        f"{grid_in_words(analysis.sgd_rates)}; k = {analysis.k}; updates are inner ones. The distance adds up what is "
        "above its final value and what is below, coordinate by coordinate; the lowest curves go on below. Right: "
        "1 − r is the learning rate times a.",
        model_in_words(run.config),
        runs=runs,
    )
    return figure, claims_with(run, " is sooner than ")


def settings(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """Which settings are best, and how many of a grid are better than SGD."""
    run = analysis_run(runs, "outer_momentum")
    best, analysis = run.table("best"), run.config.analysis
    figure = blank(16, 9)
    figure.suptitle(titled("Which settings of outer momentum are best", [run]), fontsize=10)
    panels = figure.subplots(2, 3)
    for row, (goal, words) in zip(
        panels, (("distance", f"for {analysis.updates} updates"), ("speed", "for the long run")), strict=True
    ):
        for axes, column, name in zip(row, ("rate", "alpha", "slack"), ("learning rate", "α", "1 − μ"), strict=True):
            _draw_settings(axes, best.assign(slack=1 - best["mu"]), goal, column)
            axes.set(yscale="log", ylabel=name)
            axes.set_title(words, fontsize=10)
    for axes in panels[1]:
        legend(axes, below=True, fontsize=7)
    caption(
        figure,
        f"The best settings with the final loss of SGD at the learning rates {grid_in_words(analysis.sgd_rates)}; "
        f"k = {analysis.k}. SGD's own settings are left out, and 1 − μ where there is no momentum.",
        model_in_words(run.config),
        runs=runs,
    )
    return figure, claims_with(run, "a setting of the grid")


def _draw_settings(axes: Axes, best: pd.DataFrame, goal: str, column: str) -> None:
    for method, look in METHODS.items():
        rows = best[(best["objective"] == goal) & (best["method"] == method)]
        if method.startswith("Lookahead") and not (column == "slack" and method == "Lookahead"):
            draw_over_final_loss(axes, rows, column, label=method, **look)
