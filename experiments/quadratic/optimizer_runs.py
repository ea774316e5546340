"""The real optimizer, Lookahead around torch's SGD, on quadratics: what the theory is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from experiments.engine.analysis import Findings
from experiments.quadratic import deterministic, noisy
from experiments.quadratic.arguments import (
    Array,
    checked_alpha,
    checked_beta,
    checked_choices,
    checked_count,
    checked_number,
    checked_rates,
)
from lookahead import Lookahead
from lookahead.arguments import INNER_STATES, checked_k


class NoisyChains:
    """Many runs at once on sampled noisy quadratics (Equation 4): each chain, a row, sees minima of its own.

    The chains start at theta_0; `setting` has Lookahead's arguments. A value out of range raises a ValueError.
    """

    def __init__(
        self,
        model: noisy.NoisyQuadratic,
        rate: float,
        chains: int,
        generator: torch.Generator,
        **setting: Any,
    ) -> None:
        self.weights = nn.Parameter(torch.from_numpy(model.start.copy()).repeat(chains, 1))
        self.optimizer = Lookahead(torch.optim.SGD([self.weights], lr=rate), **setting)
        self._a, self._deviation = torch.from_numpy(model.a), torch.from_numpy(np.sqrt(model.noise))
        self._generator = generator

    def step(self, count: int) -> None:
        """Take `count` inner updates."""
        for _ in range(count):
            minimum = torch.randn(self.weights.shape, generator=self._generator, dtype=torch.float64) * self._deviation
            self.weights.grad = self._a * (self.weights.detach() - minimum)
            self.optimizer.step()

    def moments(self) -> noisy.Moments:
        """Return mean and variance of the slow weights over the chains, each of shape (coordinates,)."""
        with self.optimizer.slow_weights():
            slow = self.weights.detach().numpy()
            return noisy.Moments(slow.mean(0), slow.var(0))


class DeterministicChains:
    """Momentum under Lookahead on the quadratic without noise; (theta, v) of each chain, a row, can be set.

    Each coordinate has its own eigenvalue, of `a`. A value out of range raises a ValueError.
    """

    def __init__(
        self, a: Array, rate: float, beta: float, k: int, alpha: float, inner_state: str, chains: int = 1
    ) -> None:
        self.k, self._a = k, torch.from_numpy(np.asarray(a, dtype=np.float64))
        self.weights = nn.Parameter(torch.ones(chains, self._a.numel(), dtype=torch.float64))
        inner = torch.optim.SGD([self.weights], lr=rate, momentum=beta)
        self.optimizer = Lookahead(inner, k=k, alpha=alpha, inner_state=inner_state)
        self.round()  # so that there is a state to set

    def round(self) -> torch.Tensor:
        """Take k updates; return (theta, v) after the synchronization, shape (chains, coordinates, 2)."""
        for _ in range(self.k):
            self.weights.grad = self._a * self.weights.detach()
            self.optimizer.step()
        return torch.stack([self.weights.detach(), self._state["momentum_buffer"]], dim=-1).clone()

    @property
    def _state(self) -> dict[str, torch.Tensor]:
        return self.optimizer.state[self.weights]

    @torch.no_grad()
    def set(self, theta: torch.Tensor, velocity: torch.Tensor) -> None:
        """Start a round at these slow weights and this velocity, which is a slow one too where it is interpolated."""
        self.weights.copy_(theta)
        with self.optimizer.slow_weights():
            self.weights.copy_(theta)
        for name in self._state.keys() & {"momentum_buffer", "lookahead_slow_momentum_buffer"}:
            self._state[name].copy_(velocity)

    def contraction(self, rounds: int) -> Array:
        """Return by how much an update shrinks (theta, v) in the long run, of each coordinate of the first chain.

        From the mean over the middle third of the rounds to that over the last. Complex eigenvalues turn the state on
        an ellipse, which adds a bounded term that goes up and down, which these hardly see.
        """
        logs, scale = [], torch.zeros(self._a.numel(), dtype=torch.float64)
        self.set(torch.ones(1, 1), torch.ones(1, 1))
        for _ in range(rounds):
            state = self.round()[0]  # (coordinates, (theta, v))
            size = state.norm(dim=-1)
            scale = scale + size.log()
            logs.append(scale)
            # The system is linear: kept at one size, nothing under- or overflows.
            self.set(*(state / size[:, None]).T[:, None])
        window = rounds // 3
        late, early = torch.stack(logs[-window:]).mean(0), torch.stack(logs[-2 * window : -window]).mean(0)
        return ((late - early) / window / self.k).exp().numpy()


@dataclass
class OptimizerRuns:
    """Theory against the optimizer: moments over sampled chains (Lemma 1), and long runs without noise (B.1).

    Args:
        model: the noisy quadratic.
        rate: SGD's learning rate on it.
        settings: pairs of k and alpha.
        updates: until when, in inner updates.
        chains: how many runs the moments are taken over.
        beta, k, alpha, inner_states: of momentum and Lookahead without noise.
        points: learning rates, over momentum's stable range, of the long runs of `rounds` rounds.
        seed: of the samples.

    Raises:
        ValueError: a value is out of range.
    """

    model: noisy.NoisyQuadratic
    rate: float
    settings: list[dict[str, Any]]
    updates: int
    chains: int
    beta: float
    k: int
    alpha: float
    inner_states: list[str]
    points: int
    rounds: int
    seed: int

    def __post_init__(self) -> None:
        noisy.checked_noisy(self.model)
        self.rate = float(checked_rates(checked_number("the learning rate", self.rate), self.model.largest))
        check_sampled(self.model, self.settings, "{k: 5, alpha: 0.5}", {"k", "alpha"})
        self.settings = [{"k": checked_k(s["k"]), "alpha": checked_alpha(s["alpha"])} for s in self.settings]
        for name, least in (("updates", 1), ("chains", 2), ("points", 1), ("rounds", 3)):
            setattr(self, name, checked_count(name, getattr(self, name), least))
        checked_count("updates, which hold a round of each setting,", self.updates, max(s["k"] for s in self.settings))
        self.beta = checked_beta(self.beta)
        if self.beta == 0:
            raise ValueError("beta must be in (0, 1), not 0: without momentum torch's SGD keeps no velocity to compare")
        self.k, self.alpha = checked_k(self.k), checked_alpha(self.alpha)
        self.inner_states = checked_choices("inner_states", self.inner_states, INNER_STATES)

    @cached_property
    def moments(self) -> pd.DataFrame:
        """Mean and variance of the slow weights after each synchronization: the chains' and Lemma 1's."""
        return pd.concat([self._moments(i, **setting) for i, setting in enumerate(self.settings)], ignore_index=True)

    def _moments(self, number: int, k: int, alpha: float) -> pd.DataFrame:
        generator = generator_of(self.seed, number, len(self.settings))
        chains = NoisyChains(self.model, self.rate, self.chains, generator, k=k, alpha=alpha)
        return moments_by_round(
            chains,
            self.updates // k,
            {"k": k, "alpha": alpha},
            lambda done: noisy.lookahead_moments(self.model, self.rate, k, alpha, done),
        )

    @cached_property
    def contraction(self) -> pd.DataFrame:
        """The long runs' contraction of an update and the spectral radius's, over eta a in momentum's stable range."""
        rates = 2 * (1 + self.beta) * (np.arange(self.points) + 0.5) / self.points
        tables = []
        for state in self.inner_states:
            setting = self.beta, self.k, self.alpha, state
            measured = DeterministicChains(rates, 1.0, *setting).contraction(self.rounds)
            expected = deterministic.contraction(rates, 1.0, *setting)
            columns = {"inner_state": state, "rate": rates, "measured": measured, "expected": expected}
            tables.append(pd.DataFrame(columns))
        return pd.concat(tables, ignore_index=True)

    def claims(self) -> list[dict[str, Any]]:
        rows = claims_on_moments(self.moments, "Lemma 1's")
        for state, table in self.contraction.groupby("inner_state", sort=False):
            error = (table["measured"] / table["expected"] - 1).abs()
            row = {"claim": "the long run contracts by the spectral radius", "case": state, "comparisons": error.size}
            rows.append(row | {"largest_relative_error": error.max(), "median_relative_error": error.median()})
        return rows

    def findings(self) -> Findings:
        return Findings(self.claims(), {"moments": self.moments, "contraction": self.contraction})


def check_sampled(model: noisy.NoisyQuadratic, settings: Any, example: str, keys: set[str]) -> None:
    """Raise a ValueError for settings that are no list of mappings with these keys, or where there is no noise."""
    if not isinstance(settings, list) or not settings:
        raise ValueError(f"settings must be a list of such as {example}, not {settings!r}")
    for setting in settings:
        if not isinstance(setting, dict) or set(setting) != keys:
            raise ValueError(f"a setting must be such as {example}, not {setting!r}")
    if not model.noise.all():
        raise ValueError("the noise must be above 0 in every coordinate: a score is in units of it")


def generator_of(seed: int, number: int, settings: int) -> torch.Generator:
    """Return the generator of one of several settings, each with samples of its own."""
    return torch.Generator().manual_seed((seed * settings + number) % 2**63)


def moments_by_round(
    chains: NoisyChains, rounds: int, setting: Mapping[str, Any], theory: Callable[[int], noisy.Moments]
) -> pd.DataFrame:
    """Take rounds of `setting`'s k updates; return the chains' moments after each beside those of the theory."""
    tables = []
    for done in range(1, rounds + 1):
        chains.step(setting["k"])
        seen, expected = chains.moments(), theory(done)
        columns = {**setting, "updates": done * setting["k"], "coordinate": np.arange(seen.mean.size)}
        columns |= {"mean": seen.mean, "expected_mean": expected.mean}
        columns |= {"variance": seen.variance, "expected_variance": expected.variance}
        tables.append(pd.DataFrame(columns | standard_scores(seen, expected, len(chains.weights))))
    return pd.concat(tables)


def claims_on_moments(moments: pd.DataFrame, whose: str) -> list[dict[str, Any]]:
    """Return a row for mean and variance each: the scores of a table of moments against whose theory."""
    rows = []
    for what in ("mean", "variance"):
        scores = moments[f"{what}_score"].abs()
        row = {"claim": f"the chains' {what} is {whose}", "comparisons": scores.size}
        rows.append(row | {"largest_score": scores.max(), "share_above_2": (scores > 2).mean()})
    return rows


def standard_scores(seen: noisy.Moments, expected: noisy.Moments, chains: int) -> dict[str, Array]:
    """Return how many standard errors a mean and a variance over normal chains lie from what is expected.

    These are sqrt(V / n) and V sqrt(2 / n).
    """
    variance = expected.variance
    return {
        "mean_score": (seen.mean - expected.mean) / np.sqrt(variance / chains),
        "variance_score": (seen.variance - variance) / (variance * np.sqrt(2 / chains)),
    }
