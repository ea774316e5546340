"""Write tables from recorded runs into docs/:  python scripts/tables.py [name ...]        all where none is named

A table stands between two comment lines of its document, `<!-- table: begin -->` and `<!-- table: end -->`; the words
around it stay.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.report import markdown_table
from experiments.engine.errors import choices
from scripts.figures import provenance
from scripts.records import Run, load_runs

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


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


# By the experiment's name: the document, and what makes its rows.
TABLES: dict[str, tuple[Path, Callable[[list[Run]], list[dict[str, Any]]]]] = {
    "adaptive_alpha": (Path("docs/adaptive_alpha.md"), adaptive_alpha),
}


def with_table(text: str, table: str) -> str:
    """Return a document with its table replaced; a ValueError where the two lines around it are not there once each."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"the document must have {BEGIN} and {END} once each")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(TABLES))
    parser.add_argument(
        "--runs", type=Path, default=Path("results/runs"), help="results/runs, or outputs for runs not collected"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in TABLES]
    if unknown:
        print(f"error: there is no table {unknown[0]}{choices(unknown[0], TABLES)}", file=sys.stderr)
        return 1
    for name in options.names or TABLES:
        document, rows_of = TABLES[name]
        try:
            runs = load_runs(options.runs, name, swept=True)
            table = f"{markdown_table(rows_of(runs))}\n\n{provenance(runs)}"
            document.write_text(with_table(document.read_text(), table))
        except (FileNotFoundError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
