"""What the figures share: names, colours, curves over seeds, and captions that say what was run."""

from __future__ import annotations

import textwrap

import matplotlib

matplotlib.use("Agg")
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
