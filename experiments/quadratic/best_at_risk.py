"""The best settings of each method at exactly equal final loss: Figure 3's comparison, with momentum and free settings.

A method's final loss rises with its outer step from 0 on, as long as it is stable. So at every learning rate and
momentum there is at most one alpha (of SGD at every momentum one learning rate) with the final loss that is wanted; it
is found to the last digits, and learning rate and momentum are searched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import elementwise

from experiments.quadratic.arguments import Array, checked_choices, checked_count, checked_grid
from experiments.quadratic.noisy import NoisyQuadratic, in_blocks
from experiments.quadratic.outer_momentum import (
    InnerLoop,
    Rounds,
    distance,
    inner_sgd,
    largest_stable_pull,
    lookahead,
    one_gradient,
    speed,
    steady_excess,
    with_momentum,
)
from lookahead.arguments import checked_k

# Learning rates in units of 2 / L, and 1 - mu, of the grid that comes first; then closer looks at its best point.
RATES = np.append(np.geomspace(5e-3, 0.8, 24), [0.85, 0.9, 0.94, 0.97, 0.99, 0.999])
SLACKS = np.geomspace(1.0, 1e-6, 31)
RATE_ZOOMS, MOMENTUM_ZOOMS, CLOSER_ZOOMS, ZOOM_POINTS = 5, 7, 11, 7
# Relative margins up to this are ties: two searches for the same best settings agree to about 1e-4.
TIE = 1e-3
LEAST_STEP = 1e-15  # of the largest possible
HELD = 2


@dataclass(frozen=True)
class Method:
    """A method with its free settings: an inner loop's learning rate or none, and momentum or none.

    `within` is the method that this one is with fewer free settings: it never is worse.
    """

    inner_loop: bool
    momentum: bool
    nesterov: bool = False
    within: str | None = None


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "sgd": Method(False, False),
        "sgd_heavy_ball": Method(False, True, within="sgd"),
        "sgd_nesterov": Method(False, True, nesterov=True, within="sgd"),
        "lookahead": Method(True, False, within="sgd"),
        "lookahead_heavy_ball": Method(True, True, within="lookahead"),
        "lookahead_nesterov": Method(True, True, nesterov=True, within="lookahead"),
    }
)
OBJECTIVES = ("distance", "speed")


class Best(NamedTuple):
    """The best settings of a method at each final loss, each of shape (final losses,), and what they come to.

    `rate` is gamma; SGD's alpha is 1. All are nan where the method cannot have this final loss.
    """

    rate: Array
    alpha: Array
    mu: Array
    distance: Array
    speed: Array


class Tried(NamedTuple):
    """Settings of one final loss, and what is to be least: the distance, or the speed's negative; infinite for none."""

    rate: Array
    alpha: Array
    mu: Array
    cost: Array


@dataclass(frozen=True)
class Search:
    """The search for the best settings at final losses over the irreducible one, of shape (final losses,).

    Args:
        model: the noisy quadratic.
        k: the synchronization period of methods with an inner loop.
        updates: the inner updates after which the distance is taken.
        workers: whose theta_k (or gradients) are averaged.

    Raises:
        ValueError: a value is out of range.
    """

    model: NoisyQuadratic
    k: int
    updates: int
    workers: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", checked_k(self.k))
        for name, least in (("updates", self.k), ("workers", 1)):
            object.__setattr__(self, name, checked_count(name, getattr(self, name), least))

    def best(self, final_excess: ArrayLike, name: str, objective: str) -> Best:
        """Return a method's settings with the least `distance` after the updates, or with the most `speed`.

        Raises a ValueError for an unknown method or objective, or a final loss not above 0.
        """
        (name,) = checked_choices("the method", name, METHODS)
        (objective,) = checked_choices("the objective", objective, OBJECTIVES)
        wanted, method = checked_final_excess(final_excess), METHODS[name]
        found = self._searched(wanted, method, objective)
        there = np.isfinite(found.rate)
        loop = self._loop(method, np.where(there, found.rate, 1 / self.model.largest))
        step = found.alpha if method.inner_loop else found.rate
        rounds = with_momentum(loop, step, found.mu, method.nesterov)
        ends = distance(self.model, rounds, self.updates), speed(rounds)
        best = Best(*(np.where(there, values, np.nan) for values in (*found[:3], *ends)))
        if method.within is None:
            return best
        fewer = self.best(wanted, method.within, objective)
        worse = fewer.distance > best.distance if objective == "distance" else fewer.speed < best.speed
        return Best(*(np.where(worse, *pair) for pair in zip(best, fewer, strict=True)))

    def _searched(self, wanted: Array, method: Method, objective: str) -> Tried:
        """Search learning rates, and at each of them momenta: the best is at a kink, which moves with the rate."""

        def at_rates(log_rate: Array, zooms: int = MOMENTUM_ZOOMS) -> Tried:
            slacks = np.log(SLACKS if method.momentum else SLACKS[:1])
            rate, target = np.exp(log_rate).reshape(-1, 1), np.repeat(wanted, log_rate.shape[1])[:, None]

            def at_momenta(log_slack: Array) -> Tried:
                return self._at(method, objective, rate, 1 - np.exp(log_slack), target)

            found = _least(at_momenta, np.tile(slacks, (log_rate.size, 1)), zooms)
            return Tried(*(values.reshape(log_rate.shape) for values in found))

        rates = np.log(RATES * 2 / self.model.largest if method.inner_loop else RATES[:1])
        best = _least(at_rates, np.tile(rates, (wanted.size, 1)), RATE_ZOOMS)
        if not method.momentum:
            return best
        there = np.isfinite(best.cost) & method.inner_loop  # without an inner loop no learning rate is beside the step
        closer = at_rates(np.log(np.where(there, best.rate, np.exp(rates[0])))[:, None], CLOSER_ZOOMS)
        return _better(Tried(*(values[:, 0] for values in closer)), best)

    def _at(self, method: Method, objective: str, rate: Array, mu: Array, target: Array) -> Tried:
        """Return the settings with the final loss that is wanted at learning rates and momenta, which broadcast."""

        def tried(rate: Array, mu: Array, target: Array) -> Array:
            loop, most = self._loop(method, rate), np.ones_like(rate)
            if not method.inner_loop:
                most = largest_stable_pull(mu, method.nesterov) / self.model.largest
            step = step_of_risk(self.model, loop, mu, method.nesterov, target, most)
            rounds = with_momentum(loop, step, mu, method.nesterov)
            cost = distance(self.model, rounds, self.updates) if objective == "distance" else -speed(rounds)
            setting = (rate, step) if method.inner_loop else (step, np.ones_like(step))
            return np.where(np.isnan(step), [[np.nan]] * 3 + [[np.inf]], np.stack([*setting, mu, cost])).T

        return Tried(*np.moveaxis(in_blocks(self.model, tried, rate, mu, target, held=HELD), -1, 0))

    def _loop(self, method: Method, rate: Array) -> InnerLoop:
        if method.inner_loop:
            return inner_sgd(self.model, rate, self.k, self.workers)
        one = one_gradient(self.model, self.workers)
        shape = (*rate.shape, self.model.a.size)
        return InnerLoop(np.broadcast_to(one.pull, shape), np.broadcast_to(one.noise, shape), 1)


def step_of_risk(
    model: NoisyQuadratic, loop: InnerLoop, mu: Array, nesterov: bool, final_excess: Array, most: Array
) -> Array:
    """Return the outer step, up to `most`, at which the final loss is the wanted one; nan where none is.

    All but the model and `nesterov` have one shape, the loop's arrays with the coordinates as a last axis.
    """

    def log_excess(log_step: Array, number: Array) -> Array:
        number = number.astype(np.int64)
        part = InnerLoop(loop.pull[number], loop.noise[number], loop.k)
        excess = steady_excess(model, with_momentum(part, np.exp(log_step), mu[number], nesterov))
        return np.log(np.minimum(excess, np.finfo(float).max)) - np.log(final_excess[number])  # not stable: above any

    numbers, high = np.arange(mu.size), np.log(most)
    return np.exp(_log_root(log_excess, high, numbers))


def at_given_steps(search: Search, final_excess: ArrayLike, alpha: float, mu: float, nesterov: bool = True) -> Best:
    """Return Lookahead with an alpha and a momentum of one's own, at a learning rate with each final loss.

    nan where no learning rate in (0, 2 / L) has it. Where several have, one of them. Raises a ValueError for a value
    out of range.
    """
    model, wanted = search.model, checked_final_excess(final_excess)

    def rounds_at(rate: Array) -> Rounds:
        return lookahead(model, rate, search.k, alpha, mu, nesterov, search.workers)

    def log_excess(log_rate: Array, number: Array) -> Array:
        excess = steady_excess(model, rounds_at(np.exp(log_rate)))
        return np.log(np.minimum(excess, np.finfo(float).max)) - np.log(wanted[number.astype(np.int64)])

    high = np.full(wanted.shape, np.log(2 / model.largest) - 1e-12)
    rate = np.exp(_log_root(log_excess, high, np.arange(wanted.size)))
    there = np.isfinite(rate)
    rounds = rounds_at(np.where(there, rate, 1 / model.largest))
    found = Best(
        rate, *np.full((2, wanted.size), [[alpha], [mu]]), distance(model, rounds, search.updates), speed(rounds)
    )
    return Best(*(np.where(there, values, np.nan) for values in found))


def _log_root(function: Callable[[Array, Array], Array], high: Array, numbers: Array) -> Array:
    """Return where function(x, number) rises through 0 below `high`, elementwise; nan where it is below 0 there."""
    root = np.full(high.shape, np.nan)
    inside = function(high, numbers) > 0
    if inside.any():
        ends = (high + np.log(LEAST_STEP))[inside], high[inside]
        with np.errstate(invalid="ignore"):  # of its interpolation, where it then bisects
            root[inside] = elementwise.find_root(function, ends, args=(numbers[inside],)).x
    return root


def checked_final_excess(final_excess: ArrayLike) -> Array:
    """Return final losses over the irreducible one in one row; a ValueError unless each is finite and above 0."""
    wanted = checked_grid("final_excess", final_excess)
    if not np.all((wanted > 0) & (wanted < np.inf)):
        raise ValueError(f"final_excess must be finite and above 0, not {wanted.min():.6g}")
    return wanted


def _better(first: Tried, second: Tried) -> Tried:
    """Return the better settings at each final loss, the first where both are equal."""
    return Tried(*(np.where(first.cost <= second.cost, *pair) for pair in zip(first, second, strict=True)))


def _least(function: Callable[[Array], Tried], axis: Array, zooms: int) -> Tried:
    """Return the best of each row of points, after looking ever closer between its neighbours; a single point stays."""
    best = None
    for _ in range(zooms + 1 if axis.shape[1] > 1 else 1):
        found = function(axis)
        place = found.cost.argmin(1)[:, None]
        now = Tried(*(np.take_along_axis(values, place, 1)[:, 0] for values in found))
        best = now if best is None else _better(best, now)
        ends = np.clip(place + np.array([-1, 1]), 0, axis.shape[1] - 1)
        low, high = np.take_along_axis(axis, ends, 1).T[..., None]
        axis = low + (high - low) * np.linspace(0, 1, ZOOM_POINTS)
    return best
