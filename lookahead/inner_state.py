"""Interpolate or reset the inner optimizer's state at a synchronization, by an explicit table.

"maintain", the default, needs none: it leaves the state alone (Section 2; Appendix D.1 compares the three).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, optim

from lookahead.entries import Keys
from lookahead.inplace import Pairs, by_device_and_dtype, making_state
from lookahead.outer_update import pull_back_

# The state that moves with the weights, all of it zero before the first step. Step counts are not in it: they
# are no estimate, and only "reset" touches them. Adagrad (its sum starts at a chosen value), ASGD, Rprop and
# LBFGS keep state for which "zero" or "in between" has no clear meaning, so they are left out.
_ADAM = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
MOMENTS: dict[type[optim.Optimizer], tuple[str, ...]] = {
    optim.SGD: ("momentum_buffer",),
    optim.Adam: _ADAM,
    optim.AdamW: _ADAM,
    optim.NAdam: ("exp_avg", "exp_avg_sq"),
    optim.RAdam: ("exp_avg", "exp_avg_sq"),
    optim.Adamax: ("exp_avg", "exp_inf"),
    optim.RMSprop: ("square_avg", "grad_avg", "momentum_buffer"),
    optim.Adadelta: ("square_avg", "acc_delta"),
}
# Those that older torch versions do not have yet.
for _name, _moments in {"Adafactor": ("row_var", "col_var", "variance"), "Muon": ("momentum_buffer",)}.items():
    if hasattr(optim, _name):
        MOMENTS[getattr(optim, _name)] = _moments

# Counts that "reset" sets back, with their value before the first step (NAdam keeps a running product).
_COUNTS = {"step": 0.0, "mu_product": 1.0}

State = dict[str, Any]


def moments_of(inner: optim.Optimizer) -> tuple[str, ...]:
    """Return the names of the moments that `inner` keeps; a ValueError if the table does not know its class.

    Subclasses are not taken for their parents: they may keep more state, which would silently stay behind.
    """
    if type(inner) not in MOMENTS:
        known = ", ".join(cls.__name__ for cls in MOMENTS)
        raise ValueError(
            f"inner_state other than 'maintain' is not known for {type(inner).__name__}; it is for {known}"
        )
    return MOMENTS[type(inner)]


def attach_slow_moments(state: State, moments: Iterable[str], keys: Keys) -> None:
    """Give a parameter's state the slow copies it lacks: zeros, as moments are before the first step."""
    for moment in moments:
        if isinstance(state.get(moment), Tensor) and keys.slow_moment(moment) not in state:
            with making_state():
                state[keys.slow_moment(moment)] = torch.zeros_like(state[moment])


def interpolate_moments(states: Iterable[State], moments: Iterable[str], keys: Keys, alpha: float | Tensor) -> None:
    """Treat the moments as the weights (Equation 1): slow += alpha * (moment - slow), then moment := slow."""
    slow, fast = [], []
    for state in states:
        attach_slow_moments(state, moments, keys)  # a momentum that a schedule turned on after the first step
        for moment in moments:
            if isinstance(state.get(moment), Tensor):
                slow.append(state[keys.slow_moment(moment)])
                fast.append(state[moment])
    pull_back_(Pairs(slow, fast, "slow moments"), alpha)


@torch.no_grad()
def reset_moments(states: Sequence[State], moments: Iterable[str]) -> None:
    """Set moments to zero and counts to their first value, in place, with few kernels."""
    starts = dict.fromkeys(moments, 0.0) | _COUNTS
    for start in set(starts.values()):
        names = [name for name, value in starts.items() if value == start]
        found = [state[name] for state in states for name in names if isinstance(state.get(name), Tensor)]
        for tensors, _ in by_device_and_dtype(found, found):
            torch._foreach_zero_(tensors)
            if start:
                torch._foreach_add_(tensors, start)
