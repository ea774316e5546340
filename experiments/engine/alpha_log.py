"""A probe of what an AdaptiveAlpha chose (Section 2.1), for history.csv."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim import Optimizer

from experiments.engine.probe import Findings
from lookahead import AdaptiveAlpha


class AlphaLog:
    """Watch an optimizer's synchronizations; nothing but `metrics()` waits for the device.

    An optimizer without an adaptive alpha has no metrics.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self.optimizer = optimizer
        self.seen: torch.Tensor | None = None
        self.synchronizations, self.reported = 0, 0  # in all, and until the last row
        # alpha, alpha before clipping; then sums since the last row: of those at the lower bound, of those at 1
        self.values = torch.zeros(4, device=device)
        alphas = [group.get("lookahead_alpha") for group in optimizer.param_groups]
        self.watching = any(isinstance(alpha, AdaptiveAlpha) for alpha in alphas)

    @torch.no_grad()
    def after(self, event: str, trainer: Any) -> None:
        """Take the alpha of an update that synchronized."""
        if event != "update" or not self.watching:
            return
        alpha, raw = self.optimizer.last_alpha, self.optimizer.last_alpha_raw
        if alpha is self.seen or raw is None:
            return
        self.seen = alpha
        self.synchronizations += 1
        # Clipping changed it: from below, or from above.
        chosen = torch.stack([alpha, raw, raw < alpha, raw > alpha]).to(self.values)
        self.values[:2] = chosen[:2]
        self.values[2:] += chosen[2:]

    def metrics(self) -> dict[str, float]:
        """Return the last alpha, and the shares of synchronizations clipped to low and to 1 since the last call."""
        if not self.watching:
            return {}
        count = self.synchronizations - self.reported
        alpha, raw, at_low, at_one = self.values.tolist() if self.synchronizations else (math.nan,) * 4
        self.reported = self.synchronizations
        self.values[2:] = 0.0
        return {
            "lookahead/alpha": alpha,
            "lookahead/alpha_raw": raw,
            "lookahead/at_low": at_low / count if count else math.nan,
            "lookahead/at_one": at_one / count if count else math.nan,
        }

    def findings(self) -> Findings:
        return Findings()

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values, "synchronizations": self.synchronizations, "reported": self.reported}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.values.copy_(state["values"])
        self.synchronizations, self.reported = state["synchronizations"], state["reported"]
