"""Figure 12: the best constant settings of SGD and of Lookahead for each finite horizon (A.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from experiments.engine.analysis import Findings
from experiments.quadratic import claims
from experiments.quadratic.arguments import Array, checked_alphas, checked_count, checked_grid, checked_rates
from experiments.quadratic.noisy import NoisyQuadratic, checked_noisy
from lookahead.arguments import checked_k


@dataclass
class FiniteHorizon:
    """The least expected loss of both over grids of settings, at the horizons 1, 2, ... `updates`, in inner updates.

    Args:
        model: the noisy quadratic.
        k: the synchronization period; the slow weights of the horizon T have moved floor(T / k) times.
        updates: the last horizon.
        rates, alphas: the grids, shapes (rates,) and (alphas,), in any order.
        times: how many times finer a grid SGD is given to see whether the grid's resolution decides.
        wider: learning rates that both are given to see whether the grid's range decides.

    Raises:
        ValueError: a value is out of range.
    """

    model: NoisyQuadratic
    k: int
    updates: int
    rates: Array
    alphas: Array
    times: int
    wider: Array

    def __post_init__(self) -> None:
        checked_noisy(self.model)
        self.k = checked_k(self.k)
        self.updates = checked_count("updates", self.updates, least=self.k)
        self.times = checked_count("times", self.times, least=1)
        for name in ("rates", "wider"):
            setattr(self, name, checked_rates(np.unique(checked_grid(name, getattr(self, name))), self.model.largest))
        self.alphas = checked_alphas(np.unique(checked_grid("alphas", self.alphas)))

    @cached_property
    def verdicts(self) -> claims.HorizonVerdicts:
        """Where Lookahead's least loss is lower, on the grid, against a finer one for SGD, and on a wider one."""
        return claims.dominates_at_every_horizon(
            self.model, self.updates, self.k, self.rates, self.alphas, self.wider, self.times
        )

    def claims(self) -> list[dict[str, Any]]:
        judged = self.verdicts
        cases = {
            "": (judged.verdict, judged.found, self.rates),
            f"SGD's grid {self.times} times finer": (judged.against_finer, None, None),
            "a wider range of learning rates": (judged.against_wider, judged.wider, self.wider),
        }
        rows, updates = [], judged.found.updates
        for case, (verdict, found, rates) in cases.items():
            row = {"claim": "Lookahead dominates at every horizon", "case": case, **verdict.summary()}
            row["first_strict_win"] = claims.first_of(updates, verdict.holds)
            row["last_fail"] = claims.first_of(updates[::-1], verdict.fails[::-1])
            at_multiples = claims.Verdict(verdict.margin[judged.at_multiples])
            row |= {
                f"at_multiples_{name}": int(getattr(at_multiples, name).sum()) for name in ("holds", "ties", "fails")
            }
            if found is not None:
                edges = claims.settings_at_edge(found, rates.max())
                row |= {f"{name}_at_the_largest_rate_until": horizon for name, horizon in edges.items()}
            rows.append(row)
        return rows

    def findings(self) -> Findings:
        judged = self.verdicts
        found, wider = judged.found, judged.wider
        columns = {
            "updates": found.updates,
            "sgd_excess": found.sgd,
            "sgd_rate": found.sgd_rate,
            "lookahead_excess": found.lookahead,
            "lookahead_rate": found.lookahead_rate,
            "lookahead_alpha": found.lookahead_alpha,
            "margin": judged.verdict.margin,
            "margin_against_finer": judged.against_finer.margin,
            "margin_wider": judged.against_wider.margin,
            "sgd_excess_wider": wider.sgd,
            "sgd_rate_wider": wider.sgd_rate,
            "lookahead_excess_wider": wider.lookahead,
            "lookahead_rate_wider": wider.lookahead_rate,
            "lookahead_alpha_wider": wider.lookahead_alpha,
        }
        columns["irreducible_loss"] = np.full(found.updates.size, self.model.irreducible_loss)
        return Findings(self.claims(), {"horizons": pd.DataFrame(columns)})
