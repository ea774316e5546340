"""What a person sees of a run: a bar with loss, rate and time left on a terminal, a line an evaluation in a log."""

from __future__ import annotations

import logging
import sys
from typing import Any

from tqdm import tqdm

log = logging.getLogger(__name__)


class Progress:
    """`style`: "bar", "lines", "none", or "auto" (a bar where standard error is a terminal, else lines)."""

    def __init__(self, style: str, total_steps: int, done_steps: int, name: str) -> None:
        if style == "auto":
            style = "bar" if sys.stderr is not None and sys.stderr.isatty() else "lines"
        self.quiet = style == "none"
        self.bar = tqdm(
            total=total_steps,
            initial=done_steps,
            desc=name,
            unit="step",
            unit_scale=True,
            dynamic_ncols=True,
            disable=style != "bar",
            leave=False,
        )

    def step(self, count: int, loss: float, samples_per_second: float) -> None:
        """Move on by `count` updates: called when the loss sums are read, not on each update."""
        self.bar.set_postfix({"loss": f"{loss:.4f}", "samples/s": f"{samples_per_second:,.0f}"}, refresh=False)
        self.bar.update(count)

    def row(self, row: dict[str, Any], epochs: int | None) -> None:
        """Say what an evaluation found."""
        if self.quiet:
            return
        values = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if "/" in key)
        of = "" if epochs is None else f"/{epochs}"
        line = f"epoch {row['epoch']}{of}  step {row['step']}  {row['wall_s']:.0f} s  lr {row['lr']:g}  {values}"
        if self.bar.disable:
            log.info(line)
        else:
            self.bar.write(line)

    def close(self) -> None:
        self.bar.close()
