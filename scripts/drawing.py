"""What the figures share: names, colours, curves over seeds, claims, and captions that say what was run."""

from __future__ import annotations

import textwrap

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.records import Run, by_optimizer

LABELS = {
    "sgd": "SGD",
    "polyak": "Polyak",
    "adamw": "Adam",
    "la_sgd": "Lookahead",
    "la_adamw": "Lookahead (AdamW)",
}
COLORS = {
    "sgd": "tab:blue",
    "polyak": "tab:green",
    "adamw": "tab:orange",
    "la_sgd": "tab:purple",
    "la_adamw": "tab:red",
}


def draw_curves(axes: Axes, runs: list[Run], column: str) -> None:
    """Draw a column of history.csv over epochs: the mean over seeds, and a band of one standard deviation."""
    for name, group in by_optimizer(runs).items():
        values = pd.concat([run.history.set_index("epoch")[column] for run in group], axis="columns")
        mean, std = values.mean(axis="columns"), values.std(axis="columns")
        axes.plot(mean.index, mean, label=LABELS.get(name, name), color=COLORS.get(name))
        axes.fill_between(mean.index, mean - std, mean + std, alpha=0.2, color=COLORS.get(name), linewidth=0)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)


def provenance(runs: list[Run]) -> str:
    """Return what a figure has to say of its runs: how many seeds, on which devices."""
    seeds = sorted({run.summary["seed"] for run in runs})
    devices = sorted({run.summary["device"] for run in runs})
    return f"seeds {', '.join(map(str, seeds))}; {', '.join(devices)}"


def caption(figure: Figure, *sentences: str, runs: list[Run]) -> None:
    """Write what is shown, what was chosen and where it was computed below a figure."""
    text = " ".join([*sentences, f"Computed on {', '.join(sorted({run.summary['device'] for run in runs}))}."])
    width = int(figure.get_figwidth() * 17)
    figure.supxlabel(textwrap.fill(text, width), fontsize=7, x=0.01, horizontalalignment="left")


def claims_of(run: Run, *names: str) -> pd.DataFrame:
    """Return the claims of a record in a readable form: a row each, without columns that none of them has."""
    claims = run.table("claims")
    claims = claims[claims["claim"].isin(names)] if names else claims[claims["changed"] == ""]
    return claims.dropna(axis="columns", how="all").reset_index(drop=True)


def changed_labels(claims: pd.DataFrame) -> list[str]:
    return [changed.removeprefix("analysis.").removeprefix("model.") or "as drawn" for changed in claims["changed"]]


def draw_shares(axes: Axes, labels: list[str], shares: dict[str, pd.Series]) -> None:
    """Draw a row of dots for each changed value, the unchanged one on top."""
    rows = np.arange(len(labels))
    for marker, size, (name, values) in zip("osD", (9, 6, 4), shares.items(), strict=False):  # none hides another
        axes.plot(100 * np.asarray(values), rows, marker, label=name, markersize=size, alpha=0.8)
    axes.set(yticks=rows, yticklabels=labels, xlim=(-3, 103))
    axes.set_title("with one value changed", fontsize=10)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(alpha=0.3)
