"""What the figures on the noisy quadratic share: the model in words, convergence curves, margins, methods, moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from omegaconf import DictConfig

from scripts.reporting.captions import grid_in_words
from scripts.reporting.records import Run
from scripts.reporting.style import ALPHA_SCALE, ALPHAS, COLORS, legend

# Methods as records of outer momentum name them: a colour for what the steps are, a line for the momentum.
METHODS = {
    "SGD": {"color": COLORS["sgd"], "linestyle": "-"},
    "SGD with momentum": {"color": COLORS["sgd"], "linestyle": "--"},
    "SGD with Nesterov momentum": {"color": COLORS["sgd"], "linestyle": ":"},
    "Lookahead": {"color": COLORS["la_sgd"], "linestyle": "-"},
    "Lookahead with outer momentum": {"color": COLORS["la_sgd"], "linestyle": "--"},
    "Lookahead with outer Nesterov momentum": {"color": COLORS["la_sgd"], "linestyle": ":"},
}


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
        color = colormaps[ALPHAS](ALPHA_SCALE(alpha)) if many else COLORS["la_sgd"]
        label = None if many else f"Lookahead, α = {alpha:g}"
        axes.plot(loss + final, gap, color=color, linewidth=0.8 if many else 1.8, label=label)
    axes.plot(loss + curves["sgd_final_excess"], curves["sgd_gap"], color="black", linestyle="--", label="SGD")
    updates = run.config.analysis.updates
    axes.set(yscale="log", xlabel="final loss", ylabel=f"expected loss after {updates} updates − final loss")
    if excess:
        axes.set(xscale="log", xlabel="final loss − irreducible loss")
    legend(axes, below=True, ncols=2)
    axes.grid(alpha=0.3)


def alpha_bar(figure: Figure, axes: Axes, run: Run) -> None:
    """Add the colours of the alphas, where there is more than one."""
    if run.arrays("curves")["alphas"].size > 1:
        figure.colorbar(ScalarMappable(ALPHA_SCALE, ALPHAS), ax=axes, label="Lookahead's α")


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


def draw_moments(
    left: Axes, right: Axes, moments: pd.DataFrame, setting: Sequence[str], label: Callable[..., str]
) -> None:
    """Draw mean and variance of the slow weights by updates: theory as lines, chains of the optimizer as dots.

    The coordinate is the last; a row's setting are the columns of that name, which `label` puts into words.
    """
    rows_of = moments[moments["coordinate"] == moments["coordinate"].max()]
    for values, rows in rows_of.groupby(list(setting), sort=False):
        for axes, what in ((left, "mean"), (right, "variance")):
            (line,) = axes.plot(rows["updates"], rows[f"expected_{what}"], label=label(*values))
            axes.plot(rows["updates"], rows[what], ".", color=line.get_color(), markersize=5)
    for axes, what in ((left, "mean"), (right, "variance")):
        axes.set(xlabel="inner updates", ylabel=f"{what} of the slow weights")


def coordinate_in_words(run: Run) -> str:
    """Say which coordinate `draw_moments` draws."""
    a = run.config.analysis.model.get("a")
    coordinate = int(run.table("moments")["coordinate"].max())
    return "the coordinate " + ("of the smallest eigenvalue" if a is None else f"with eigenvalue {a[coordinate]:g}")


def draw_over_final_loss(
    axes: Axes, rows: pd.DataFrame, column: str, over: pd.Series | None = None, **look: Any
) -> None:
    """Draw a column of a method's settings over the final loss, on a logarithmic scale; as a ratio `over` another."""
    values = rows[column].to_numpy() if over is None else rows[column].to_numpy() / over.to_numpy()
    axes.plot(rows["final_excess"], values, **look)
    axes.set(xscale="log", xlabel="final loss − irreducible loss")
    axes.grid(alpha=0.3)
