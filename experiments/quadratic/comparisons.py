"""SGD and Lookahead on the noisy quadratic, side by side: the data of Figures 3, 11 and 12 (Appendix A.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import elementwise

from experiments.quadratic.arguments import Array, checked_count, checked_grid
from experiments.quadratic.noisy import (
    NoisyQuadratic,
    best_by_round,
    gap,
    gap_by_round,
    in_blocks,
    sgd_steady_variance,
    steady_excess,
)
from lookahead.arguments import checked_k

# The learning rates and alphas of Figure 12 (A.1): both evenly spaced on a logarithmic scale.
GRID_RATES = np.geomspace(1e-4, 1e-1, 100)
GRID_ALPHAS = np.geomspace(1e-4, 1.0, 50)


class Convergence(NamedTuple):
    """One curve of Figures 3 and 11(a) an alpha, a point a learning rate: shapes (alphas, rates).

    `final_excess` is the final loss over the irreducible one; add `model.irreducible_loss` for the paper's x-axis.
    """

    final_excess: Array
    gap: Array


class EqualRisk(NamedTuple):
    """Lookahead's settings, shape (alphas, rates), and the learning rate at which SGD has the very same final loss."""

    final_excess: Array
    rate: Array
    alpha: Array
    sgd_rate: Array
    k: int


class EqualRiskGaps(NamedTuple):
    """What is left to the final loss after some updates at equal final loss, and SGD's less Lookahead's over SGD's.

    Shapes (alphas, rates), or (alphas, rates, rounds + 1). The margin is above 0 where Lookahead's loss is lower; it is
    0 where both gaps are too small for float64, and infinite where SGD's alone is.
    """

    lookahead: Array
    sgd: Array
    margin: Array


@dataclass(frozen=True)
class Horizons:
    """The best expected losses at every horizon, over the irreducible loss, and the settings that reach them.

    All of shape (horizons,), for 1, 2, ... inner updates. Lookahead's are of the slow weights, which have moved at
    floor(T / k) k, so that SGD is up to k - 1 updates ahead. Before k no setting of Lookahead is better than another:
    they are nan.
    """

    k: int
    sgd: Array
    sgd_rate: Array
    lookahead: Array
    lookahead_rate: Array
    lookahead_alpha: Array

    @property
    def updates(self) -> NDArray[np.int64]:
        """The horizons T."""
        return np.arange(1, self.sgd.size + 1)

    @property
    def margin(self) -> Array:
        """SGD's excess less Lookahead's, over SGD's: above 0 where Lookahead is better."""
        return 1 - self.lookahead / self.sgd


def convergence(
    model: NoisyQuadratic, rates: ArrayLike, updates: int, k: int = 1, alphas: ArrayLike = (1.0,)
) -> Convergence:
    """Return final losses and what is left to them after `updates` inner updates; SGD's unless k and alphas are given.

    Raises a ValueError for a value out of range.
    """
    rates, alphas = checked_grid("rates", rates), checked_grid("alphas", alphas)[:, None]
    return Convergence(
        in_blocks(model, lambda rate, alpha: steady_excess(model, rate, k, alpha), rates, alphas),
        in_blocks(model, lambda rate, alpha: gap(model, rate, updates, k, alpha), rates, alphas),
    )


def sgd_rate_of_risk(model: NoisyQuadratic, final_excess: ArrayLike) -> Array:
    """Return the learning rate at which SGD's final loss exceeds the irreducible one by `final_excess`, elementwise.

    There is exactly one in (0, 2 / L), as the final loss rises from 0 to infinity there. Raises a ValueError where
    an excess is not above 0.
    """
    final_excess = np.asarray(final_excess, dtype=np.float64)
    if not np.all((final_excess > 0) & (final_excess < np.inf)):
        raise ValueError(f"final_excess must be finite and above 0, not {final_excess.min():.6g}")
    least, bound = np.finfo(float).tiny, np.nextafter(2 / model.largest, 0)

    def difference(rate: Array, wanted: Array) -> Array:
        with np.errstate(divide="ignore"):  # rounding may make the loss at the bound infinite, as it is there
            return sgd_steady_variance(model, rate) @ model.a / 2 - wanted

    def rate_of(excess: Array) -> Array:
        ends = np.full_like(excess, least), np.full_like(excess, bound)
        return elementwise.find_root(difference, ends, args=(excess,)).x

    return in_blocks(model, rate_of, final_excess)


def equal_risk(model: NoisyQuadratic, rates: ArrayLike, k: int, alphas: ArrayLike) -> EqualRisk:
    """Pair each of Lookahead's settings with the SGD that converges to the same risk (Section 3.1).

    Raises a ValueError for a value out of range.
    """
    rates, alphas = checked_grid("rates", rates), checked_grid("alphas", alphas)
    rate, alpha = np.broadcast_arrays(rates, alphas[:, None])
    final_excess = in_blocks(model, lambda rate, alpha: steady_excess(model, rate, k, alpha), rate, alpha)
    sgd_rate = np.where(alpha == 1, rate, sgd_rate_of_risk(model, final_excess))  # to the last digit
    return EqualRisk(final_excess, rate, alpha, sgd_rate, k)


def equal_risk_gaps(model: NoisyQuadratic, pairs: EqualRisk, updates: int) -> EqualRiskGaps:
    """Compare the pairs after `updates` inner updates; the slow weights are those of the last synchronization."""
    return _compared(model, pairs, lambda rate, k, alpha: gap(model, rate, updates, k, alpha), sgd_k=1)


def equal_risk_gaps_by_round(model: NoisyQuadratic, pairs: EqualRisk, rounds: int) -> EqualRiskGaps:
    """Compare the pairs after 0, 1, ... `rounds` rounds of k updates, which become a third axis."""
    return _compared(model, pairs, lambda rate, k, alpha: gap_by_round(model, rate, rounds, k, alpha), sgd_k=pairs.k)


def _compared(
    model: NoisyQuadratic, pairs: EqualRisk, gaps: Callable[[Array, int, ArrayLike], Array], sgd_k: int
) -> EqualRiskGaps:
    """Compute the gaps of both, SGD being Lookahead with alpha = 1 and any k, and the margin."""
    lookahead = in_blocks(model, lambda rate, alpha: gaps(rate, pairs.k, alpha), pairs.rate, pairs.alpha)
    sgd = in_blocks(model, lambda rate: gaps(rate, sgd_k, 1.0), pairs.sgd_rate)
    ahead = sgd - lookahead
    with np.errstate(divide="ignore"):  # SGD may be there to the last digit; where both are, it is a tie
        margin = np.divide(ahead, np.abs(sgd), out=np.zeros_like(ahead), where=ahead != 0)
    return EqualRiskGaps(lookahead, sgd, margin)


def horizons(
    model: NoisyQuadratic,
    updates: int,
    k: int = 5,
    rates: ArrayLike = GRID_RATES,
    alphas: ArrayLike = GRID_ALPHAS,
) -> Horizons:
    """Search the best settings at every horizon of 1 ... `updates` inner updates, constant up to it (Figure 12).

    Both search the same learning rates. Raises a ValueError for a value out of range.
    """
    updates, k = checked_count("updates", updates, least=1), checked_k(k)
    sgd = best_by_round(model, rates, updates)
    lookahead = best_by_round(model, rates, updates // k, k, alphas)
    at = np.arange(1, updates + 1) // k
    rate, alpha = (np.where(at > 0, values[at], np.nan) for values in (lookahead.rate, lookahead.alpha))
    return Horizons(k, sgd.excess[1:], sgd.rate[1:], lookahead.excess[at], rate, alpha)
