"""The best constant learning rate for a range of condition numbers, momentum's and Lookahead's each its own (Figure 4).

The rate of contraction depends on eta a alone, so one profile g(x), x = eta a, serves every learning rate and
spectrum: a spectrum [L / kappa, L] asks for the X = eta L at which the largest g on [X / kappa, X], or at its two
ends, is least. Lookahead's profile oscillates, so a fine grid comes first, then a closer look at its best minima.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from experiments.quadratic.arguments import Array, checked_beta, checked_condition_numbers, checked_grid
from experiments.quadratic.deterministic import contraction

# Points of the grid on which momentum's eigenvalues are real and positive, complex, and real and negative.
POINTS = (4096, 8192, 4096)
# 1 - |lambda| at both ends of the grid; both count: the best learning rate of a wide spectrum is near the bound.
SLOWEST = 1e-12
# Minima of the grid that are looked at closer, and how: so many times, by so many points.
MINIMA, ZOOMS, ZOOM_POINTS = 8, 12, 17


class BestRate(NamedTuple):
    """Learning rates in units of 1 / L, and the rate of contraction rho of an update, for each condition number."""

    rate: Array
    contraction: Array


class RateSearch:
    """The search for one method, whose profile on the grid is computed once and serves every condition number.

    Args:
        beta: the momentum coefficient.
        k, alpha, inner_state: Lookahead's; momentum itself unless k and alpha are given.
        whole_interval: whether the worst contraction is over all between L / kappa and L (on the grid of the
            search), or over these two end eigenvalues alone.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        beta: float,
        k: int = 1,
        alpha: float = 1.0,
        inner_state: str = "maintain",
        whole_interval: bool = False,
    ) -> None:
        beta = checked_beta(beta)
        self._profile = partial(contraction, 1.0, beta=beta, k=k, alpha=alpha, inner_state=inner_state)
        self._grid = _grid(beta)
        self._values = self._profile(self._grid)
        self._between = _range_maximum(self._values) if whole_interval else None

    def best(self, condition_numbers: ArrayLike) -> BestRate:
        """Return the learning rate in (0, 2 (1 + beta) / L) with the least worst contraction over each spectrum.

        Many learning rates may be equally good: while it is under-damped, momentum contracts by sqrt(beta) at each of
        them. Raises a ValueError for a condition number below 1.
        """
        condition_numbers = checked_condition_numbers(checked_grid("condition_numbers", condition_numbers))
        brackets = [_brackets(self._grid, self._worst(self._grid, kappa, self._values)) for kappa in condition_numbers]
        low, high = np.moveaxis(np.stack(brackets), 1, 0)
        return BestRate(*_zoom(self._worst, low, high, condition_numbers))

    def _worst(self, rates: Array, condition_numbers: ArrayLike, at_rates: Array | None = None) -> Array:
        """Return the worst contraction at learning rates, whose profile may be known; both broadcast."""
        smallest = rates / condition_numbers
        ends = np.maximum(self._profile(rates) if at_rates is None else at_rates, self._profile(smallest))
        if self._between is None:
            return ends
        first, last = np.searchsorted(self._grid, smallest), np.searchsorted(self._grid, rates, side="right")
        return np.maximum(ends, self._between(first, last))


def _grid(beta: float) -> Array:
    """Return points x in (0, 2 (1 + beta)), ascending, as evenly spread as momentum's eigenvalues want them.

    x = (1 - lambda) (1 - beta / lambda); for complex ones, of modulus sqrt(beta) and angle w, that is
    1 + beta - 2 sqrt(beta) cos w.
    """
    positive, complex_, negative = POINTS
    root = np.sqrt(beta)
    # 1 - |lambda| where it is real; lambda = 0, which beta = 0 would make the end, is left out.
    at_0, at_bound = (np.geomspace(SLOWEST, 1 - root, points, endpoint=False) for points in (positive, negative))
    angles = np.linspace(0, np.pi, complex_)
    low, high = at_0 * (1 - beta / (1 - at_0)), (2 - at_bound) * (1 + beta / (1 - at_bound))
    grid = np.unique(np.concatenate([low, 1 + beta - 2 * root * np.cos(angles), high]))
    return grid[(grid > 0) & (grid < 2 * (1 + beta))]


def _range_maximum(values: Array) -> Callable[[Array, Array], Array]:
    """Return f(i, j) = max(values[i:j]), -inf where that is empty: two overlapping powers of 2 cover every range."""
    levels = [values]
    while 2 ** len(levels) <= values.size:
        step = 2 ** (len(levels) - 1)
        longer = np.full_like(values, -np.inf)
        longer[:-step] = np.maximum(levels[-1][:-step], levels[-1][step:])
        levels.append(longer)
    table = np.stack(levels)

    def maximum(start: Array, stop: Array) -> Array:
        length = np.maximum(stop - start, 1)
        level = np.frexp(length)[1] - 1
        first = np.minimum(start, values.size - 1)
        both = np.maximum(table[level, first], table[level, np.maximum(stop - 2**level, 0)])
        return np.where(stop > start, both, -np.inf)

    return maximum


def _brackets(grid: Array, values: Array) -> Array:
    """Return the grid's points left and right of its lowest local minima, shape (2, MINIMA).

    The ends of the grid may be minima: Lookahead's worst contraction may fall up to the bound of momentum's range.
    """
    left, right = np.r_[np.inf, values[:-1]], np.r_[values[1:], np.inf]
    minima = np.where((values <= left) & (values <= right), values, np.inf)
    lowest = np.argsort(minima, kind="stable")[:MINIMA]
    return np.stack([grid[np.maximum(lowest - 1, 0)], grid[np.minimum(lowest + 1, grid.size - 1)]])


def _zoom(
    worst: Callable[[Array, Array], Array], low: Array, high: Array, condition_numbers: Array
) -> tuple[Array, Array]:
    """Narrow brackets of shape (condition numbers, MINIMA) down; return the best point of each row and its value."""
    parts = np.linspace(0, 1, ZOOM_POINTS)
    kappas = condition_numbers[:, None, None]
    for _ in range(ZOOMS):
        points = low[..., None] + (high - low)[..., None] * parts
        values = worst(points, kappas)
        at = values.argmin(-1)[..., None]
        low, high = (np.take_along_axis(points, np.clip(at + side, 0, ZOOM_POINTS - 1), -1)[..., 0] for side in (-1, 1))
    points, values = (np.take_along_axis(array, at, -1)[..., 0] for array in (points, values))
    row, best = np.arange(len(points)), values.argmin(-1)
    return points[row, best], values[row, best]
