"""Where do W workers that meet every k steps lose against W that meet at every step: in closed form; not in the paper.

Every step, they are SGD with a batch W times as large; every k steps, Lookahead with 1/W of the noise, whose theta_k is
the mean of theirs. With alpha = 1 and no momentum both are the same here: an average of linear updates is the update of
the average. So it is with every alpha and momentum: meeting every k steps is as good as Lookahead around SGD that meets
at every step. A real loss is not quadratic, and workers may see different data; neither is in this model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from experiments.engine.analysis import Findings
from experiments.quadratic import noisy, outer_momentum
from experiments.quadratic.arguments import (
    Array,
    checked_alphas,
    checked_count,
    checked_grid,
    checked_ks,
    checked_rates,
)
from experiments.quadratic.best_at_risk import OBJECTIVES, Best, Search, at_given_steps
from experiments.quadratic.claims import Verdict
from experiments.quadratic.outer_comparison import (
    NAMES,
    checked_given,
    compared,
    given_in_words,
    settings_table,
    when,
)

LOCAL, EVERY_STEP = ("lookahead", "lookahead_nesterov"), ("sgd", "sgd_nesterov")


@dataclass
class LocalWorkers:
    """The comparison on one noisy quadratic, at equal settings and at exactly equal final loss.

    Args:
        model: the noisy quadratic.
        workers: W, on both sides; the same number of updates and of samples.
        ks: how many steps there are between meetings, shape (ks,).
        updates: after how many inner updates losses are compared, a multiple of each k.
        rates, alphas: the grid of equal settings, without momentum.
        sgd_rates: the learning rates of meeting at every step whose final losses all have, shape (final losses,).
        given: settings of one's own beside the best ones: alpha, mu, and whether the momentum is Nesterov's.

    Raises:
        ValueError: a value is out of range.
    """

    model: noisy.NoisyQuadratic
    workers: int
    ks: list[int]
    updates: int
    rates: Array
    alphas: Array
    sgd_rates: Array
    given: list[dict[str, Any]]

    def __post_init__(self) -> None:
        noisy.checked_noisy(self.model)
        self.workers = checked_count("workers", self.workers, least=1)
        self.ks = np.unique(checked_ks(np.atleast_1d(self.ks))).tolist()
        if not self.ks:
            raise ValueError("ks must hold at least one value, not none")
        self.updates = checked_count("updates", self.updates, least=self.ks[-1])
        for k in self.ks:
            if self.updates % k:
                raise ValueError(f"updates must be a multiple of every k, which {self.updates} is not of {k}")
        for name in ("rates", "sgd_rates"):
            setattr(self, name, checked_rates(np.unique(checked_grid(name, getattr(self, name))), self.model.largest))
        self.alphas = checked_alphas(np.unique(checked_grid("alphas", self.alphas)))
        self.given = checked_given(self.given)

    @cached_property
    def at_equal_settings(self) -> Array:
        """By how much lower the expected excess is after the updates than at every step, shape (ks, alphas, rates)."""
        every = self._excess(outer_momentum.sgd(self.model, self.rates, 0.0, nesterov=False, workers=self.workers))
        local = [self._local_excess(k) for k in self.ks]
        return 1 - np.array(local) / every

    def _local_excess(self, k: int) -> Array:
        def excess(rate: Array, alpha: Array) -> Array:
            return self._excess(outer_momentum.lookahead(self.model, rate, k, alpha, 0.0, False, self.workers))

        return noisy.in_blocks(self.model, excess, self.rates, self.alphas[:, None], held=outer_momentum.HELD)

    def _excess(self, rounds: outer_momentum.Rounds) -> Array:
        return outer_momentum.steady_excess(self.model, rounds) + outer_momentum.gap(self.model, rounds, self.updates)

    @cached_property
    def final_excess(self) -> Array:
        """The final losses over the irreducible one, those of meeting at every step at `sgd_rates`."""
        return noisy.steady_excess(self.model, self.sgd_rates) / self.workers

    @cached_property
    def every_step(self) -> dict[str, dict[str, Best]]:
        """The best settings of meeting at every step, by objective and method."""
        search = Search(self.model, 1, self.updates, self.workers)
        return {goal: {name: search.best(self.final_excess, name, goal) for name in EVERY_STEP} for goal in OBJECTIVES}

    @cached_property
    def local(self) -> dict[int, dict[str, dict[str, Best]]]:
        """The best and the given settings of meeting every k steps, by k, objective and method."""
        found = {}
        for k in self.ks:
            search = Search(self.model, k, self.updates, self.workers)
            given = {given_in_words(**one): at_given_steps(search, self.final_excess, **one) for one in self.given}
            found[k] = {
                goal: given | {name: search.best(self.final_excess, name, goal) for name in LOCAL}
                for goal in OBJECTIVES
            }
        return found

    def claims(self) -> list[dict[str, Any]]:
        rows = []
        for k, margin in zip(self.ks, self.at_equal_settings, strict=True):
            for words, which in (("alpha 1", self.alphas == 1), ("alpha below 1", self.alphas < 1)):
                if which.any():
                    row = {"claim": "at equal settings, meeting every k steps is lower", "case": f"k {k}, {words}"}
                    rows.append(row | Verdict(margin[which]).summary())
        for k, by_goal in self.local.items():
            for goal, by_method in by_goal.items():
                for name, found in by_method.items():
                    for other, best in self.every_step[goal].items():
                        claim = f"{NAMES.get(name, name)} is sooner than {NAMES[other]} at every step"
                        row = {"claim": claim, "case": f"k {k}, {when(goal, self.updates)}"}
                        rows.append(row | compared(found, best, goal))
        return rows

    def findings(self) -> Findings:
        columns = {"sgd_rate": self.sgd_rates, "final_excess": self.final_excess}
        every = settings_table(self.every_step, columns | {"k": 1})
        local = [settings_table(by_goal, columns | {"k": k}) for k, by_goal in self.local.items()]
        arrays = {
            "ks": np.array(self.ks),
            "alphas": self.alphas,
            "rates": self.rates,
            "margin": self.at_equal_settings,
        }
        return Findings(self.claims(), {"best": pd.concat([every, *local])}, {"equal_settings": arrays})
