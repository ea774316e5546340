"""Lookahead with momentum on its outer update, on the noisy quadratic in closed form; not in the paper.

A round ends with s = phi - theta_k, b <- mu b + s, and phi <- phi - alpha b (heavy ball) or phi - alpha (mu b + s)
(Nesterov), then theta <- phi. In each coordinate theta_k is r^k phi and noise, so that a round is linear in (phi, b).
With z = alpha (1 - r^k), the *pull*, and y = alpha b it is for both

    chi' = chi - y'        y' = m y + z chi - epsilon

where chi = phi and m = mu for heavy ball, chi = phi + mu y and m = mu (1 - z) for Nesterov: Nesterov is a heavy ball
whose momentum falls with the curvature, looked at behind itself. epsilon has the variance alpha^2 Var(theta_k | phi).
chi is an autoregression of second order, chi' = (1 + m - z) chi - m chi_before + epsilon. Hence it is stable where
0 < z < 2 (1 + m) (Jury's conditions; the third, m < 1, always holds), and its covariance's fixed point, which solves
P = M P M^T + Q, has Var(chi) = (1 + m) Var(epsilon) / ((1 - m) z (2 (1 + m) - z)), Var(y) = 2 z / (1 + m) Var(chi)
and Cov(chi, y) = -Var(y) / 2. At mu = 0 all of it is Section 3.1, Proposition 2 and Lemma 1.

W workers that each take the k steps from phi and average theta_k divide the variance of epsilon by W. SGD with momentum
is the outer update at every step, with the gradient for s and the learning rate for alpha.

Arguments named rate (gamma), alpha and mu may be arrays, which broadcast together; the coordinates are a last axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from experiments.quadratic.arguments import (
    Array,
    checked_alphas,
    checked_count,
    checked_flag,
    checked_grid,
    checked_momenta,
    checked_rates,
)
from experiments.quadratic.deterministic import radius
from experiments.quadratic.noisy import Moments, NoisyQuadratic, in_blocks, sgd_factor, sgd_steady_variance
from lookahead.arguments import checked_k

HELD = 8  # times as many numbers a setting and a coordinate as Section 3.1's closed forms hold


class InnerLoop(NamedTuple):
    """What the inner steps of a round do in each coordinate, shape (..., coordinates), and how many they are.

    `pull` is 1 - r^k, what they take off the mean; `noise` is the variance that they add, over the pull.
    """

    pull: Array
    noise: Array
    k: int


def inner_sgd(model: NoisyQuadratic, rate: ArrayLike, k: int, workers: int = 1) -> InnerLoop:
    """Return k steps of SGD, averaged over workers; a ValueError for a value out of range."""
    k, workers = checked_k(k), checked_count("workers", workers, least=1)
    power = sgd_factor(model, rate) ** k
    # (1 - r^2k) / (1 - r^k) of V*_SGD: no difference of nearly equal numbers.
    return InnerLoop(1 - power, (1 + power) * sgd_steady_variance(model, rate) / workers, k)


def one_gradient(model: NoisyQuadratic, workers: int = 1) -> InnerLoop:
    """Return one gradient, averaged over workers, as the loop of an outer step that is the learning rate itself."""
    return InnerLoop(model.a, model.a * model.noise / checked_count("workers", workers, least=1), 1)


@dataclass(frozen=True)
class Rounds:
    """Rounds of one or many settings, each array of a shape that broadcasts to (..., coordinates).

    `pull` is z, `momentum` m, `noise` the variance of epsilon over z, and phi = chi - `ahead` y; a round has k updates.
    """

    pull: Array
    momentum: Array
    noise: Array
    ahead: Array
    k: int

    @property
    def stable(self) -> NDArray[np.bool_]:
        """Where both eigenvalues are inside the unit circle, and mean and covariance converge."""
        return self.pull < 2 * (1 + self.momentum)

    @property
    def steady_variance(self) -> Array:
        """The variance of phi that is reached in the end; infinite where the round is not stable."""
        steady, along = self._steady()
        return np.where(self.stable, steady * (1 + self.ahead * (1 + self.ahead) * along), np.inf)

    @property
    def contraction(self) -> Array:
        """By how much an inner update shrinks (phi, b) in the long run: the k-th root of the spectral radius."""
        return radius(self._half_trace, self.momentum, self._discriminant) ** (1 / self.k)

    def left(self, start: Array, rounds: int) -> Array:
        """Return E[phi^2] less its final value after a number of rounds from phi = start, b = 0; inf if not stable.

        It is m_n^2 - e M^n P (M^n)^T e^T, with P the covariance's fixed point.
        """
        by_chi, by_y = self._last_row(checked_count("rounds", rounds, least=0))
        with np.errstate(over="ignore", invalid="ignore"):
            steady, along = self._steady()
            left = (by_chi * start) ** 2 - steady * (by_chi**2 + by_y * (by_y - by_chi) * along)
            return np.where(self.stable, left, np.inf)

    def moments(self, start: Array, rounds: int) -> Moments:
        """Return mean and variance of phi after a number of rounds from phi = start, b = 0, stable or not.

        The covariance is summed by doubling, P_2n = P_n + M^n P_n (M^n)^T, and so needs no fixed point.
        """
        rounds = checked_count("rounds", rounds, least=0)
        z, m, noise, ahead = np.broadcast_arrays(self.pull, self.momentum, self.noise, self.ahead)
        matrix = np.stack([np.stack([1 - z, -m], -1), np.stack([z, m], -1)], -2)
        added = (noise * z)[..., None, None] * np.array([[1.0, -1.0], [-1.0, 1.0]])
        power, covariance = np.broadcast_to(np.eye(2), matrix.shape), np.zeros_like(matrix)
        for bit in f"{rounds:b}":
            covariance = covariance + power @ covariance @ power.swapaxes(-1, -2)
            power = power @ power
            if bit == "1":
                covariance = matrix @ covariance @ matrix.swapaxes(-1, -2) + added
                power = power @ matrix
        behind = np.stack([np.ones_like(ahead), -ahead], -1)[..., None, :]  # phi = chi - ahead y
        row = behind @ power
        return Moments(row[..., 0, 0] * start, (behind @ covariance @ behind.swapaxes(-1, -2))[..., 0, 0])

    @property
    def _half_trace(self) -> Array:
        return (1 + self.momentum - self.pull) / 2

    @property
    def _discriminant(self) -> Array:
        """The half trace's square less the determinant, to half as many digits again where m is near 1."""
        return ((1 - self.momentum - self.pull) ** 2 - 4 * self.momentum * self.pull) / 4

    def _steady(self) -> tuple[Array, Array]:
        """Return Var(chi) of the fixed point, and Var(y) over it; of no meaning where the round is not stable."""
        with np.errstate(divide="ignore"):
            return (
                self.noise * (1 + self.momentum) / ((1 - self.momentum) * (2 * (1 + self.momentum) - self.pull)),
                2 * self.pull / (1 + self.momentum),
            )

    def _last_row(self, rounds: int) -> tuple[Array, Array]:
        """Return what phi is after some rounds of chi and of y before them.

        M^n = U_n (M - h I) + H_n I, with h half the trace, and U_n and 2 H_n Lucas's sequences: (l^n - l'^n) / (l - l')
        and l^n + l'^n of the eigenvalues l and l'. They double by U_2n = 2 U_n H_n and H_2n = 2 H_n^2 - det^n.
        """
        z, m = self.pull, self.momentum
        half, discriminant = self._half_trace, self._discriminant
        u, h, determinant = np.zeros_like(half), np.ones_like(half), np.ones_like(half)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # not stable, or over long ago
            for bit in f"{rounds:b}":
                u, h, determinant = 2 * u * h, 2 * h**2 - determinant, determinant**2
                if bit == "1":
                    u, h, determinant = half * u + h, discriminant * u + half * h, determinant * m
            skew = (1 - z - m) / 2 * u
            return h + skew - self.ahead * z * u, -m * u - self.ahead * (h - skew)


def with_momentum(loop: InnerLoop, alpha: Array, mu: Array, nesterov: bool) -> Rounds:
    """Return rounds of these inner steps with an outer step of alpha and momentum mu; nothing is checked."""
    alpha, mu = alpha[..., None], mu[..., None]
    pull = alpha * loop.pull
    if nesterov:
        return Rounds(pull, mu * (1 - pull), alpha * loop.noise, mu, loop.k)
    return Rounds(pull, mu, alpha * loop.noise, np.zeros_like(mu), loop.k)


def lookahead(
    model: NoisyQuadratic,
    rate: ArrayLike,
    k: int,
    alpha: ArrayLike,
    mu: ArrayLike,
    nesterov: bool,
    workers: int = 1,
) -> Rounds:
    """Return the rounds of Lookahead with outer momentum around SGD, of one worker or of several that are averaged.

    Raises a ValueError unless 0 < gamma < 2 / L, alpha is in (0, 1] and mu in [0, 1). Not all of these are stable with
    Nesterov's momentum: see `Rounds.stable`.
    """
    alpha, mu, nesterov = checked_alphas(alpha), checked_momenta("mu", mu), checked_flag("nesterov", nesterov)
    return with_momentum(inner_sgd(model, rate, k, workers), alpha, mu, nesterov)


def sgd(model: NoisyQuadratic, rate: ArrayLike, mu: ArrayLike, nesterov: bool, workers: int = 1) -> Rounds:
    """Return updates of SGD with momentum, v <- mu v + g, theta <- theta - gamma v or theta - gamma (mu v + g).

    Raises a ValueError unless mu is in [0, 1) and 0 < gamma < 2 (1 + mu) / L, of the largest mu. Not all of these are
    stable: see `Rounds.stable`.
    """
    mu, nesterov = checked_momenta("mu", mu), checked_flag("nesterov", nesterov)
    rate = checked_rates(rate, model.largest, float(np.max(mu, initial=0.0)))
    return with_momentum(one_gradient(model, workers), rate, mu, nesterov)


def largest_stable_pull(mu: ArrayLike, nesterov: bool) -> Array:
    """Return what alpha (1 - r^k), or gamma a of SGD, has to stay below: 2 (1 + mu), Nesterov 2 (1 + mu) / (1 + 2 mu).

    Raises a ValueError unless mu is in [0, 1).
    """
    mu, nesterov = checked_momenta("mu", mu), checked_flag("nesterov", nesterov)
    return 2 * (1 + mu) / (1 + 2 * mu if nesterov else 1.0)


def steady_excess(model: NoisyQuadratic, rounds: Rounds) -> Array:
    """Return the final loss over the irreducible one; infinite where a coordinate is not stable."""
    return rounds.steady_variance @ model.a / 2


def gap(model: NoisyQuadratic, rounds: Rounds, updates: int) -> Array:
    """Return the expected loss after `updates` inner updates less the final loss, infinite where it is not stable.

    The slow weights are those of the last round.
    """
    return rounds.left(model.start, _rounds_in(updates, rounds.k)) @ model.a / 2


def distance(model: NoisyQuadratic, rounds: Rounds, updates: int) -> Array:
    """Return `gap` with what is above its final value and what is below added up, not set off against each other.

    Where the loss falls in every coordinate, as from a far start, it is the gap. Momentum may make the loss rise to its
    final value in some coordinates: a gap of 0, or below, then is not one of having arrived.
    """
    return np.abs(rounds.left(model.start, _rounds_in(updates, rounds.k))) @ model.a / 2


def speed(rounds: Rounds) -> Array:
    """Return the asymptotic speed -log(rho) of an inner update, in the slowest coordinate; below 0 if not stable."""
    with np.errstate(divide="ignore"):  # everything may be over in one round
        return -np.log(rounds.contraction.max(-1))


def _rounds_in(updates: int, k: int) -> int:
    return checked_count("updates", updates, least=0) // k


class Found(NamedTuple):
    """Numbers of settings: the final loss over the irreducible one, the distance left, and the asymptotic speed."""

    final_excess: Array
    distance: Array
    speed: Array


def numbers_of(model: NoisyQuadratic, rounds: Rounds, updates: int) -> Found:
    """Return what is compared of settings, after a number of inner updates."""
    return Found(steady_excess(model, rounds), distance(model, rounds, updates), speed(rounds))


def on_grid(
    model: NoisyQuadratic,
    k: int,
    rates: ArrayLike,
    alphas: ArrayLike,
    momenta: ArrayLike,
    updates: int,
    nesterov: bool,
    workers: int = 1,
) -> Found:
    """Return the numbers of every setting of a grid, of shape (momenta, alphas, rates).

    Raises a ValueError for a value out of range.
    """
    rates, alphas, momenta = (
        checked_grid(name, values) for name, values in (("rates", rates), ("alphas", alphas), ("momenta", momenta))
    )

    def numbers(rate: Array, alpha: Array, mu: Array) -> Array:
        rounds = lookahead(model, rate, k, alpha, mu, nesterov, workers)
        return np.stack(numbers_of(model, rounds, updates), axis=-1)

    found = in_blocks(model, numbers, rates, alphas[:, None], momenta[:, None, None], held=HELD)
    return Found(*np.moveaxis(found, -1, 0))
