"""Write tables from recorded runs into docs/:  python scripts/tables.py [name ...]        all where none is named

A table stands between two comment lines of its document, `<!-- <name>: begin -->` and `<!-- <name>: end -->`; the
words around it stay.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.report import markdown_table
from scripts import quadratic_tables
from scripts.drawing import provenance
from scripts.records import Run, arguments_for, checked_names, load_runs

RowsOf = Callable[[list[Run]], list[dict[str, Any]]]


def adaptive_alpha(runs: list[Run]) -> list[dict[str, Any]]:
    """Return how often the adaptive alpha met its bounds: a row a choice of gradient and power, means over seeds."""
    groups: dict[tuple[str, float, float], list[Run]] = {}
    for run in runs:
        alpha = run.config.optim.alpha
        groups.setdefault((alpha.gradient, alpha.power, alpha.low), []).append(run)
    rows = []
    for (gradient, power, low), group in sorted(groups.items(), reverse=True):
        shares = pd.DataFrame([clipped_shares(run) for run in group]).mean()
        rows.append(
            {
                "gradient": gradient,
                "power": f"{power:g}",
                "low": f"{low:g}",
                "at low (%)": round(100 * shares["low"], 1),
                "between (%)": round(100 * abs(1 - shares["low"] - shares["one"]), 1),
                "at 1 (%)": round(100 * shares["one"], 1),
                "alpha before clipping, median": pd.concat([r.history["lookahead/alpha_raw"] for r in group]).median(),
                "training loss": sum(run.summary["final"]["train/loss"] for run in group) / len(group),
                "validation accuracy (%)": sum(run.summary["final"]["val/accuracy"] for run in group) / len(group),
                "seeds": len(group),
            }
        )
    return rows


def clipped_shares(run: Run) -> dict[str, float]:
    """Return the shares of all synchronizations that were clipped to low and to 1; each row's are since the last."""
    synchronizations = (
        (run.history["step"] // run.config.optim.k).diff().fillna(run.history["step"].iloc[0] // run.config.optim.k)
    )
    columns = {"low": "lookahead/at_low", "one": "lookahead/at_one"}
    return {
        name: (run.history[column] * synchronizations).sum() / synchronizations.sum()
        for name, column in columns.items()
    }


QUADRATIC = Path("docs/quadratic.md")
# By the table's name: the document, the experiment, and what makes the rows.
TABLES: dict[str, tuple[Path, str, RowsOf]] = {
    "adaptive_alpha": (Path("docs/adaptive_alpha.md"), "adaptive_alpha", adaptive_alpha),
    "same_risk": (QUADRATIC, "fig03_noisy_quadratic", quadratic_tables.same_risk),
    "same_risk_changed": (QUADRATIC, "fig03_noisy_quadratic", quadratic_tables.same_risk_changed),
    "early": (QUADRATIC, "fig11_noisy_convergence", quadratic_tables.early),
    "every_horizon": (QUADRATIC, "fig12_finite_horizon", quadratic_tables.every_horizon),
    "every_horizon_changed": (QUADRATIC, "fig12_finite_horizon", quadratic_tables.every_horizon_changed),
    "damping": (QUADRATIC, "fig04_momentum_quadratic", quadratic_tables.damping),
    "diverging": (QUADRATIC, "fig04_momentum_quadratic", quadratic_tables.diverging),
    "optimizer": (QUADRATIC, "theory_and_optimizer", quadratic_tables.optimizer),
}


def with_table(text: str, name: str, table: str) -> str:
    """Return a document with a table replaced; a ValueError where the two lines around it are not there once each."""
    begin, end = (f"<!-- {name}: {side} -->" for side in ("begin", "end"))
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the document must have {begin} and {end} once each")
    head, rest = text.split(begin)
    return f"{head}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def main(arguments: list[str] | None = None) -> int:
    options = arguments_for(__doc__, TABLES).parse_args(arguments)
    try:
        for name in checked_names(options.names, TABLES, "table"):
            document, experiment, rows_of = TABLES[name]
            runs = load_runs(options.runs, experiment, swept=True)
            table = f"{markdown_table(rows_of(runs))}\n\n{provenance(runs)}"
            document.write_text(with_table(document.read_text(), name, table))
            print(document)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
