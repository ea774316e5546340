"""Figures 3 and 11: SGD and Lookahead on the noisy quadratic after some updates, at the same final loss (A.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from experiments.engine.analysis import Findings
from experiments.quadratic import claims, comparisons
from experiments.quadratic.arguments import Array, checked_alphas, checked_count, checked_grid, checked_rates
from experiments.quadratic.noisy import NoisyQuadratic, checked_noisy
from lookahead.arguments import checked_k


@dataclass
class Convergence:
    """What is left to the final loss after `updates` inner updates, over learning rates and alphas.

    Args:
        model: the noisy quadratic.
        k: the synchronization period.
        rates, alphas: the grids, shapes (rates,) and (alphas,), in any order.
        updates: when the curves of the figure are taken, in inner updates.
        rounds: until which round to ask from when on an alpha below 1 wins; None asks nothing.

    Raises:
        ValueError: a value is out of range.
    """

    model: NoisyQuadratic
    k: int
    rates: Array
    alphas: Array
    updates: int
    rounds: int | None = None

    def __post_init__(self) -> None:
        checked_noisy(self.model)
        self.k = checked_k(self.k)
        self.rates = checked_rates(np.unique(checked_grid("rates", self.rates)), self.model.largest)
        self.alphas = checked_alphas(np.unique(checked_grid("alphas", self.alphas)))
        self.updates = checked_count("updates", self.updates, least=self.k)
        if self.rounds is not None:
            self.rounds = checked_count("rounds", self.rounds, least=1)

    @cached_property
    def pairs(self) -> comparisons.EqualRisk:
        """Each of Lookahead's settings with an alpha below 1, and SGD's learning rate of the same final loss."""
        return comparisons.equal_risk(self.model, self.rates, self.k, self._below_1)

    @cached_property
    def sooner(self) -> claims.Verdict:
        """Whether Lookahead's loss is lower at exactly equal final loss; its margin is (alphas below 1, rates)."""
        return claims.same_risk_sooner(self.model, self.pairs, self.updates)

    @cached_property
    def first_win(self) -> claims.FirstWin:
        """From when on an alpha below 1 is better at some learning rate."""
        return claims.first_win(self.model, self.pairs, self.rounds)

    @property
    def _below_1(self) -> Array:
        return self.alphas[self.alphas < 1]  # with 1, Lookahead is SGD

    def claims(self) -> list[dict[str, Any]]:
        if not self._below_1.size:
            return []
        holds = self.sooner.holds
        rows = [
            {
                "claim": "the same risk sooner",
                **self.sooner.summary(),
                "alphas_that_win_somewhere": float(holds.any(axis=1).mean()),
                "alphas_that_win_everywhere": float(holds.all(axis=1).mean()),
                "rates_at_which_some_alpha_wins": float(holds.any(axis=0).mean()),
            }
        ]
        if self.rounds is not None:
            win = self.first_win
            share = float(win.share_of_alphas[-1])
            rows.append({"claim": "an alpha wins early", "first_win": win.first, "alphas_that_win_at_the_end": share})
        return rows

    def _claims_on_one_eigenvalue(self) -> list[dict[str, Any]]:
        """Judge what depends on gamma a alone, not on the spectrum."""
        ends = np.outer([self.model.a.min(), self.model.largest], self.rates).ravel()
        verdicts = {"the steady variance is smaller": claims.variance_is_smaller(ends, self.k, self._below_1)}
        largest = self.rates * self.model.largest
        if largest.min() <= 1:
            alone = claims.same_risk_sooner_on_one_eigenvalue(largest[largest <= 1], self.k, self._below_1)
            verdicts["the same risk sooner, on one eigenvalue"] = alone
        return [{"claim": claim, **verdict.summary()} for claim, verdict in verdicts.items()]

    def findings(self) -> Findings:
        sgd = comparisons.convergence(self.model, self.rates, self.updates)
        lookahead = comparisons.convergence(self.model, self.rates, self.updates, self.k, self.alphas)
        arrays = {
            "rates": self.rates,
            "alphas": self.alphas,
            "irreducible_loss": np.array(self.model.irreducible_loss),
            "sgd_final_excess": sgd.final_excess[0],
            "sgd_gap": sgd.gap[0],
            "lookahead_final_excess": lookahead.final_excess,
            "lookahead_gap": lookahead.gap,
        }
        found = Findings(self.claims(), arrays={"curves": arrays})
        if self._below_1.size:
            found.claims += self._claims_on_one_eigenvalue()
            arrays["margin"] = self.sooner.margin
            found.tables["alphas"] = pd.DataFrame(
                {"alpha": alpha, **claims.Verdict(margin).summary()}
                for alpha, margin in zip(self.pairs.alpha[:, 0], self.sooner.margin, strict=True)
            )
            if self.rounds is not None:
                found.tables["horizons"] = pd.DataFrame(self.first_win._asdict())
        return found
