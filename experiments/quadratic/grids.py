"""Grids of learning rates, alphas and condition numbers, as the configuration gives them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from experiments.quadratic.arguments import MOST, Array, checked_count, checked_grid, checked_number


def linear(start: float, stop: float, num: int) -> Array:
    """Return `num` evenly spaced values from `start` to `stop`; a ValueError for what is no number."""
    start, stop, num = _checked(start, stop, num)
    return np.linspace(start, stop, num)


def logarithmic(start: float, stop: float, num: int) -> Array:
    """Return `num` values from `start` to `stop`, each the same multiple of the one before.

    Raises a ValueError for what is no number, or not above 0.
    """
    start, stop, num = _checked(start, stop, num)
    if not (start > 0 and stop > 0):
        raise ValueError(f"start and stop of a logarithmic grid must be above 0, not {start:g} and {stop:g}")
    return np.geomspace(start, stop, num)


def finer(values: ArrayLike, times: int) -> Array:
    """Return the values, ascending, with each step between neighbours cut into `times` logarithmic ones.

    Raises a ValueError for a value that is not above 0.
    """
    values = np.unique(checked_grid("values", values))
    if not values[0] > 0:
        raise ValueError(f"values on a logarithmic scale must be above 0, not {values[0]:g}")
    times = checked_count("times", times, least=1)
    steps = np.geomspace(values[:-1], values[1:], times, endpoint=False, axis=-1)
    steps[..., 0] = values[:-1]  # which logarithms only meet up to rounding
    return np.append(steps.ravel(), values[-1])


def _checked(start: float, stop: float, num: int) -> tuple[float, float, int]:
    start, stop = checked_number("start", start), checked_number("stop", stop)
    if num == 1 and start != stop:
        raise ValueError(f"num=1 is a grid of one value: stop must be start, {start:g}, not {stop:g}")
    return start, stop, checked_count("num", num, least=1, most=MOST)
