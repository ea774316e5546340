"""Checks of what a user gives: each ends in one sentence that names the value and what is possible."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.torch_version import TorchVersion

FUSED_NEEDS = TorchVersion("2.11")  # torch 2.4 compiles a lerp that is not exact at alpha = 1
INNER_STATES = ("maintain", "interpolate", "reset")


def checked_k(k: Any) -> int:
    """Return the synchronization period as an int; a ValueError unless it is an integer of at least 1."""
    if type(k) is int and k >= 1:  # told quickly, as every step looks
        return k
    if isinstance(k, bool) or not isinstance(k, numbers.Integral) or k < 1:
        raise ValueError(f"k must be an integer of at least 1, not {k!r}")
    return int(k)


def is_number(value: Any) -> bool:
    """Say whether a value is a finite real number; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def checked_outer_momentum(momentum: Any) -> float:
    """Return the momentum of the outer update as a float; a ValueError unless it is a number in [0, 1)."""
    if not is_number(momentum) or not 0 <= momentum < 1:
        raise ValueError(f"outer_momentum must be a number in [0, 1), not {momentum!r}")
    return float(momentum)


def checked_nesterov(nesterov: Any) -> bool:
    """Return whether the outer momentum is Nesterov's; a ValueError unless it is True or False."""
    if not isinstance(nesterov, bool):
        raise ValueError(f"nesterov must be True (Nesterov's momentum) or False (heavy ball), not {nesterov!r}")
    return nesterov


def check_nesterov(nesterov: bool | None, momenta: Iterable[float]) -> None:
    """Raise a ValueError where the kind of a momentum is given and no group has any."""
    if nesterov is not None and not any(momenta):
        raise ValueError(f"nesterov={nesterov} needs an outer_momentum above 0, here or in a parameter group")


def check(optimizer: Any, inner_state: Any, slow_dtype: Any, slow_device: Any, fused: Any) -> None:
    """Raise a TypeError where `optimizer` is not an Optimizer, a ValueError where another argument is out of range."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
    if inner_state not in INNER_STATES:
        raise ValueError(f"inner_state must be one of {', '.join(INNER_STATES)}, not {inner_state!r}")
    if slow_dtype is not None and not (isinstance(slow_dtype, torch.dtype) and slow_dtype.is_floating_point):
        raise ValueError(f"slow_dtype must be None or a floating-point torch.dtype, not {slow_dtype!r}")
    for p in [p for group in optimizer.param_groups for p in group["params"]]:
        if slow_dtype and p.is_floating_point() and torch.finfo(slow_dtype).eps > torch.finfo(p.dtype).eps:
            raise ValueError(
                f"slow_dtype {slow_dtype} is coarser than a parameter's {p.dtype}; give that or a finer one"
            )
    if slow_device is not None and str(slow_device) != "cpu":
        raise ValueError(f"slow_device must be None (the parameter's device) or 'cpu', not {slow_device!r}")
    if not isinstance(fused, bool):
        raise ValueError(f"fused must be True or False, not {fused!r}")
    if fused and torch.__version__ < FUSED_NEEDS:
        raise ValueError(f"fused=True needs torch {FUSED_NEEDS} or newer, not {torch.__version__}; leave it out")
