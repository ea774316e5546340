"""Checks of what a user gives: each ends in one sentence that names the value and what is possible."""

import numbers
from typing import Any

import torch
from torch.optim import Optimizer

from lookahead.adaptive import AdaptiveAlpha

INNER_STATES = ("maintain", "interpolate", "reset")


def checked_k(k: Any) -> int:
    """Return the synchronization period as an int; a ValueError unless it is an integer of at least 1."""
    if isinstance(k, bool) or not isinstance(k, numbers.Integral) or k < 1:
        raise ValueError(f"k must be an integer of at least 1, not {k!r}")
    return int(k)


def checked_alpha(alpha: Any) -> float | AdaptiveAlpha:
    """Return the slow weights step size; a ValueError unless it is a number in [0, 1] or an AdaptiveAlpha."""
    if isinstance(alpha, AdaptiveAlpha):
        return alpha
    # The comparison is false for nan too.
    if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real) or not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be a number in [0, 1] or an AdaptiveAlpha, not {alpha!r}")
    return float(alpha)


def check(optimizer: Any, inner_state: Any, slow_dtype: Any, slow_device: Any, fused: Any) -> None:
    """Raise a TypeError where the optimizer is none, a ValueError where another argument is out of range."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
    if inner_state not in INNER_STATES:
        raise ValueError(f"inner_state must be one of {', '.join(INNER_STATES)}, not {inner_state!r}")
    if slow_dtype is not None and not (isinstance(slow_dtype, torch.dtype) and slow_dtype.is_floating_point):
        raise ValueError(f"slow_dtype must be None or a floating-point torch.dtype, not {slow_dtype!r}")
    if slow_device is not None and str(slow_device) != "cpu":
        raise ValueError(f"slow_device must be None (the parameter's device) or 'cpu', not {slow_device!r}")
    if not isinstance(fused, bool):
        raise ValueError(f"fused must be True or False, not {fused!r}")
