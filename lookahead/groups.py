"""Lookahead's entries in the inner optimizer's parameter groups and state: names, checks and separation."""

import numbers
from collections.abc import Mapping
from typing import Any

# All entries start with one prefix, so that they can be told from the inner optimizer's own.
PREFIX = "lookahead_"
K, ALPHA, STEP = "lookahead_k", "lookahead_alpha", "lookahead_step"  # in a parameter group
SLOW = "lookahead_slow"  # in a parameter's state; slow copies of moments are f"{SLOW}_{moment}"


def checked_k(k: Any) -> int:
    """Return the synchronization period as an int; a ValueError unless it is an integer of at least 1."""
    if isinstance(k, bool) or not isinstance(k, numbers.Integral) or k < 1:
        raise ValueError(f"k must be an integer of at least 1, not {k!r}")
    return int(k)


def checked_alpha(alpha: Any) -> float:
    """Return the slow weights step size as a float; a ValueError unless it is a number in [0, 1]."""
    # The comparison is false for nan too.
    if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real) or not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be a number in [0, 1], not {alpha!r}")
    return float(alpha)


def complete(group: dict[str, Any], k: int, alpha: float, step: int) -> None:
    """Give a parameter group the entries that it lacks, and check those that it has (ValueError)."""
    group[K] = checked_k(group.get(K, k))
    group[ALPHA] = checked_alpha(group.get(ALPHA, alpha))
    group[STEP] = step


def ours(entries: Any) -> dict[str, Any]:
    """Return Lookahead's part of a group or of a parameter's state."""
    return {name: value for name, value in _items(entries) if _is_ours(name)}


def not_ours(entries: Any) -> Any:
    """Return the inner optimizer's part of a group or of a parameter's state; all of it if not a dict."""
    if not isinstance(entries, Mapping):
        return entries
    return {name: value for name, value in _items(entries) if not _is_ours(name)}


def difference(given: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
    """Say in words where the k and alpha that a checkpoint saved differ from those given; "" if nowhere."""
    differing = [key for key in (K, ALPHA) if key in saved and saved[key] != given[key]]
    return " and ".join(f"{key}={saved[key]} (given here, and used: {given[key]})" for key in differing)


def _items(entries: Any) -> Any:
    return entries.items() if isinstance(entries, Mapping) else ()


def _is_ours(name: Any) -> bool:
    return isinstance(name, str) and name.startswith(PREFIX)
