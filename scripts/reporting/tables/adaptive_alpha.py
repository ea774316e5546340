"""How often the adaptive alpha (Section 2.1) met its bounds in training."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from scripts.reporting.claims import Rows
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run
from scripts.reporting.series import series

DRAWS = (Draws("adaptive_alpha"),)
DOCUMENT = "docs/adaptive_alpha.md"


def rows(runs: Sequence[Run]) -> Rows:
    """Return one row per choice of gradient and power, with means over seeds."""
    found = []
    for group in reversed(series(runs, by=("optim.alpha.gradient", "optim.alpha.power", "optim.alpha.low"))):
        gradient, power, low = group.values
        shares = pd.DataFrame([clipped_shares(run) for run in group.runs]).mean()
        raw = pd.concat([run.columns("lookahead/alpha_raw") for run in group.runs])["lookahead/alpha_raw"]
        found.append(
            {
                "gradient": gradient,
                "power": f"{power:g}",
                "low": f"{low:g}",
                "at low (%)": round(100 * shares["low"], 1),
                "between (%)": round(100 * abs(1 - shares["low"] - shares["one"]), 1),
                "at 1 (%)": round(100 * shares["one"], 1),
                "alpha before clipping, median": raw.median(),
                "training loss": group.final("train/loss").mean,
                "validation accuracy (%)": group.final("val/accuracy").mean,
                "seeds": group.seeds,
            }
        )
    return found


def clipped_shares(run: Run) -> dict[str, float]:
    """Return the shares of all synchronizations that were clipped to low and to 1; each row's are since the last."""
    columns = {"low": "lookahead/at_low", "one": "lookahead/at_one"}
    rows = run.columns("step", *columns.values())
    until = rows["step"] // run.config.optim.k
    synchronizations = until.diff().fillna(until.iloc[0])
    return {name: (rows[column] * synchronizations).sum() / synchronizations.sum() for name, column in columns.items()}
