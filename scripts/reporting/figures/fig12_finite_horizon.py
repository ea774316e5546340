"""Figure 12: the best settings for each horizon on the noisy quadratic, and what they depend on."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from omegaconf import DictConfig

from scripts.reporting.captions import caption, grid_in_words, titled
from scripts.reporting.claims import changed_labels, claims_of, draw_shares
from scripts.reporting.draws import Draws
from scripts.reporting.noisy import model_in_words
from scripts.reporting.panels import Panel
from scripts.reporting.records import Run, analysis_run
from scripts.reporting.style import COLORS, blank, legend

DRAWS = (Draws("fig12_finite_horizon"),)
X, Y = "time horizon (updates)", "optimal expected loss"
PANELS = (Panel("", X, Y),)
PAPERS, FINER, WIDER = "the paper's grid", "a finer grid for SGD", "a wider range"


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    return {"fig12_finite_horizon": figure_12(runs), "fig12_sensitivity": figure_12_sensitivity(runs)}


def figure_12(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """Figure 12: the best expected loss that constant settings reach at each horizon."""
    run = analysis_run(runs, "finite_horizon")
    found = run.table("horizons")
    figure = blank(6.4, 5.8)
    figure.suptitle(titled("Figure 12, the noisy quadratic", [run]), fontsize=10)
    axes = figure.subplots()
    for name, label in (("sgd", "SGD"), ("lookahead", "Lookahead")):
        color = COLORS["la_sgd" if name == "lookahead" else name]
        # The slow weights rest between synchronizations.
        style = "steps-post" if name == "lookahead" else "default"
        loss = found["irreducible_loss"] + found[f"{name}_excess"]
        axes.plot(found["updates"], loss, label=label, color=color, drawstyle=style)
    axes.set(xlabel=X, ylabel=Y, xscale="log")
    axes.set_title("Settings tuned for each horizon", fontsize=10)
    legend(axes, below=True, ncols=2)
    axes.grid(alpha=0.3)
    where = "Where the curves look like one, fig12_sensitivity tells them apart."
    caption(figure, *horizon_words(run.config), where, model_in_words(run.config), runs=runs)
    return figure, claims_of(run)


def horizon_words(config: DictConfig) -> list[str]:
    return [
        f"k = {config.analysis.k}; learning rates: {grid_in_words(config.analysis.rates)}; "
        f"α: {grid_in_words(config.analysis.alphas)}.",
        "Horizons count inner updates; between multiples of k the slow weights rest, while SGD goes on.",
    ]


def figure_12_sensitivity(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """Excess and margin at each horizon, the settings that were best, and what the verdict depends on."""
    run = analysis_run(runs, "finite_horizon")
    found = run.table("horizons")
    layout = [["excess", "margins", "changed"], ["rates", "alphas", "changed"]]
    figure = blank(16, 9)
    figure.suptitle(titled("What Figure 12 depends on", [run]), fontsize=10)
    panels = figure.subplot_mosaic(layout)
    updates = found["updates"]
    for column, label in (("margin", PAPERS), ("margin_against_finer", FINER), ("margin_wider", WIDER)):
        style = {"linewidth": 2.2, "alpha": 0.5} if column == "margin" else {"linewidth": 0.9}
        panels["margins"].plot(updates, 100 * found[column], label=label, **style)
    panels["margins"].axhline(0, color="black", linewidth=0.6)
    panels["margins"].set(ylim=(-20, 20), ylabel="Lookahead's margin (% of SGD's excess)")
    moved = found[updates >= run.config.analysis.k]  # before it, every setting of Lookahead is as good
    for suffix, style in (("", "-"), ("_wider", ":")):
        grid = WIDER if suffix else PAPERS
        for name, label in (("sgd", "SGD"), ("lookahead", "Lookahead")):
            look = {"color": COLORS["la_sgd" if name == "lookahead" else name], "label": f"{label}, {grid}"}
            shown = moved if name == "lookahead" else found
            panels["rates"].plot(shown["updates"], shown[f"{name}_rate{suffix}"], style, **look)
            steps = "steps-post" if name == "lookahead" else "default"
            panels["excess"].plot(updates, found[f"{name}_excess{suffix}"], style, drawstyle=steps, **look)
        alphas = moved[f"lookahead_alpha{suffix}"]
        panels["alphas"].plot(moved["updates"], alphas, style, color=COLORS["la_sgd"], label=grid)
    labels = {
        "excess": "optimal expected loss − irreducible loss",
        "rates": "best learning rate",
        "alphas": "Lookahead's best α",
    }
    for name, label in labels.items():
        panels[name].set(ylabel=label, xscale="log", yscale="log")
        panels[name].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panels[name].yaxis.set_major_formatter("{x:g}")
        panels[name].yaxis.set_minor_formatter(NullFormatter())
    titles = {
        "excess": "Figure 12 without the irreducible loss",
        "margins": "by how much Lookahead is better",
        "rates": "the learning rates that were best",
        "alphas": "the α that were best",
    }
    for name, title in titles.items():
        panels[name].set_title(title, fontsize=10)
        panels[name].set_xlabel(X)
        legend(panels[name], below=True, ncols=2, fontsize=7)
        panels[name].grid(alpha=0.3)
    claims = claims_of(run, "Lookahead dominates at every horizon")
    drawn, wider = (claims[claims["case"] == case] for case in ("", "a wider range of learning rates"))
    share = {
        name: (rows["holds"] / rows[["holds", "ties", "fails"]].sum(axis="columns"))
        for name, rows in ((PAPERS, drawn), (WIDER, wider))
    }
    changed = panels["changed"]
    draw_shares(changed, changed_labels(drawn), share)
    changed.set_xlabel("horizons at which Lookahead is strictly better (%)")
    legend(changed, below=True, ncols=2)
    words = (
        f"Finer: {run.config.analysis.times} times, for SGD alone; wider, for both: "
        f"{grid_in_words(run.config.analysis.wider)}. Margins below -20 % (horizons of a few updates) are cut off."
    )
    caption(figure, *horizon_words(run.config), words, model_in_words(run.config), runs=runs)
    return figure, claims
