"""Workers that meet every k steps beside as many that meet at every step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from scripts.reporting.captions import caption, grid_in_words, titled
from scripts.reporting.claims import claims_with
from scripts.reporting.draws import Draws
from scripts.reporting.noisy import METHODS, draw_over_final_loss, model_in_words
from scripts.reporting.panels import Panel
from scripts.reporting.records import Run, analysis_run
from scripts.reporting.style import blank, legend

DRAWS = (Draws("local_workers"),)
PANELS = (
    Panel("", "learning rate", "α"),
    Panel("", "learning rate", "α"),
    Panel("", "final loss − irreducible loss", "asymptotic speed over SGD's at every step"),
    Panel("", "final loss − irreducible loss", "distance after 1200 updates over SGD's at every step"),
)
LIMIT = 100  # percent, of the colours


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    return {"local_workers": local_workers(runs)}


def local_workers(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """At equal settings, for the smallest and the largest k, and at equal final loss, for each k."""
    run = analysis_run(runs, "local_workers")
    analysis, arrays = run.config.analysis, run.arrays("equal_settings")
    figure = blank(14, 11)
    figure.suptitle(titled(f"{analysis.workers} workers that meet every k steps, or at every step", [run]), fontsize=10)
    upper, lower = figure.subplots(2, 2)
    for axes, place in zip(upper, (0, -1), strict=True):
        mesh = _draw_map(axes, arrays, place)
        axes.set_title(f"equal settings, k = {arrays['ks'][place]}", fontsize=10)
    label = f"loss after {analysis.updates} updates lower than at every step by (%); black: 0"
    figure.colorbar(mesh, ax=list(upper), extend="both", label=label)
    for axes, goal in zip(lower, ("speed", "distance"), strict=True):
        _draw_methods(axes, run.table("best"), goal)
        axes.set_yscale("log")
        legend(axes, below=True, ncols=2, fontsize=7)
    lower[0].set_ylabel("asymptotic speed over SGD's at every step")
    lower[0].set_title("equal final loss, best settings for the long run", fontsize=10)
    lower[1].set_ylim(1e-5, 2)
    lower[1].set_ylabel(f"distance after {analysis.updates} updates over SGD's at every step")
    lower[1].set_title(f"equal final loss, best settings for {analysis.updates} updates", fontsize=10)
    caption(
        figure,
        "Above: the same learning rate and α, no momentum, irreducible loss left out; α = 1 ties. Below: the final "
        f"losses of SGD at every step with the learning rates {grid_in_words(analysis.sgd_rates)}. Updates are inner "
        "ones; all see as many samples. The lowest curves of the last panel go on below.",
        model_in_words(run.config),
        runs=runs,
    )
    return figure, claims_with(run, "at equal settings")


def _draw_map(axes: Axes, arrays: dict[str, np.ndarray], place: int) -> QuadMesh:
    rates, alphas, margin = arrays["rates"], arrays["alphas"], 100 * arrays["margin"][place]
    mesh = axes.pcolormesh(rates, alphas, margin, cmap="RdBu", vmin=-LIMIT, vmax=LIMIT, shading="nearest")
    axes.contour(rates, alphas[alphas < 1], margin[alphas < 1], levels=[0], colors="black", linewidths=0.8)
    axes.set(xscale="log", xlabel="learning rate", ylabel="α")
    return mesh


def _draw_methods(axes: Axes, best: pd.DataFrame, goal: str) -> None:
    """Draw a method at every step as SGD's, the local ones thicker the rarer they meet."""
    best = best[best["objective"] == goal]
    every = best[best["k"] == 1]
    sgd = every[every["method"] == "SGD"][goal]
    for method in every["method"].unique():
        rows = every[every["method"] == method]
        draw_over_final_loss(axes, rows, goal, over=sgd, label=f"{method}, every step", **METHODS[method])
    ks = [k for k in best["k"].unique() if k > 1]
    for method in ("Lookahead", "Lookahead with outer Nesterov momentum"):
        for number, k in enumerate(ks):
            rows = best[(best["k"] == k) & (best["method"] == method)]
            width = 0.8 + 0.7 * number
            draw_over_final_loss(
                axes, rows, goal, over=sgd, label=f"{method}, k = {k}", **METHODS[method], linewidth=width
            )
