"""Figure 4: classical momentum and Lookahead on the quadratic without noise, and what it depends on."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.reporting.captions import caption, titled
from scripts.reporting.claims import claims_of
from scripts.reporting.draws import Draws
from scripts.reporting.panels import Panel
from scripts.reporting.records import Run, analysis_run
from scripts.reporting.style import COLORS, INNER_STATES, MOMENTUM, blank, legend

DRAWS = (Draws("fig04_momentum_quadratic"),)
X, Y = "condition number", "convergence rate 1 − ρ"
PANELS = (Panel("", X, Y),)
SPECTRA = {"ends": "the two end eigenvalues", "interval": "the whole interval"}


def figures(runs: Sequence[Run]) -> dict[str, tuple[Figure, pd.DataFrame]]:
    return {"fig04_momentum_quadratic": figure_4(runs), "fig04_sensitivity": figure_4_sensitivity(runs)}


def draw_rates(axes: Axes, rates: pd.DataFrame, critical: float) -> None:
    """Draw 1 - rho of momentum and of Lookahead, one curve per inner state, over condition numbers."""
    states = rates["inner_state"].unique()
    first = rates[rates["inner_state"] == states[0]]
    kappas = first["condition_number"]
    marker = "o" if len(kappas) == 1 else None
    axes.loglog(kappas, 1 - first["momentum_contraction"], marker=marker, color=MOMENTUM, label="classical momentum")
    for state in states:
        rows = rates[rates["inner_state"] == state]
        label = "Lookahead" + (f", velocity: {state}" if len(states) > 1 else "")
        color = INNER_STATES[state] if len(states) > 1 else COLORS["la_sgd"]
        axes.loglog(kappas, 1 - rows["lookahead_contraction"], marker=marker, color=color, label=label)
    axes.axvline(critical, color="gray", linestyle=":", label="over-damped right of here")
    axes.set(xlabel=X, ylabel=Y)
    axes.grid(alpha=0.3)


def critical_of(run: Run, beta: float) -> float:
    claims = run.table("claims")
    return float(claims[claims["case"].str.startswith(f"beta {beta:g},")]["critical"].dropna().iloc[0])


def figure_4(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """Figure 4: the convergence rates over condition numbers, at each method's own best learning rate."""
    run = analysis_run(runs, "momentum_rates")
    analysis = run.config.analysis
    rates = run.table("rates")
    beta, spectrum, state = rates.iloc[0][["beta", "spectrum", "inner_state"]]
    shown = rates[(rates["beta"] == beta) & (rates["spectrum"] == spectrum) & (rates["inner_state"] == state)]
    figure = blank(6.4, 5.8)
    figure.suptitle(titled("Figure 4, the quadratic without noise", [run]), fontsize=10)
    axes = figure.subplots()
    draw_rates(axes, shown, critical_of(run, beta))
    axes.set_title(f"Lookahead (k = {analysis.k}, α = {analysis.alpha:g}) around classical momentum", fontsize=10)
    legend(axes, below=True, ncols=3)
    caption(
        figure,
        f"Open in the paper, chosen here: momentum coefficient {beta:g}, the worst rate of {SPECTRA[spectrum]}, "
        f"condition numbers up to {rates['condition_number'].max():g}; velocity: {state} (B.1's matrices maintain it).",
        "Each method has its own best learning rate in momentum's stable range, ρ is of one inner update. Ripples of "
        "Lookahead are real, and finer than drawn: its ρ goes up and down over learning rates (fig04_sensitivity).",
        runs=runs,
    )
    return figure, claims_of(run)


def figure_4_sensitivity(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame]:
    """Figure 4 for each coefficient, spectrum and inner state, and where Lookahead diverges."""
    run = analysis_run(runs, "momentum_rates")
    rates, contraction, claims = run.table("rates"), run.table("contraction"), run.table("claims")
    betas, spectra = rates["beta"].unique(), rates["spectrum"].unique()
    shape = len(betas), len(spectra) + 1
    figure = blank(4.4 * shape[1], 4 * shape[0])
    figure.suptitle(titled("What Figure 4 depends on", [run]), fontsize=10)
    grid = figure.subplots(*shape, squeeze=False)
    for row, beta in zip(grid, betas, strict=True):
        for axes, spectrum in zip(row, spectra, strict=False):
            rows = rates[(rates["beta"] == beta) & (rates["spectrum"] == spectrum)]
            draw_rates(axes, rows, critical_of(run, beta))
            axes.set_title(f"β = {beta:g}, {SPECTRA[spectrum]}", fontsize=9)
        draw_contraction(row[-1], contraction[contraction["beta"] == beta], claims)
        legend(row[-1], below=True, ncols=2, fontsize=7)
        row[-1].set_title(f"β = {beta:g}, one eigenvalue a", fontsize=9)
    for axes in grid[:, :-1].flat:
        legend(axes, below=True, ncols=2, fontsize=7)
    analysis = run.config.analysis
    caption(
        figure,
        f"Lookahead: k = {analysis.k}, α = {analysis.alpha:g}. Right: above 1 (gray) a method diverges; the range is "
        "that in which momentum converges, and the legend has the share of it on which Lookahead does not.",
        runs=runs,
    )
    return figure, claims


def draw_contraction(axes: Axes, contraction: pd.DataFrame, claims: pd.DataFrame) -> None:
    """Draw rho of an update over eta a, in the range in which momentum converges."""
    beta = contraction["beta"].iloc[0]
    axes.plot(contraction["rate"], contraction["momentum"], color=MOMENTUM, label="classical momentum")
    for state in (name for name in contraction if name in INNER_STATES):
        row = claims[(claims["claim"] == "Lookahead diverges") & (claims["case"] == f"beta {beta:g}, {state}")]
        label = f"{state}: {100 * row['share_of_rates'].iloc[0]:.1f} % diverge"
        axes.plot(contraction["rate"], contraction[state], color=INNER_STATES[state], linewidth=0.9, label=label)
    values = contraction.drop(columns=["beta", "rate"]).to_numpy()
    lowest, highest = values.min(), max(1.02, values.max() + 0.01)
    axes.axhspan(1, highest, color="0.9")
    axes.set(xlabel="η a", ylabel="ρ", ylim=(lowest - 0.05 * (highest - lowest), highest))
    axes.grid(alpha=0.3)
