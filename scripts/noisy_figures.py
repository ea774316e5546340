"""Figures 3, 11 and 12, on the noisy quadratic, and what they depend on: each from the records of its experiment."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from omegaconf import DictConfig

from scripts.drawing import COLORS, caption, changed_labels, claims_of, draw_shares
from scripts.records import Run, the_only

ALPHAS = plt.get_cmap("viridis")
ALPHA_SCALE = Normalize(0, 1)
PAPERS, FINER, WIDER = "the paper's grid", "a finer grid for SGD", "a wider range"


def model_in_words(config: DictConfig) -> str:
    """Say which noisy quadratic it is: all of it is open in the paper, but for the kind of spectrum and Sigma."""
    model = config.analysis.model
    if "dimension" not in model:
        return f"Eigenvalues {_listed(model.a)}, Sigma {_listed(model.noise)}, theta_0 {_listed(model.start)}."
    start = f"{model.start:g}" + (f" a^{model.start_power:g}" if model.start_power else "")
    return (
        f"Open in the paper, chosen here: {model.dimension} dimensions, extreme Chebyshev nodes as spectrum, condition "
        f"number {model.condition_number:g}, L = {model.largest:g}, theta_0 = {start} in every coordinate."
    )


def _listed(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in np.ravel(values))


def grid_in_words(grid: Any) -> str:
    """Say how many values a grid has and between which; in the configuration it has keys, or is a list or a number."""
    if isinstance(grid, DictConfig):
        kind = "log-spaced " if grid["_target_"].endswith("logarithmic") else ""
        size, low, high = grid.num, grid.start, grid.stop
    else:
        values, kind = np.ravel(grid), ""
        size, low, high = values.size, values.min(), values.max()
    return f"{size} {kind}from {low:g} to {high:g}" if size > 1 else f"{low:g}"


def rates_in_words(config: DictConfig) -> str:
    return f"Learning rates: {grid_in_words(config.analysis.rates)}; updates are inner ones."


def draw_convergence(axes: Axes, run: Run, excess: bool = False) -> None:
    """Draw what is left to the final loss over the final loss: a curve of learning rates for SGD and each alpha.

    With `excess`, over the final loss less the irreducible one, on a logarithmic scale.
    """
    curves = run.arrays("curves")
    loss = 0.0 if excess else curves["irreducible_loss"]
    rows = zip(curves["alphas"], curves["lookahead_final_excess"], curves["lookahead_gap"], strict=True)
    many = curves["alphas"].size > 1
    for alpha, final, gap in rows:
        color = ALPHAS(ALPHA_SCALE(alpha)) if many else COLORS["la_sgd"]
        label = None if many else f"Lookahead, α = {alpha:g}"
        axes.plot(loss + final, gap, color=color, linewidth=0.8 if many else 1.8, label=label)
    axes.plot(loss + curves["sgd_final_excess"], curves["sgd_gap"], color="black", linestyle="--", label="SGD")
    updates = run.config.analysis.updates
    axes.set(yscale="log", xlabel="final loss", ylabel=f"expected loss after {updates} updates − final loss")
    if excess:
        axes.set(xscale="log", xlabel="final loss − irreducible loss")
    axes.legend()
    axes.grid(alpha=0.3)


def alpha_bar(figure: Figure, axes: Axes, run: Run) -> None:
    """Add the colours of the alphas, where there is more than one."""
    if run.arrays("curves")["alphas"].size > 1:
        figure.colorbar(plt.cm.ScalarMappable(ALPHA_SCALE, ALPHAS), ax=axes, label="Lookahead's α")


def figure_3(runs: list[Run]) -> tuple[Figure, pd.DataFrame]:
    """Figure 3: each vertical slice compares settings of the same final loss."""
    run = the_only(runs, "convergence")
    figure, axes = plt.subplots(figsize=(6.4, 5.2), layout="constrained")
    draw_convergence(axes, run)
    alpha_bar(figure, axes, run)
    analysis = run.config.analysis
    axes.set_title(f"SGD and Lookahead (k = {analysis.k}) on the noisy quadratic", fontsize=10)
    setting = f"Expected losses in closed form; α: {grid_in_words(analysis.alphas)}; α = 1 is SGD."
    where = "Small α are at the left edge, and apart in fig03_sensitivity."
    caption(figure, setting, model_in_words(run.config), rates_in_words(run.config), where, runs=runs)
    return figure, claims_of(run)


def figure_3_sensitivity(runs: list[Run]) -> tuple[Figure, pd.DataFrame]:
    """Where Lookahead's loss is lower at exactly equal final loss, and whether that depends on what is open."""
    run = the_only(runs, "convergence")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(16, 4.8), layout="constrained")
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
    right.legend(fontsize=8, loc="upper center")
    caption(
        figure,
        "SGD has the learning rate at which its final loss is exactly that of Lookahead, α below 1.",
        "Where theta_0 is so near that the loss rises to its final value, the slower has the lower loss.",
        model_in_words(run.config),
        rates_in_words(run.config),
        runs=runs,
    )
    return figure, claims


def draw_margin(figure: Figure, axes: Axes, run: Run) -> None:
    """Draw by how much Lookahead is closer to the final loss than SGD at the same final loss."""
    curves = run.arrays("curves")
    if "margin" not in curves:
        raise ValueError(f"{run.folder} has no alpha below 1, with which Lookahead is compared")
    alphas = curves["alphas"][curves["alphas"] < 1]
    margin, limit = 100 * curves["margin"], 50
    axes.set_title(f"after {run.config.analysis.updates} updates", fontsize=10)
    label = "closer to the final loss than SGD by (%)"
    for along, other, name in ((curves["rates"], alphas, "Lookahead's learning rate"), (alphas, curves["rates"], "α")):
        if other.size == 1:  # a map needs two of each
            axes.plot(along, margin.ravel(), marker="o" if along.size == 1 else None)
            axes.axhline(0, color="black", linewidth=0.8)
            axes.set(xlabel=name, ylabel=label)
            axes.grid(alpha=0.3)
            return
    mesh = axes.pcolormesh(curves["rates"], alphas, margin, cmap="RdBu", vmin=-limit, vmax=limit, shading="nearest")
    axes.contour(curves["rates"], alphas, margin, levels=[0], colors="black", linewidths=0.8)
    axes.set(xlabel="Lookahead's learning rate", ylabel="α")
    figure.colorbar(mesh, ax=axes, extend="both", label=f"{label}; black: 0")


def figure_11(runs: list[Run]) -> tuple[Figure, pd.DataFrame]:
    """Figure 11: (a) one fixed alpha; (b) after a few updates."""
    by_name = {name: the_only(runs, name) for name in ("fixed_alpha", "few_updates")}
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for panel, run, letter in zip(axes, by_name.values(), "ab", strict=True):
        draw_convergence(panel, run)
        panel.set_title(f"({letter})", fontsize=10)
    alpha_bar(figure, axes[1], by_name["few_updates"])
    few = by_name["few_updates"].config
    choice = f'(b)\'s "only a few updates" are {few.analysis.updates} here.'
    caption(figure, f"k = {few.analysis.k}.", choice, model_in_words(few), rates_in_words(few), runs=runs)
    return figure, pd.concat([claims_of(run) for run in by_name.values()], keys=by_name)


def figure_11_sensitivity(runs: list[Run]) -> tuple[Figure, pd.DataFrame]:
    """From how many updates on an alpha below 1 wins, and whether that depends on what is open."""
    run = the_only(runs, "few_updates")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
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
    middle.legend(fontsize=8, loc="lower right")
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
    right.legend(fontsize=8, loc="lower left")
    caption(
        figure,
        "Compared with SGD at exactly the same final loss, at the multiples of k. Right, behind the colon: the "
        "first at which an α below 1 wins.",
        model_in_words(run.config),
        rates_in_words(run.config),
        runs=[run],
    )
    return figure, claims


def figure_12(runs: list[Run]) -> tuple[Figure, pd.DataFrame]:
    """Figure 12: the best expected loss that constant settings reach at each horizon."""
    run = the_only(runs, "finite_horizon")
    found = run.table("horizons")
    figure, axes = plt.subplots(figsize=(6.4, 5.2), layout="constrained")
    for name, label in (("sgd", "SGD"), ("lookahead", "Lookahead")):
        color = COLORS["la_sgd" if name == "lookahead" else name]
        # The slow weights rest between synchronizations.
        style = "steps-post" if name == "lookahead" else "default"
        loss = found["irreducible_loss"] + found[f"{name}_excess"]
        axes.plot(found["updates"], loss, label=label, color=color, drawstyle=style)
    axes.set(xlabel="time horizon (updates)", ylabel="optimal expected loss", xscale="log")
    axes.set_title("Settings tuned for each horizon", fontsize=10)
    axes.legend()
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


def figure_12_sensitivity(runs: list[Run]) -> tuple[Figure, pd.DataFrame]:
    """Excess and margin at each horizon, the settings that were best, and what the verdict depends on."""
    run = the_only(runs, "finite_horizon")
    found = run.table("horizons")
    layout = [["excess", "margins", "changed"], ["rates", "alphas", "changed"]]
    figure, panels = plt.subplot_mosaic(layout, figsize=(16, 8), layout="constrained")
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
        panels[name].set_xlabel("time horizon (updates)")
        panels[name].legend(fontsize=8)
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
    changed.legend(fontsize=8)
    words = (
        f"Finer: {run.config.analysis.times} times, for SGD alone; wider, for both: "
        f"{grid_in_words(run.config.analysis.wider)}. Margins below -20 % (horizons of a few updates) are cut off."
    )
    caption(figure, *horizon_words(run.config), words, model_in_words(run.config), runs=runs)
    return figure, claims
