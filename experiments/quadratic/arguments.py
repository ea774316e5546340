"""Checks of what the analysis is given: each ends in one sentence that names the value and what is possible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lookahead.arguments import checked_k

Array = NDArray[np.float64]
# Of coordinates and of a grid's values: beyond it a search takes more memory than most machines have.
MOST = 1_000_000


def checked_numbers(name: str, values: ArrayLike) -> Array:
    """Return a number or an array of them as floats; a ValueError for what is none, a truth value among it."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.asarray(None)
    truth = isinstance(values, list | tuple) and any(isinstance(value, bool) for value in values)  # numpy makes it 1.0
    if truth or (array.size and array.dtype.kind not in "iuf"):
        wanted = "numbers in one row" if isinstance(values, list | tuple) else "a number"
        raise ValueError(f"{name} must be {wanted}, not {values!r}")
    return array.astype(np.float64)


def checked_number(name: str, value: Any, least: float = -np.inf) -> float:
    """Return one number as a float; a ValueError unless it is one, finite and at least `least`."""
    return float(_one(name, checked_values(name, value, least)))


def checked_spectrum(values: ArrayLike) -> Array:
    """Return the eigenvalues of A as a 1-D array; a ValueError unless there are some, finite and above 0."""
    spectrum = np.atleast_1d(checked_numbers("an eigenvalue of A", values))
    if spectrum.size == 0:
        raise ValueError("the spectrum must hold at least one eigenvalue, not none")
    if spectrum.ndim != 1:
        raise ValueError(f"the spectrum must be one row of eigenvalues, not an array of shape {spectrum.shape}")
    _check("an eigenvalue of A", spectrum, (spectrum > 0) & (spectrum < np.inf), "finite and above 0")
    return spectrum


def checked_rates(rates: ArrayLike, largest: float, beta: float = 0.0) -> Array:
    """Return learning rates as floats; a ValueError unless each is in (0, 2 (1 + beta) / L), where L = `largest`."""
    rates = checked_numbers("a learning rate", rates)
    bound = 2 * (1 + beta) / largest
    meaning = f"(0, {bound:.6g}), which is (0, {'2 (1 + beta)' if beta else '2'} / L) with L = {largest:.6g}"
    _check("a learning rate", rates, (rates > 0) & (rates < bound), f"in {meaning}")
    return rates


def checked_alphas(alphas: ArrayLike) -> Array:
    """Return slow weights step sizes as floats; a ValueError unless each is in (0, 1]."""
    alphas = checked_numbers("alpha", alphas)
    _check("alpha", alphas, (alphas > 0) & (alphas <= 1), "in (0, 1]")
    return alphas


def checked_alpha(alpha: float) -> float:
    """Return one slow weights step size as a float; a ValueError unless it is in (0, 1]."""
    return float(_one("alpha", checked_alphas(alpha)))


def checked_beta(beta: float) -> float:
    """Return the momentum coefficient as a float; a ValueError unless it is in [0, 1)."""
    return checked_momentum("beta", beta)


def checked_momentum(name: str, value: float) -> float:
    """Return one momentum coefficient as a float; a ValueError unless it is in [0, 1)."""
    return float(_one(name, checked_momenta(name, value)))


def checked_momenta(name: str, values: ArrayLike) -> Array:
    """Return momentum coefficients as floats; a ValueError unless each is in [0, 1)."""
    values = checked_numbers(name, values)
    _check(name, values, (values >= 0) & (values < 1), "in [0, 1)")
    return values


def checked_flag(name: str, value: Any) -> bool:
    """Return a truth value; a ValueError for anything else, a number among it."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be true or false, not {value!r}")
    return bool(value)


def checked_ks(k: ArrayLike) -> NDArray[np.int64]:
    """Return synchronization periods as integers; a ValueError unless each is an integer of at least 1."""
    return np.reshape([checked_k(value) for value in np.ravel(k).tolist()], np.shape(k)).astype(np.int64)


def checked_condition_numbers(values: ArrayLike) -> Array:
    """Return condition numbers as floats; a ValueError unless each is finite and at least 1."""
    return checked_values("a condition number", values, 1.0)


def checked_values(name: str, values: ArrayLike, least: float) -> Array:
    """Return numbers as floats; a ValueError unless each is finite and at least `least`."""
    values = checked_numbers(name, values)
    possible = "finite" if least == -np.inf else f"finite and at least {least:g}"
    _check(name, values, np.isfinite(values) & (values >= least), possible)
    return values


def checked_grid(name: str, values: ArrayLike) -> Array:
    """Return the values of a grid as a 1-D array of floats; a ValueError unless there are some."""
    grid = np.atleast_1d(checked_numbers(name, values))
    if grid.size == 0:
        raise ValueError(f"{name} must hold at least one value, not none")
    if grid.ndim > 1:
        raise ValueError(f"{name} must be numbers in one row, not an array of shape {grid.shape}")
    return grid


def checked_count(name: str, value: Any, least: int, most: int = 2**31 - 1) -> int:
    """Return a count as an int; a ValueError unless it is an integer from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, not {value}")
    return int(value)


def checked_choices(name: str, chosen: str | Sequence[str], known: Iterable[str]) -> list[str]:
    """Return the choices, one or a list, as a list; a ValueError unless there are some, all of them known."""
    known, given = list(known), chosen
    chosen = [chosen] if isinstance(chosen, str) else chosen
    if not chosen or not isinstance(chosen, list | tuple) or any(value not in known for value in chosen):
        raise ValueError(f"{name} must be some of {', '.join(known)}, not {given!r}")
    return list(chosen)


def _one(name: str, values: Array) -> Array:
    if values.ndim:
        raise ValueError(f"{name} must be one number, not {values.tolist()}")
    return values


def _check(name: str, values: Array, valid: NDArray[np.bool_], possible: str) -> None:
    """Raise a ValueError that names the first value that is not valid; nan never is."""
    if not np.all(valid):
        raise ValueError(f"{name} must be {possible}, not {values[~valid].flat[0]:.6g}")
