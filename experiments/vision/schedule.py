"""The learning-rate schedule of the SWA code, for Appendix D.3."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def held_linear_held(optimizer: Optimizer, until: int, last: float) -> LambdaLR:
    """Return the schedule of Izmailov et al. (2018): the whole rate, a linear way down, then `last` of it.

    It is whole up to half of `until` (0-based epochs), and `last`, a multiple of it, from nine tenths on. Raises
    ValueError where `until` is below 1 or `last` is not above 0.
    """
    for name, value in (("until", until), ("last", last)):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"schedule.{name}={value} is not possible; give a number")
    if until < 1:
        raise ValueError(f"schedule.until={until} is not possible; give a number of epochs of at least 1")
    if not 0 < last < float("inf"):
        raise ValueError(f"schedule.last={last} is not possible; give a multiple of the rate above 0")

    def factor(epoch: int) -> float:
        way = min(max((epoch / until - 0.5) / 0.4, 0.0), 1.0)
        return 1 - (1 - last) * way

    return LambdaLR(optimizer, factor)
