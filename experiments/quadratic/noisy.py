"""The noisy quadratic model of Section 3.1: expected dynamics of SGD and of Lookahead around it, in closed form.

A and Sigma are diagonal, so each coordinate evolves by itself. With r = 1 - gamma a, SGD's mean contracts by r at an
update (Equation 8) and Lookahead's by rho = 1 - alpha + alpha r^k at a round of k (Equation 10); the variance's
distance from its fixed point contracts by the square. The expected loss after n rounds is thus

    1/2 sum_i a_i (sigma_i^2 + V*_i)  +  1/2 sum_i a_i (E[theta_0]_i^2 - V*_i) rho_i^(2n),

and nothing needs unrolling. SGD is Lookahead with k = 1 and alpha = 1. The *excess* is the loss less the irreducible
1/2 sum_i a_i sigma_i^2.

Arguments named rate (gamma), k, alpha, updates and rounds may be arrays, which broadcast together; results that are
a number a coordinate have the coordinates as a last axis.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import ThreadpoolController

from experiments.quadratic.arguments import (
    MOST,
    Array,
    checked_alphas,
    checked_count,
    checked_grid,
    checked_ks,
    checked_number,
    checked_rates,
    checked_spectrum,
    checked_values,
)

# Settings that a search looks at together, and numbers, a setting and a coordinate each, that are computed at a time:
# about 1 MB, so that they stay in the cache.
BLOCK, CACHED = 200, 2**17


@dataclass(frozen=True)
class NoisyQuadratic:
    """Equation 4 in the eigenbasis of A, with its minimum at 0.

    Args:
        a: the eigenvalues of A, shape (d,).
        noise: the diagonal of Sigma, variances sigma_i^2, shape (d,) or a number.
        start: theta_0, the same in every run, shape (d,) or a number.

    Raises:
        ValueError: an eigenvalue is not above 0, a variance is below 0, a value is not finite, or shapes differ.
    """

    a: Array
    noise: Array
    start: Array

    def __post_init__(self) -> None:
        a = checked_spectrum(self.a)
        object.__setattr__(self, "a", a)
        for name, least in (("noise", 0.0), ("start", -np.inf)):
            values = checked_values(name, getattr(self, name), least)
            if values.ndim > 1 or values.size not in (1, a.size):
                raise ValueError(f"{name} must be a number or have the spectrum's shape {a.shape}, not {values.shape}")
            object.__setattr__(self, name, np.broadcast_to(values, a.shape))
        with np.errstate(over="ignore"):
            loss = (self.start**2 + self.noise) @ a / 2
        if not loss < np.inf:
            raise ValueError(f"the expected loss at the start must be finite, not {loss}: start or noise are too large")

    @property
    def largest(self) -> float:
        """L, the largest eigenvalue."""
        return float(self.a.max())

    @property
    def irreducible_loss(self) -> float:
        """The expected loss at the minimum, 1/2 sum_i a_i sigma_i^2."""
        return float(self.a @ self.noise / 2)

    def excess(self, mean: Array, variance: Array) -> Array:
        """Return the expected loss over the irreducible one (Equation 5), summed over the last axis."""
        return (mean**2 + variance) @ self.a / 2


def worst_case(
    dimension: int, condition_number: float, largest: float = 1.0, start: float = 1.0, start_power: float = 0.0
) -> NoisyQuadratic:
    """Return the model of A.1: Li's worst-case spectrum [21] and Sigma = A^-1.

    The spectrum is read as the extreme nodes of a Chebyshev polynomial on [L / condition_number, L], L = `largest`.
    theta_0 is start * a^start_power: the power 0 starts at one distance in every coordinate, -1/2 at one loss. Raises
    a ValueError where the dimension is below 2, the condition number below 1 or L not above 0.
    """
    dimension = checked_count("the dimension", dimension, least=2, most=MOST)
    largest = float(checked_spectrum(checked_number("L, the largest eigenvalue,", largest))[0])
    smallest = largest / checked_number("the condition number", condition_number, least=1.0)
    start, start_power = checked_number("start", start), checked_number("start_power", start_power)
    nodes = np.cos(np.linspace(0.0, np.pi, dimension))
    a = (largest + smallest) / 2 + (largest - smallest) / 2 * nodes
    a[0], a[-1] = largest, smallest  # which the sums only meet up to rounding
    with np.errstate(divide="ignore", over="ignore"):  # what is not finite is refused
        return NoisyQuadratic(a, 1 / a, start * a**start_power)


def checked_noisy(model: NoisyQuadratic) -> NoisyQuadratic:
    """Return the model; a ValueError unless it is one, with noise: without, every final loss is the same."""
    if not isinstance(model, NoisyQuadratic):
        raise ValueError(f"the model must be a noisy quadratic (quadratic=worst_case or eigenvalues), not {model!r}")
    if not model.noise.any():
        raise ValueError("the noise must be above 0 in some coordinate, not 0 in all")
    return model


class Moments(NamedTuple):
    """Mean and variance of the iterates, each with the coordinates as the last axis."""

    mean: Array
    variance: Array


def sgd_factor(model: NoisyQuadratic, rate: ArrayLike) -> Array:
    """Return r = 1 - gamma a (Equation 8); a ValueError unless 0 < gamma < 2 / L."""
    return 1 - checked_rates(rate, model.largest)[..., None] * model.a


def lookahead_factor(model: NoisyQuadratic, rate: ArrayLike, k: ArrayLike, alpha: ArrayLike) -> Array:
    """Return rho = 1 - alpha + alpha (1 - gamma a)^k (Equation 10); a ValueError for a value out of range."""
    alpha = checked_alphas(alpha)[..., None]
    return (1 - alpha) + alpha * sgd_factor(model, rate) ** checked_ks(k)[..., None]


def sgd_steady_variance(model: NoisyQuadratic, rate: ArrayLike) -> Array:
    """Return V*_SGD (Equation 6, with Sigma for its Sigma^2), which is gamma a sigma^2 / (2 - gamma a)."""
    rate_a = checked_rates(rate, model.largest)[..., None] * model.a
    return rate_a * model.noise / (2 - rate_a)


def lookahead_steady_variance(model: NoisyQuadratic, rate: ArrayLike, k: ArrayLike, alpha: ArrayLike) -> Array:
    """Return V*_LA (Equation 7): V*_SGD times a factor that is below 1 for alpha < 1, and 1 for alpha = 1."""
    alpha = checked_alphas(alpha)[..., None]
    power = sgd_factor(model, rate) ** checked_ks(k)[..., None]
    # Equation 7 divided through by alpha (1 - r^k), which is near 0 for small learning rates.
    kept = alpha * (1 + power)
    return kept / (kept + 2 * (1 - alpha)) * sgd_steady_variance(model, rate)


def sgd_moments(model: NoisyQuadratic, rate: ArrayLike, updates: ArrayLike) -> Moments:
    """Return SGD's mean and variance after a number of updates (Equations 8 and 9)."""
    return lookahead_moments(model, rate, k=1, alpha=1.0, rounds=updates)


def lookahead_moments(
    model: NoisyQuadratic, rate: ArrayLike, k: ArrayLike, alpha: ArrayLike, rounds: ArrayLike
) -> Moments:
    """Return mean and variance of the slow weights after a number of rounds of k updates (Lemma 1)."""
    factor = lookahead_factor(model, rate, k, alpha) ** np.asarray(rounds)[..., None]
    steady = lookahead_steady_variance(model, rate, k, alpha)
    return Moments(factor * model.start, (1 - factor**2) * steady)


def steady_excess(model: NoisyQuadratic, rate: ArrayLike, k: ArrayLike = 1, alpha: ArrayLike = 1.0) -> Array:
    """Return the final loss over the irreducible one, 1/2 sum_i a_i V*_i; SGD's unless k and alpha are given."""
    return lookahead_steady_variance(model, rate, k, alpha) @ model.a / 2


def gap(model: NoisyQuadratic, rate: ArrayLike, updates: ArrayLike, k: ArrayLike = 1, alpha: ArrayLike = 1.0) -> Array:
    """Return the expected loss after `updates` inner updates less the final loss, the y-axis of Figures 3 and 11.

    The slow weights are those of the last synchronization. SGD's unless k and alpha are given; below 0 where the loss
    rises to its final value.
    """
    updates = checked_values("updates", updates, 0.0)
    if np.any(updates % 1):
        raise ValueError(f"updates must be whole, not {updates[updates % 1 > 0].flat[0]:.6g}")
    rounds = updates.astype(np.int64) // checked_ks(k)
    factor = lookahead_factor(model, rate, k, alpha)
    distance = model.start**2 - lookahead_steady_variance(model, rate, k, alpha)
    return (factor ** (2 * rounds[..., None]) * distance) @ model.a / 2


def in_blocks(model: NoisyQuadratic, function: Callable[..., Array], *settings: ArrayLike, held: int = 1) -> Array:
    """Return function(*settings), of settings that broadcast, computed for as many at a time as the cache holds.

    The function takes settings of shape (settings,), holds some numbers a setting and a coordinate, `held` times as
    many as `lookahead_factor` does, and returns an array with the settings as first axis.
    """
    arrays = np.broadcast_arrays(*settings)
    shape, columns = arrays[0].shape, [array.ravel() for array in arrays]
    size = max(1, CACHED // (held * model.a.size))
    starts = range(0, max(1, columns[0].size), size)  # one part where there are no settings
    joined = np.concatenate([function(*(column[i : i + size] for column in columns)) for i in starts])
    return joined.reshape(shape + joined.shape[1:])


def gap_by_round(model: NoisyQuadratic, rate: ArrayLike, rounds: int, k: int = 1, alpha: ArrayLike = 1.0) -> Array:
    """Return `gap` after 0, 1, ... `rounds` rounds of k updates, of shape (*settings, rounds + 1).

    rate and alpha broadcast to the settings. SGD's, an update a round, unless k and alpha are given; with alpha = 1
    SGD's at every k-th update.
    """
    return _left_by_round(model, rate, rounds, k, alpha, lookahead_steady_variance(model, rate, k, alpha))


def excess_by_round(model: NoisyQuadratic, rate: ArrayLike, rounds: int, k: int = 1, alpha: ArrayLike = 1.0) -> Array:
    """Return the expected loss over the irreducible one, as `gap_by_round` does what is left to the final loss."""
    steady = lookahead_steady_variance(model, rate, k, alpha)
    return (steady @ model.a / 2)[..., None] + _left_by_round(model, rate, rounds, k, alpha, steady)


def _left_by_round(
    model: NoisyQuadratic, rate: ArrayLike, rounds: int, k: int, alpha: ArrayLike, steady: Array
) -> Array:
    count = checked_count("rounds", rounds, least=0) + 1
    factor = lookahead_factor(model, rate, k, alpha)
    return _sums_of_powers(model.a / 2 * (model.start**2 - steady), factor * factor, count)


def _sums_of_powers(weights: Array, bases: Array, count: int) -> Array:
    """Return sum_i w_i b_i^n for n = 0 ... count - 1, over the last axis of both, which becomes that of n.

    With n = p m + q, b^n is (b^m)^p b^q: about 2 sqrt(count) powers a term are enough, and a matrix product of the
    two sets sums them.
    """
    shape, terms = weights.shape[:-1], weights.shape[-1]
    weights, bases = weights.reshape(-1, terms), bases.reshape(-1, terms)
    near = math.isqrt(count - 1) + 1
    far = -(-count // near)
    sums = np.empty((len(weights), far, near))
    together = max(1, min(CACHED // (near * terms), len(weights)))
    small, large = (np.empty((together, length, terms)) for length in (near, far))
    # The products are so small that to share them between threads takes longer, far longer on a busy machine.
    with _libraries().limit(limits=1, user_api="blas"):
        for start in range(0, len(weights), together):
            block = slice(start, start + together)
            settings = len(weights[block])
            _fill_with_powers(small[:settings], 1.0, bases[block])
            _fill_with_powers(large[:settings], weights[block], small[:settings, -1] * bases[block])
            np.matmul(large[:settings], small[:settings].swapaxes(-1, -2), out=sums[block])
    return sums.reshape(*shape, far * near)[..., :count]


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _fill_with_powers(out: Array, first: Array | float, bases: Array) -> None:
    """Write first * bases^j into out[:, j], of shape (settings, powers, terms)."""
    out[:, 0] = first
    for j in range(1, out.shape[1]):
        np.multiply(out[:, j - 1], bases, out=out[:, j])


class Best(NamedTuple):
    """The smallest excess over a grid of settings after each number of rounds, and where it is; shape (rounds + 1,)."""

    excess: Array
    rate: Array
    alpha: Array


def best_by_round(model: NoisyQuadratic, rates: ArrayLike, rounds: int, k: int = 1, alphas: ArrayLike = (1.0,)) -> Best:
    """Search every pair of `rates` and `alphas` for the least expected loss after 0, 1, ... `rounds` rounds.

    SGD's, an update a round, unless k and alphas are given. Raises a ValueError for a value out of range.
    """
    best = Best(*(np.full(rounds + 1, np.inf) for _ in range(3)))
    columns = np.arange(rounds + 1)
    for rate, alpha in _blocks(checked_grid("rates", rates), checked_grid("alphas", alphas)):
        curves = excess_by_round(model, rate, rounds, k, alpha).reshape(-1, rounds + 1)
        first = curves.argmin(axis=0)
        least = curves[first, columns]
        better = least < best.excess
        pairs = [values.ravel() for values in np.broadcast_arrays(rate, alpha)]
        for kept, found in zip(best, (least, *(values[first] for values in pairs)), strict=True):
            kept[better] = found[better]
    return best


def _blocks(rates: Array, alphas: Array) -> Iterator[tuple[Array, Array]]:
    """Split the grid into blocks of about BLOCK pairs: a column of rates with a row of alphas."""
    high = max(1, BLOCK // max(1, alphas.size))
    for i in range(0, rates.size, high):
        for j in range(0, alphas.size, BLOCK):
            yield rates[i : i + high, None], alphas[j : j + BLOCK]
