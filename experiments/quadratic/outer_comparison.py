"""Does momentum on the outer update buy speed that alpha and gamma alone do not? At exactly equal final loss.

Six methods at the same final losses, each at its own best settings; every setting of a grid against SGD, as in Figure
3; and where outer momentum is stable. Not in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from experiments.engine.analysis import Findings
from experiments.quadratic import best_at_risk, comparisons, noisy, outer_momentum
from experiments.quadratic.arguments import (
    Array,
    checked_alpha,
    checked_alphas,
    checked_count,
    checked_flag,
    checked_grid,
    checked_momenta,
    checked_momentum,
    checked_rates,
)
from experiments.quadratic.best_at_risk import METHODS, OBJECTIVES, TIE, Best, Search
from experiments.quadratic.claims import Verdict
from lookahead.arguments import checked_k

NAMES = {
    "sgd": "SGD",
    "sgd_heavy_ball": "SGD with momentum",
    "sgd_nesterov": "SGD with Nesterov momentum",
    "lookahead": "Lookahead",
    "lookahead_heavy_ball": "Lookahead with outer momentum",
    "lookahead_nesterov": "Lookahead with outer Nesterov momentum",
}
# Which is asked to be sooner than which.
PAIRS = (
    ("lookahead", "sgd"),
    ("sgd_nesterov", "lookahead"),
    ("lookahead_heavy_ball", "lookahead"),
    ("lookahead_nesterov", "lookahead"),
    ("lookahead_nesterov", "lookahead_heavy_ball"),
    ("lookahead_heavy_ball", "sgd_heavy_ball"),
    ("lookahead_nesterov", "sgd_nesterov"),
)
KINDS = {"heavy ball": False, "Nesterov": True}
STABLE_POINTS = 100  # of the table of stability


@dataclass
class OuterMomentum:
    """The comparison on one noisy quadratic.

    Args:
        model: the noisy quadratic.
        k: the synchronization period.
        updates: after how many inner updates distances are taken.
        sgd_rates: SGD's learning rates whose final losses all methods have, shape (final losses,).
        given: settings of one's own beside the best ones: alpha, mu, and whether the momentum is Nesterov's.
        rates, alphas, momenta: the grid of which every setting is put beside SGD.

    Raises:
        ValueError: a value is out of range.
    """

    model: noisy.NoisyQuadratic
    k: int
    updates: int
    sgd_rates: Array
    given: list[dict[str, Any]]
    rates: Array
    alphas: Array
    momenta: Array

    def __post_init__(self) -> None:
        noisy.checked_noisy(self.model)
        self.k = checked_k(self.k)
        self.updates = checked_count("updates", self.updates, least=self.k)
        for name in ("sgd_rates", "rates"):
            setattr(self, name, checked_rates(np.unique(checked_grid(name, getattr(self, name))), self.model.largest))
        self.alphas = checked_alphas(np.unique(checked_grid("alphas", self.alphas)))
        self.momenta = checked_momenta("mu", np.unique(checked_grid("momenta", self.momenta)))
        self.given = checked_given(self.given)

    @cached_property
    def final_excess(self) -> Array:
        """The final losses over the irreducible one, those of SGD at `sgd_rates`."""
        return noisy.steady_excess(self.model, self.sgd_rates)

    @cached_property
    def best(self) -> dict[str, dict[str, Best]]:
        """The best settings by objective and method."""
        search = Search(self.model, self.k, self.updates)
        return {goal: {name: search.best(self.final_excess, name, goal) for name in METHODS} for goal in OBJECTIVES}

    @cached_property
    def by_given(self) -> dict[str, Best]:
        """Lookahead with the given alphas and momenta, at the learning rates of the final losses."""
        search = Search(self.model, self.k, self.updates)
        return {
            given_in_words(**setting): best_at_risk.at_given_steps(search, self.final_excess, **setting)
            for setting in self.given
        }

    @cached_property
    def grid(self) -> dict[str, outer_momentum.Found]:
        """The grid's final losses, distances and speeds by kind of momentum, shape (momenta, alphas, rates)."""
        grids = self.rates, self.alphas, self.momenta
        return {
            kind: outer_momentum.on_grid(self.model, self.k, *grids, self.updates, nesterov)
            for kind, nesterov in KINDS.items()
        }

    def claims(self) -> list[dict[str, Any]]:
        rows = []
        for first, second in PAIRS:
            for goal in OBJECTIVES:
                best = self.best[goal]
                rows.append(
                    {"claim": f"{NAMES[first]} is sooner than {NAMES[second]}", "case": when(goal, self.updates)}
                    | compared(best[first], best[second], goal)
                )
        for words, found in self.by_given.items():
            for against in ("sgd", "lookahead"):
                for goal in OBJECTIVES:
                    claim = f"Lookahead with {words} is sooner than {NAMES[against]}"
                    verdict = compared(found, self.best[goal][against], goal)
                    rows.append({"claim": claim, "case": when(goal, self.updates)} | verdict)
        return rows + self._claims_on_grid()

    def _claims_on_grid(self) -> list[dict[str, Any]]:
        """Judge the settings against SGD at the same final loss, for each kind and momentum.

        Momentum raises the final loss. Settings whose own is above SGD's at the largest of `sgd_rates` are only
        counted: at such a loss SGD is next to unstable, and slow for that.
        """
        rows, most = [], self.final_excess[-1]
        for kind, found in self.grid.items():
            for mu, final, left in zip(self.momenta, found.final_excess, found.distance, strict=True):
                inside = final <= most
                rate = comparisons.sgd_rate_of_risk(self.model, final[inside])
                sgd = noisy.in_blocks(self.model, self._sgd_distance, rate)
                row = {"claim": "a setting of the grid is sooner than SGD", "case": f"{kind}, mu {mu:g}"}
                row |= Verdict(1 - left[inside] / sgd).summary() if inside.any() else {}
                unstable = np.isinf(final)
                rows.append(row | {"beyond": int((~inside & ~unstable).sum()), "unstable": int(unstable.sum())})
        return rows

    def _sgd_distance(self, rate: Array) -> Array:
        rounds = outer_momentum.sgd(self.model, rate, 0.0, nesterov=False)
        return outer_momentum.distance(self.model, rounds, self.updates)

    def findings(self) -> Findings:
        columns = {"sgd_rate": self.sgd_rates, "final_excess": self.final_excess}
        best = settings_table(self.best | {"given": self.by_given}, columns)
        mu = np.arange(STABLE_POINTS) / STABLE_POINTS
        stable = {kind: outer_momentum.largest_stable_pull(mu, nesterov) for kind, nesterov in KINDS.items()}
        return Findings(self.claims(), {"best": best, "stability": pd.DataFrame({"mu": mu, **stable})})


def when(goal: str, updates: int) -> str:
    """Return how the case of a claim is called: distances are after some updates, speeds in the long run."""
    return f"after {updates} updates" if goal == "distance" else "in the long run"


def compared(first: Best, second: Best, goal: str) -> dict[str, Any]:
    """Return the verdict on "the first is sooner than the second" over final losses, and the margin at both ends.

    The margin is by how much less of the distance is left, over the second's, or by how much more speed there is. Final
    losses that one of both cannot have do not count.
    """
    margin = 1 - first.distance / second.distance if goal == "distance" else first.speed / second.speed - 1
    there = np.isfinite(margin)
    if not there.any():
        return {"without": int((~there).sum())}
    ends = {"margin_at_lowest": float(margin[there][0]), "margin_at_highest": float(margin[there][-1])}
    return Verdict(margin[there], TIE).summary() | ends | {"without": int((~there).sum())}


def settings_table(found: Mapping[str, Mapping[str, Best]], columns: Mapping[str, Any]) -> pd.DataFrame:
    """Return the settings by objective (or "given") and method, in words, as one table, with further columns."""
    return pd.concat(
        pd.DataFrame({"objective": goal, "method": NAMES.get(name, name), **columns, **best._asdict()})
        for goal, by_method in found.items()
        for name, best in by_method.items()
    )


def checked_given(given: Any) -> list[dict[str, Any]]:
    """Return settings of alpha, mu and nesterov; a ValueError unless it is a list of such, each in its range."""
    example = "{alpha: 0.7, mu: 0.9, nesterov: true}"
    if not isinstance(given, list):
        raise ValueError(f"given must be a list of settings such as {example}, not {given!r}")
    for setting in given:
        if not isinstance(setting, dict) or set(setting) != {"alpha", "mu", "nesterov"}:
            raise ValueError(f"a given setting must be one such as {example}, not {setting!r}")
    return [checked_outer(**setting) for setting in given]


def checked_outer(alpha: Any, mu: Any, nesterov: Any) -> dict[str, Any]:
    """Return an outer update by its names; a ValueError for a value out of range, or for Nesterov's with mu = 0."""
    alpha, mu, nesterov = checked_alpha(alpha), checked_momentum("mu", mu), checked_flag("nesterov", nesterov)
    if nesterov and not mu:
        raise ValueError("nesterov=true is of a momentum: mu must be above 0, not 0, or nesterov=false")
    return {"alpha": alpha, "mu": mu, "nesterov": nesterov}


def given_in_words(alpha: float, mu: float, nesterov: bool) -> str:
    """Return how a given setting is called in claims."""
    return f"alpha {alpha:g}" + (f", {'Nesterov' if nesterov else 'heavy ball'} mu {mu:g}" if mu else "")
