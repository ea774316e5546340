"""Checks of what the analysis is given: each ends in one sentence that names the value and what is possible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lookahead.arguments import checked_k

Array = NDArray[np.float64]


def checked_spectrum(values: ArrayLike) -> Array:
    """Return the eigenvalues of A as a 1-D array; a ValueError unless there are some, finite and above 0."""
    spectrum = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if spectrum.size == 0:
        raise ValueError("the spectrum must hold at least one eigenvalue, not none")
    if spectrum.ndim != 1:
        raise ValueError(f"the spectrum must be one row of eigenvalues, not an array of shape {spectrum.shape}")
    _check("an eigenvalue of A", spectrum, (spectrum > 0) & (spectrum < np.inf), "finite and above 0")
    return spectrum


def checked_rates(rates: ArrayLike, largest: float, beta: float = 0.0) -> Array:
    """Return learning rates as floats; a ValueError unless each is in (0, 2 (1 + beta) / L), where L = `largest`."""
    rates = np.asarray(rates, dtype=np.float64)
    bound = 2 * (1 + beta) / largest
    meaning = f"(0, {bound:.6g}), which is (0, {'2 (1 + beta)' if beta else '2'} / L) with L = {largest:.6g}"
    _check("a learning rate", rates, (rates > 0) & (rates < bound), f"in {meaning}")
    return rates


def checked_alphas(alphas: ArrayLike) -> Array:
    """Return slow weights step sizes as floats; a ValueError unless each is in (0, 1]."""
    alphas = np.asarray(alphas, dtype=np.float64)
    _check("alpha", alphas, (alphas > 0) & (alphas <= 1), "in (0, 1]")
    return alphas


def checked_beta(beta: float) -> float:
    """Return the momentum coefficient as a float; a ValueError unless it is in [0, 1)."""
    beta = np.asarray(beta, dtype=np.float64)
    _check("beta", beta, (beta >= 0) & (beta < 1), "in [0, 1)")
    return float(beta)


def checked_ks(k: ArrayLike) -> NDArray[np.int64]:
    """Return synchronization periods as integers; a ValueError unless each is an integer of at least 1."""
    return np.reshape([checked_k(value) for value in np.ravel(k).tolist()], np.shape(k)).astype(np.int64)


def checked_condition_numbers(values: ArrayLike) -> Array:
    """Return condition numbers as floats; a ValueError unless each is finite and at least 1."""
    return checked_values("a condition number", values, 1.0)


def checked_values(name: str, values: ArrayLike, least: float) -> Array:
    """Return numbers as floats; a ValueError unless each is finite and at least `least`."""
    values = np.asarray(values, dtype=np.float64)
    possible = "finite" if least == -np.inf else f"finite and at least {least:g}"
    _check(name, values, np.isfinite(values) & (values >= least), possible)
    return values


def checked_grid(name: str, values: ArrayLike) -> Array:
    """Return the values of a grid as a 1-D array of floats; a ValueError unless there are some."""
    grid = np.ravel(np.asarray(values, dtype=np.float64))
    if grid.size == 0:
        raise ValueError(f"{name} must hold at least one value, not none")
    return grid


def checked_count(name: str, value: Any, least: int) -> int:
    """Return a count as an int; a ValueError unless it is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
    return int(value)


def checked_choices(name: str, chosen: Sequence[str], known: Iterable[str]) -> list[str]:
    """Return the choices as a list; a ValueError unless there are some, all of them known."""
    known = list(known)
    if not chosen or any(value not in known for value in chosen):
        raise ValueError(f"{name} must be some of {', '.join(known)}, not {chosen!r}")
    return list(chosen)


def _check(name: str, values: Array, valid: NDArray[np.bool_], possible: str) -> None:
    """Raise a ValueError that names the first value that is not valid; nan never is."""
    if not np.all(valid):
        raise ValueError(f"{name} must be {possible}, not {values[~valid].flat[0]:.6g}")
