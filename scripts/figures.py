"""Draw figures from recorded runs:  python scripts/figures.py [name ...]        all of them where none is named

Needs no accelerator, no account and no data: a figure follows from results/runs/ alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.records import Run, arguments_for, by_optimizer, checked_names, final_table, load_runs

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


def demo(runs: list[Run]) -> tuple[Figure, pd.DataFrame]:
    """Training loss and validation accuracy of SGD and Lookahead(SGD) on the bundled digits."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    draw_curves(left, runs, "train/loss")
    left.set(ylabel="training loss", yscale="log")
    draw_curves(right, runs, "val/accuracy")
    best = max(run.history["val/accuracy"].max() for run in runs)
    right.set(ylabel="validation accuracy (%)", ylim=(90, min(100.0, best + 1)))
    left.legend()
    figure.suptitle("Demonstration on scikit-learn's digits, not an experiment of the paper", fontsize=10)
    figure.supxlabel(f"mean and one standard deviation; {provenance(runs)}", fontsize=8)
    metrics = {
        "train/loss": "training loss",
        "val/loss": "validation loss",
        "val/accuracy": "validation accuracy (%)",
    }
    return figure, final_table(runs, metrics).rename(index=LABELS)


# The figure's name is its experiment's name.
FIGURES: dict[str, Callable[[list[Run]], tuple[Figure, pd.DataFrame]]] = {"demo": demo}


def main(arguments: list[str] | None = None) -> int:
    parser = arguments_for(__doc__, FIGURES)
    parser.add_argument("--out", type=Path, default=Path("results/figures"))
    options = parser.parse_args(arguments)
    try:
        for name in checked_names(options.names, FIGURES, "figure"):
            figure, table = FIGURES[name](load_runs(options.runs, name))
            options.out.mkdir(parents=True, exist_ok=True)
            path = options.out / f"{name}.png"
            figure.savefig(path, dpi=150)
            plt.close(figure)
            print(table.to_string(), f"\n{path}")
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
