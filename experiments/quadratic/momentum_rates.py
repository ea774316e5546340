"""Figure 4: the convergence rate of classical momentum and of Lookahead around it over condition numbers (3.2, B)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from experiments.engine.analysis import Findings
from experiments.quadratic import claims, deterministic
from experiments.quadratic.arguments import (
    Array,
    checked_alpha,
    checked_beta,
    checked_choices,
    checked_condition_numbers,
    checked_count,
    checked_grid,
)
from lookahead.arguments import INNER_STATES, checked_k

SPECTRA = {"ends": False, "interval": True}


@dataclass
class MomentumRates:
    """Rates at each method's own best learning rate, for every choice of what the paper leaves open.

    Args:
        condition_numbers: shape (condition numbers,).
        k, alpha: Lookahead's.
        betas: momentum coefficients.
        spectra: where the worst rate is looked for, "ends" (L / kappa and L) or "interval" (all between them).
        inner_states: what a synchronization does to the velocity.
        points: learning rates at which the rate on one eigenvalue is tabulated, over momentum's stable range.

    Raises:
        ValueError: a value is out of range.
    """

    condition_numbers: Array
    k: int
    alpha: float
    betas: list[float]
    spectra: list[str]
    inner_states: list[str]
    points: int

    def __post_init__(self) -> None:
        numbers = checked_grid("condition_numbers", self.condition_numbers)
        self.condition_numbers = np.sort(checked_condition_numbers(numbers))
        self.k, self.alpha = checked_k(self.k), checked_alpha(self.alpha)
        self.betas = [checked_beta(beta) for beta in checked_grid("betas", self.betas).tolist()]
        self.spectra = checked_choices("spectra", self.spectra, SPECTRA)
        self.inner_states = checked_choices("inner_states", self.inner_states, INNER_STATES)
        self.points = checked_count("points", self.points, least=1)

    @cached_property
    def cases(self) -> dict[tuple[float, str, str], claims.Damping]:
        """The rates by coefficient, spectrum and inner state, in the order of the lists."""
        cases = {}
        for beta, spectrum in itertools.product(self.betas, self.spectra):
            momentum = None
            for state in self.inner_states:
                found = claims.better_when_under_damped(
                    self.condition_numbers, beta, self.k, self.alpha, state, SPECTRA[spectrum], momentum
                )
                cases[beta, spectrum, state], momentum = found, found.momentum
        return cases

    def claims(self) -> list[dict[str, Any]]:
        rows = []
        for (beta, spectrum, state), found in self.cases.items():
            case = f"beta {beta:g}, {spectrum}, {state}"
            under = found.condition_numbers <= found.critical
            crossings = {
                "critical": found.critical,
                "crossings": len(found.crossings),
                "first_crossing": min(found.crossings, default=None),
                "last_crossing": max(found.crossings, default=None),
            }
            for claim, where in (("better when under-damped", under), ("worse when over-damped", ~under)):
                if where.any():
                    margin = found.verdict.margin[where] * (1 if where is under else -1)
                    rows.append({"claim": claim, "case": case, **claims.Verdict(margin).summary(), **crossings})
        for beta, state in itertools.product(self.betas, self.inner_states):
            share = deterministic.diverging_share(beta, self.k, self.alpha, state)
            rows.append({"claim": "Lookahead diverges", "case": f"beta {beta:g}, {state}", "share_of_rates": share})
        return rows

    def findings(self) -> Findings:
        tables = [
            pd.DataFrame(
                {
                    "beta": beta,
                    "spectrum": spectrum,
                    "inner_state": state,
                    "condition_number": found.condition_numbers,
                    "momentum_rate": found.momentum.rate,
                    "momentum_contraction": found.momentum.contraction,
                    "lookahead_rate": found.lookahead.rate,
                    "lookahead_contraction": found.lookahead.contraction,
                    "margin": found.verdict.margin,
                }
            )
            for (beta, spectrum, state), found in self.cases.items()
        ]
        return Findings(self.claims(), {"rates": pd.concat(tables), "contraction": self._on_one_eigenvalue()})

    def _on_one_eigenvalue(self) -> pd.DataFrame:
        """Tabulate rho over eta a in momentum's stable range, momentum's own and Lookahead's for each inner state."""
        tables = []
        for beta in self.betas:
            rates = 2 * (1 + beta) * (np.arange(self.points) + 0.5) / self.points
            columns = {"beta": beta, "rate": rates, "momentum": deterministic.contraction(1.0, rates, beta)}
            for state in self.inner_states:
                columns[state] = deterministic.contraction(1.0, rates, beta, self.k, self.alpha, state)
            tables.append(pd.DataFrame(columns))
        return pd.concat(tables)
