"""The learning-rate schedule of the Transformer: a linear warm-up, then the inverse square root of the update."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def inverse_sqrt(
    optimizer: Optimizer,
    warmup: float,
    linear_warmup: bool = True,
    hidden_size: int | None = None,
    multiplier: float = 1.0,
    time: float = 1.0,
) -> LambdaLR:
    """Return the schedule of update t = 1, 2, ...: lr * min(1, t/warmup) / sqrt(max(t, warmup)) / sqrt(hidden_size).

    Without `linear_warmup` there is no first factor ("ADAM-" in Table 4), and without `hidden_size` no last one; all
    rates are times `multiplier`. With `time` below 1 it is run through in that part of its updates, to the same rates.
    Raises ValueError for values out of range. (Vaswani et al. [42], 5.3; tensor2tensor's
    "constant*linear_warmup*rsqrt_decay*rsqrt_hidden_size")
    """
    _check(warmup, linear_warmup, hidden_size, multiplier, time)
    constant = multiplier if hidden_size is None else multiplier * hidden_size**-0.5

    def factor(updates: int) -> float:
        t = (updates + 1) / time
        warming = min(1.0, t / warmup) if linear_warmup else 1.0
        return constant * warming / math.sqrt(max(t, warmup))

    return LambdaLR(optimizer, factor)


def _check(warmup: Any, linear_warmup: Any, hidden_size: Any, multiplier: Any, time: Any) -> None:
    for name, value in (("warmup", warmup), ("multiplier", multiplier), ("time", time)):
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise ValueError(f"schedule.{name}={value} is not possible; give a number above 0")
    if type(linear_warmup) is not bool:
        raise ValueError(f"schedule.linear_warmup={linear_warmup} is not possible; give true or false")
    if hidden_size is not None and (type(hidden_size) is not int or hidden_size < 1):
        raise ValueError(
            f"schedule.hidden_size={hidden_size} is not possible; give a whole number of at least 1, or null"
        )
