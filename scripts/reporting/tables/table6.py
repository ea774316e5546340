"""Table 6: final validation accuracy on CIFAR-10 for what becomes of the inner optimizer's momentum."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.captions import provenance
from scripts.reporting.cifar import ACCURACY, NOT_RUN, OVER_SEEDS, what_was_trained
from scripts.reporting.claims import Rows
from scripts.reporting.draws import Draws
from scripts.reporting.markdown import markdown_table
from scripts.reporting.records import Run
from scripts.reporting.series import series
from scripts.reporting.style import INNER_STATES

DRAWS = (Draws("inner_states"), Draws("table1_cifar", task="cifar10", optim="sgd"))


def page(runs: Sequence[Run]) -> str:
    """Return the page: one row per policy, and SGD."""
    found = {group.values: group for group in series(runs, by=("optim.name", "optim.inner_state"))}
    rows: Rows = []
    for values in (*(("la_sgd", policy) for policy in INNER_STATES), ("sgd", None)):
        group = found.get(values)
        rows.append(
            {
                "": f"Lookahead, {values[1]}" if values[1] else "SGD",
                "validation accuracy (%)": group.final(ACCURACY).text(".2f", ".2f") if group else NOT_RUN,
                "seeds": str(group.seeds) if group else "-",
            }
        )
    return "\n\n".join(
        [
            "# Table 6: the inner optimizer's momentum at a synchronization, CIFAR-10",
            markdown_table(rows),
            f"{OVER_SEEDS} {what_was_trained(runs[0])}; {provenance(runs)}.",
            "The paper prints this table as a picture, so its numbers are not beside ours.\n",
        ]
    )
