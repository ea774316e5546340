"""The quadratic without noise of Section 3.2: classical momentum and Lookahead around it as linear dynamical systems.

In the eigenbasis of A each coordinate evolves by itself. Its state is (theta, v), as torch's SGD keeps it:
v <- beta v + a theta, then theta <- theta - eta v. A round of Lookahead takes k such updates and interpolates; the
spectral radius of its matrix, to the power 1/k, is the rate of contraction of one update. The radius depends on eta
and a only through their product. Appendix B.1's larger matrices have the same spectrum, and zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from experiments.quadratic.arguments import (
    Array,
    checked_alpha,
    checked_beta,
    checked_count,
    checked_rates,
    checked_spectrum,
)
from lookahead.arguments import INNER_STATES, checked_k

# What a synchronization makes of the velocity: how much of the fast one, and how much of the slow one.
VELOCITY: dict[str, Callable[[float], tuple[float, float]]] = {
    "maintain": lambda alpha: (1.0, 0.0),
    "interpolate": lambda alpha: (alpha, 1 - alpha),
    "reset": lambda alpha: (0.0, 0.0),
}


class PaperMatrices(NamedTuple):
    """The factors of B.1's round matrix L B^(k-1) T, each of shape (d, k + 1, k + 1): one system an eigenvalue."""

    lookahead: Array
    momentum: Array
    transition: Array

    def round(self) -> Array:
        """Return L B^(k-1) T, which takes [theta_{t-1,0}, theta_{t-2,k} ... theta_{t-2,1}] a round further."""
        k = self.momentum.shape[-1] - 1
        return self.lookahead @ np.linalg.matrix_power(self.momentum, k - 1) @ self.transition


def momentum_matrix(a: ArrayLike, rate: ArrayLike, beta: float) -> Array:
    """Return the matrix of one update of classical momentum on (theta, v), shape (..., 2, 2), a and rate broadcast.

    Raises a ValueError where a or beta is out of range, or the learning rate not in (0, 2 (1 + beta) / L).
    """
    rate_a, a, rate, beta = _checked(a, rate, beta)
    return _stacked([[1 - rate_a, -rate * beta], [a, np.full_like(rate_a, beta)]])


def round_matrix(
    a: ArrayLike, rate: ArrayLike, beta: float, k: int = 1, alpha: float = 1.0, inner_state: str = "maintain"
) -> Array:
    """Return the matrix of one round of Lookahead over momentum on (theta, v), shape (..., 2, 2).

    a and rate broadcast. k = 1 with alpha = 1 is momentum itself. `inner_state` says what a synchronization does to
    the velocity: "maintain", "interpolate" or "reset". Raises a ValueError for a value out of range.
    """
    return _stacked(_round_entries(a, rate, beta, k, alpha, inner_state))


def paper_matrices(a: ArrayLike, rate: float, beta: float, k: int, alpha: float) -> PaperMatrices:
    """Return the matrices of Appendix B.1, for each eigenvalue of the spectrum a; the velocity is maintained.

    Raises a ValueError for a value out of range; k must be 2 or more, as theta_{t-2,k-1} is part of the state.
    """
    k = checked_count("k in the block matrices of Appendix B.1", k, least=2)
    alpha = checked_alpha(alpha)
    a = checked_spectrum(a)
    rate_a, _, _, beta = _checked(a, rate, beta)
    size = k + 1
    shifted = np.broadcast_to(np.eye(size, k=-1), (a.size, size, size))
    lookahead, momentum, transition = shifted.copy(), shifted.copy(), shifted.copy()
    lookahead[:, 0, 0], lookahead[:, 0, -1] = alpha, 1 - alpha
    momentum[:, 0, 0], momentum[:, 0, 1] = 1 + beta - rate_a, -beta
    transition[:, 0, 0], transition[:, 0, 1], transition[:, 0, 2] = 1 - rate_a, beta, -beta
    return PaperMatrices(lookahead, momentum, transition)


def spectral_radius(matrices: Array) -> Array:
    """Return the largest modulus of the two eigenvalues of matrices of shape (..., 2, 2), in closed form."""
    return _radius([[matrices[..., i, j] for j in range(2)] for i in range(2)])


def radius(half_trace: Array, determinant: Array, discriminant: Array | None = None) -> Array:
    """Return the spectral radius of 2 x 2 matrices of that half trace and determinant, which broadcast.

    `discriminant` is the square of the former less the latter, where it is known to more digits than this difference.
    """
    if discriminant is None:
        discriminant = half_trace**2 - determinant
    real = np.abs(half_trace) + np.sqrt(np.maximum(discriminant, 0))
    return np.where(discriminant >= 0, real, np.sqrt(np.maximum(determinant, 0)))


def contraction(
    a: ArrayLike, rate: ArrayLike, beta: float, k: int = 1, alpha: float = 1.0, inner_state: str = "maintain"
) -> Array:
    """Return rho of each eigenvalue for one inner update, the k-th root of a round's; above 1 where it diverges.

    Arguments and errors are those of `round_matrix`; momentum's own unless k and alpha are given.
    """
    return _radius(_round_entries(a, rate, beta, k, alpha, inner_state)) ** (1 / k)


def best_alpha(a: ArrayLike, start: ArrayLike, end: ArrayLike, minimum: ArrayLike = 0.0) -> Array:
    """Return Proposition 1's alpha*, the lowest point on the line from theta_{t,0} = `start` to theta_{t,k} = `end`.

    All have the coordinates as the last axis, where A has the eigenvalues a. Not clipped; nan where nothing moved.
    """
    start, moved = np.asarray(start), np.subtract(start, end)
    with np.errstate(invalid="ignore"):
        return ((start - minimum) * a * moved).sum(-1) / (moved * a * moved).sum(-1)


def critical_condition_number(beta: float) -> float:
    """Return ((1 + sqrt(beta)) / (1 - sqrt(beta)))^2: above it, momentum is over-damped at its best learning rate."""
    root = np.sqrt(checked_beta(beta))
    return float(((1 + root) / (1 - root)) ** 2)


def diverging_share(beta: float, k: int, alpha: float, inner_state: str = "maintain", points: int = 100_000) -> float:
    """Return the share of momentum's stable range, eta a in (0, 2 (1 + beta)), on which Lookahead's rho is above 1.

    Counted at the midpoints of as many equal parts as `points` says. Errors are those of `round_matrix`.
    """
    points = checked_count("points", points, least=1)
    rates = 2 * (1 + checked_beta(beta)) * (np.arange(points) + 0.5) / points
    return float(np.mean(contraction(1.0, rates, beta, k, alpha, inner_state) > 1))


def _checked(a: ArrayLike, rate: ArrayLike, beta: float) -> tuple[Array, Array, Array, float]:
    """Return rate * a, a and rate, all of their common shape, and beta; a ValueError where one is out of range."""
    beta = checked_beta(beta)
    spectrum = checked_spectrum(np.ravel(a))
    rate = checked_rates(rate, float(spectrum.max()), beta)
    a, rate = np.broadcast_arrays(spectrum.reshape(np.shape(a)), rate)
    return rate * a, a, rate, beta


def _round_entries(
    a: ArrayLike, rate: ArrayLike, beta: float, k: int, alpha: float, inner_state: str
) -> list[list[Array]]:
    """Return the four entries of `round_matrix`, each of the common shape of a and rate.

    By Cayley and Hamilton, M^k = p_k M - det(M) p_{k-1}, where p_{j+1} = tr(M) p_j - det(M) p_{j-1}, from p_0 = 0 and
    p_1 = 1; det(M) = (1 - eta a) beta + eta a beta is beta at every learning rate.
    """
    rate_a, a, rate, beta = _checked(a, rate, beta)
    k, alpha = checked_k(k), checked_alpha(alpha)
    if inner_state not in VELOCITY:
        raise ValueError(f"inner_state must be one of {', '.join(INNER_STATES)}, not {inner_state!r}")
    trace = 1 + beta - rate_a
    before, now = np.zeros_like(trace), np.ones_like(trace)
    for _ in range(k - 1):
        before *= -beta
        before += trace * now
        before, now = now, before
    # theta and v after k updates, of theta and of v before them; then what the synchronization makes of them.
    theta, of_velocity = now * (1 - rate_a) - beta * before, -beta * rate * now
    velocity, kept = a * now, beta * (now - before)
    fast, slow = VELOCITY[inner_state](alpha)
    return [[alpha * theta + (1 - alpha), alpha * of_velocity], [fast * velocity, fast * kept + slow]]


def _radius(entries: list[list[Array]]) -> Array:
    (upper_left, upper_right), (lower_left, lower_right) = entries
    return radius((upper_left + lower_right) / 2, upper_left * lower_right - upper_right * lower_left)


def _stacked(rows: list[list[Array]]) -> Array:
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
