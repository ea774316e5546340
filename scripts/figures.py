"""Draw figures from recorded runs:  python scripts/figures.py [experiment ...]        all of them where none is named

Needs no accelerator, no account and no data: a figure follows from results/runs/ alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from scripts import momentum_figures, noisy_figures
from scripts.drawing import LABELS, draw_curves, provenance
from scripts.records import Run, arguments_for, checked_names, final_table, load_runs

Draw = Callable[[list[Run]], tuple[Figure, pd.DataFrame]]


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


# By the experiment's name: its figures, and what draws them.
FIGURES: dict[str, dict[str, Draw]] = {
    "demo": {"demo": demo},
    "fig03_noisy_quadratic": {
        "fig03_noisy_quadratic": noisy_figures.figure_3,
        "fig03_sensitivity": noisy_figures.figure_3_sensitivity,
    },
    "fig04_momentum_quadratic": {
        "fig04_momentum_quadratic": momentum_figures.figure_4,
        "fig04_sensitivity": momentum_figures.figure_4_sensitivity,
    },
    "fig11_noisy_convergence": {
        "fig11_noisy_convergence": noisy_figures.figure_11,
        "fig11_sensitivity": noisy_figures.figure_11_sensitivity,
    },
    "fig12_finite_horizon": {
        "fig12_finite_horizon": noisy_figures.figure_12,
        "fig12_sensitivity": noisy_figures.figure_12_sensitivity,
    },
    "theory_and_optimizer": {"theory_and_optimizer": momentum_figures.theory_and_optimizer},
}


def main(arguments: list[str] | None = None) -> int:
    parser = arguments_for(__doc__, FIGURES)
    parser.add_argument("--out", type=Path, default=Path("results/figures"))
    options = parser.parse_args(arguments)
    try:
        for experiment in checked_names(options.names, FIGURES, "figure"):
            runs = load_runs(options.runs, experiment)
            options.out.mkdir(parents=True, exist_ok=True)
            for name, draw in FIGURES[experiment].items():
                figure, table = draw(runs)
                path = options.out / f"{name}.png"
                figure.savefig(path, dpi=150)
                plt.close(figure)
                print(table.to_string(), f"\n{path}")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
