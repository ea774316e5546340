"""The real optimizer with outer momentum on sampled noisy quadratics: what its theory is held against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from experiments.engine.analysis import Findings
from experiments.quadratic import noisy, outer_momentum
from experiments.quadratic.arguments import checked_count, checked_number, checked_rates
from experiments.quadratic.optimizer_runs import (
    NoisyChains,
    check_sampled,
    claims_on_moments,
    generator_of,
    moments_by_round,
)
from experiments.quadratic.outer_comparison import checked_outer
from lookahead.arguments import checked_k


@dataclass
class OuterMomentumRuns:
    """Mean and variance of the slow weights over sampled chains, beside those of `outer_momentum`.

    Args:
        model: the noisy quadratic.
        rate: SGD's learning rate on it.
        settings: each of k, alpha, mu and nesterov.
        updates: until when, in inner updates.
        chains: how many runs the moments are taken over.
        seed: of the samples.

    Raises:
        ValueError: a value is out of range.
    """

    model: noisy.NoisyQuadratic
    rate: float
    settings: list[dict[str, Any]]
    updates: int
    chains: int
    seed: int

    def __post_init__(self) -> None:
        noisy.checked_noisy(self.model)
        self.rate = float(checked_rates(checked_number("the learning rate", self.rate), self.model.largest))
        example = "{k: 5, alpha: 0.7, mu: 0.9, nesterov: true}"
        check_sampled(self.model, self.settings, example, {"k", "alpha", "mu", "nesterov"})
        self.settings = [
            {"k": checked_k(setting["k"])} | checked_outer(*(setting[name] for name in ("alpha", "mu", "nesterov")))
            for setting in self.settings
        ]
        for name, least in (("updates", 1), ("chains", 2)):
            setattr(self, name, checked_count(name, getattr(self, name), least))
        checked_count("updates, which hold a round of each setting,", self.updates, max(s["k"] for s in self.settings))

    @cached_property
    def moments(self) -> pd.DataFrame:
        """Mean and variance of the slow weights after each synchronization: the chains' and the theory's."""
        return pd.concat([self._moments(i, setting) for i, setting in enumerate(self.settings)], ignore_index=True)

    def _moments(self, number: int, setting: dict[str, Any]) -> pd.DataFrame:
        generator = generator_of(self.seed, number, len(self.settings))
        k, alpha, mu, nesterov = setting.values()
        momentum = {"outer_momentum": mu, "nesterov": nesterov} if mu else {}
        chains = NoisyChains(self.model, self.rate, self.chains, generator, k=k, alpha=alpha, **momentum)
        rounds = outer_momentum.lookahead(self.model, self.rate, k, alpha, mu, nesterov)
        return moments_by_round(chains, self.updates // k, setting, lambda done: rounds.moments(self.model.start, done))

    def claims(self) -> list[dict[str, Any]]:
        return claims_on_moments(self.moments, "that of the theory of outer momentum")

    def findings(self) -> Findings:
        return Findings(self.claims(), {"moments": self.moments})
