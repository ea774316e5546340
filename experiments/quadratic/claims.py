"""What Section 3 and Appendix A say of Lookahead on quadratics, as data: where each claim holds, ties and fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from experiments.quadratic.arguments import (
    Array,
    checked_alphas,
    checked_condition_numbers,
    checked_count,
    checked_grid,
    checked_ks,
    checked_rates,
)
from experiments.quadratic.best_rate import BestRate, RateSearch
from experiments.quadratic.comparisons import (
    EqualRisk,
    Horizons,
    equal_risk_gaps,
    equal_risk_gaps_by_round,
    horizons,
)
from experiments.quadratic.deterministic import critical_condition_number
from experiments.quadratic.grids import finer
from experiments.quadratic.noisy import NoisyQuadratic, best_by_round

# Relative margins up to this are ties: on the noisy quadratic, rounding of about 2000 factors and 1000 terms in float64
# stays below it. (A spectral radius at a double eigenvalue has half the digits; Figure 4's margins are far from both.)
TIE = 1e-9


@dataclass(frozen=True)
class Verdict:
    """How a claim "Lookahead is better" fares on a grid, from its relative margin there, above 0 where it is better."""

    margin: Array
    tie: float = TIE

    @property
    def holds(self) -> NDArray[np.bool_]:
        """Where it holds strictly."""
        return self.margin > self.tie

    @property
    def fails(self) -> NDArray[np.bool_]:
        """Where the opposite holds strictly."""
        return self.margin < -self.tie

    @property
    def ties(self) -> NDArray[np.bool_]:
        """Where neither does."""
        return ~(self.holds | self.fails)

    def summary(self) -> dict[str, Any]:
        """Return the numbers of points where it holds, ties and fails, and the least, median and largest margin."""
        counts = {name: int(getattr(self, name).sum()) for name in ("holds", "ties", "fails")}
        with np.errstate(invalid="ignore"):  # between -inf and inf there is no median
            margins = {f"margin_{name}": float(getattr(np, name)(self.margin)) for name in ("min", "median", "max")}
        return counts | margins


def variance_is_smaller(rates: ArrayLike, ks: ArrayLike, alphas: ArrayLike) -> Verdict:
    """Judge "Lookahead's variance fixed point is strictly smaller for alpha in (0, 1)" (remarks on Proposition 2).

    The margin 1 - V*_LA / V*_SGD has the shape (ks, alphas, rates) and needs only gamma a, here `rates` in (0, 2).
    With q = (1 - gamma a)^k it is 2 (1 - alpha) / (2 (1 - alpha) + alpha (1 + q)), which no rounding makes negative,
    so the tie is exact. Raises a ValueError for a value out of range.
    """
    power = (1 - checked_rates(np.ravel(rates), 1.0)) ** checked_ks(np.ravel(ks))[:, None, None]
    alphas = checked_alphas(np.ravel(alphas))[:, None]
    pulled = 2 * (1 - alphas)
    return Verdict(pulled / (pulled + alphas * (1 + power)), tie=0.0)


def same_risk_sooner(model: NoisyQuadratic, pairs: EqualRisk, updates: int) -> Verdict:
    """Judge "the same risk, but more quickly" (3.1) at exactly equal final loss; the margin's shape is (alphas, rates).

    A gain comes from the spread of the spectrum: small eigenvalues profit from Lookahead's larger learning rate, large
    ones from its average. See `same_risk_sooner_on_one_eigenvalue`.
    """
    return Verdict(equal_risk_gaps(model, pairs, updates).margin)


def same_risk_sooner_on_one_eigenvalue(rates: ArrayLike, k: int, alphas: ArrayLike) -> Verdict:
    """Judge the same where A has one eigenvalue a; `rates` is gamma a, in (0, 1]. The margin's shape: (alphas, rates).

    The margin is Lookahead's speed -log(rho) / k, where rho = 1 - alpha + alpha (1 - gamma a)^k is its factor of a
    round, over SGD's at the learning rate of the same variance, less 1. It never is positive: a variance that is as
    low costs SGD less. Raises a ValueError for a value out of range.
    """
    rates, alphas, k = np.ravel(rates), checked_alphas(np.ravel(alphas))[:, None], int(checked_ks(k))
    if not np.all((rates > 0) & (rates <= 1)):
        raise ValueError(f"gamma a must be in (0, 1], not in [{rates.min():.6g}, {rates.max():.6g}]")
    power = (1 - rates) ** k
    kept = alphas * (1 + power)
    variance = kept / (kept + 2 * (1 - alphas)) * rates / (2 - rates)  # V* / sigma^2, SGD's too
    sgd_rates = 2 * variance / (1 + variance)
    with np.errstate(divide="ignore", invalid="ignore"):  # with alpha = gamma a = 1 both are there at once
        ratio = -np.log1p(-alphas * (1 - power)) / k / -np.log1p(-sgd_rates)
    return Verdict(np.where(alphas == 1, 0.0, ratio - 1))


class FirstWin(NamedTuple):
    """By horizon, in inner updates: the share of alphas below 1 that win at some learning rate, and the best margin."""

    updates: NDArray[np.int64]
    share_of_alphas: Array
    best_margin: Array

    @property
    def first(self) -> int | None:
        """The first horizon at which an alpha below 1 wins, or None."""
        return first_of(self.updates, self.share_of_alphas > 0)


def first_win(model: NoisyQuadratic, pairs: EqualRisk, rounds: int) -> FirstWin:
    """Say at which of the horizons k, 2k, ... `rounds` k Lookahead wins at equal risk (A.1 on Figure 11(b)).

    Between them Lookahead rests, and SGD, whose loss falls, gets further. Raises a ValueError unless the pairs have
    an alpha below 1.
    """
    rounds = checked_count("rounds", rounds, least=1)
    below_1 = pairs.alpha[:, 0] < 1
    if not below_1.any():
        raise ValueError(f"an alpha below 1 is needed, not only {pairs.alpha[0, 0]:.6g}")
    verdict = Verdict(equal_risk_gaps_by_round(model, pairs, rounds).margin[below_1][..., 1:])
    updates = pairs.k * np.arange(1, rounds + 1)
    return FirstWin(updates, verdict.holds.any(axis=1).mean(axis=0), verdict.margin.max(axis=(0, 1)))


def first_of(horizons: NDArray[np.int64], where: NDArray[np.bool_]) -> int | None:
    """Return the first of the horizons at which `where` is true, or None; of reversed arrays it is the last."""
    return int(horizons[where.argmax()]) if where.any() else None


@dataclass(frozen=True)
class HorizonVerdicts:
    """Judge "Lookahead dominates SGD over all time horizons" (Figure 12), on its grid and on better ones.

    `against_finer` has the same Lookahead and an SGD that searches many more learning rates in the same range;
    in `wider` both search a wider range. Margins are relative to SGD's excess over the irreducible loss.
    """

    found: Horizons
    verdict: Verdict
    against_finer: Verdict
    wider: Horizons
    against_wider: Verdict

    @property
    def at_multiples(self) -> NDArray[np.bool_]:
        """The horizons at which the slow weights have just moved: a grid with alpha = 1 can only tie or win there."""
        return self.found.updates % self.found.k == 0


def dominates_at_every_horizon(
    model: NoisyQuadratic,
    updates: int,
    k: int,
    rates: ArrayLike,
    alphas: ArrayLike,
    wider: ArrayLike,
    times: int = 100,
) -> HorizonVerdicts:
    """Compare the best settings of SGD and Lookahead at 1 ... `updates` inner updates on three grids.

    The learning rates are `rates`, for SGD alone `times` as many of them, and for both those of `wider`. Raises a
    ValueError for a value out of range.
    """
    found, on_wider = (horizons(model, updates, k, grid, alphas) for grid in (rates, wider))
    finest = best_by_round(model, finer(rates, times), updates).excess[1:]
    against_finer = Verdict(1 - found.lookahead / finest)
    return HorizonVerdicts(found, Verdict(found.margin), against_finer, on_wider, Verdict(on_wider.margin))


def settings_at_edge(found: Horizons, largest_rate: float) -> dict[str, int]:
    """Return until which horizon SGD chooses the grid's largest learning rate without a break, and Lookahead.

    0 for one that does not do so at the first.
    """
    chosen = {"sgd": found.sgd_rate, "lookahead": found.lookahead_rate}
    # Before the first synchronization every setting of Lookahead is as good: the first horizon that tells is k.
    start = {"sgd": 0, "lookahead": found.k - 1}
    last = {}
    for name, rates in chosen.items():
        inside = np.flatnonzero(rates[start[name] :] != largest_rate)
        last[name] = int(start[name] + inside[0] if inside.size else rates.size)
    return {name: horizon if horizon > start[name] else 0 for name, horizon in last.items()}


class Damping(NamedTuple):
    """Momentum and Lookahead over condition numbers, each at its own best learning rate (Figure 4).

    The margin is Lookahead's 1 - rho over momentum's, less 1. `crossings` are the condition numbers at which it
    changes sign, `critical` the one up to which momentum is under-damped at its best learning rate.
    """

    condition_numbers: Array
    momentum: BestRate
    lookahead: BestRate
    verdict: Verdict
    crossings: list[float]
    critical: float


def better_when_under_damped(
    condition_numbers: ArrayLike,
    beta: float,
    k: int = 20,
    alpha: float = 0.5,
    inner_state: str = "maintain",
    whole_interval: bool = False,
    momentum: BestRate | None = None,
) -> Damping:
    """Judge "improves the rate when under-damped, slightly worse when over-damped" (3.2), where k and alpha are given.

    The crossings lie between neighbours of `condition_numbers`; two between the same pass unseen. Arguments and errors
    are those of `RateSearch`; `momentum` may bring momentum's own, at the sorted condition numbers, where it is known.
    """
    kappas = np.sort(checked_condition_numbers(checked_grid("condition_numbers", condition_numbers)))

    alone = RateSearch(beta, whole_interval=whole_interval)
    around = RateSearch(beta, k, alpha, inner_state, whole_interval)

    def margin(momentum: BestRate, lookahead: BestRate) -> Array:
        return (1 - lookahead.contraction) / (1 - momentum.contraction) - 1

    def margin_at(log: float) -> float:
        return margin(alone.best(np.exp(log)), around.best(np.exp(log)))[0]

    momentum, lookahead = momentum or alone.best(kappas), around.best(kappas)
    verdict = Verdict(margin(momentum, lookahead))
    # Where they tie, rounding changes the sign, as everywhere with alpha = 1.
    decided = np.flatnonzero(~verdict.ties)
    changes = np.flatnonzero(verdict.holds[decided[:-1]] != verdict.holds[decided[1:]])
    crossings = [float(np.exp(brentq(margin_at, *np.log(kappas[decided[i : i + 2]]), xtol=1e-6))) for i in changes]
    return Damping(kappas, momentum, lookahead, verdict, crossings, critical_condition_number(beta))
