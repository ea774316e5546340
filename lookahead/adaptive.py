"""The adaptive slow weights step size of Section 2.1, which a quadratic model of the loss gives.

Proposition 1's alpha* minimizes a quadratic loss on the line from theta_{t,0} to theta_{t,k}. With the estimate
theta_{t,k} - A^-1 g of its minimum (g the gradient at theta_{t,k}) and d = theta_{t,k} - theta_{t,0}, it is

    alpha = (d - A^-1 g)^T A d / (d^T A d) = 1 - g^T d / (d^T A d),

which needs no inverse of A. The paper clips it to [alpha_low, 1].
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lookahead.arguments import is_number
from lookahead.entries import Keys, members_state
from lookahead.inplace import forget_derived, making_state

GRADIENTS = ("last", "fresh")
POWERS = (1.0, 0.5)


@dataclass(frozen=True)
class AdaptiveAlpha:
    """Choose alpha anew at every synchronization, one for all parameters: give it as `alpha=` (Section 2.1).

    A is diagonal: the second moments of the gradient that Adam, AdamW, NAdam, RAdam, RMSprop and Adadelta keep,
    bias-corrected. For any other inner optimizer an average of our own is kept, at the cost of one more copy of
    the parameters and a pass over the gradients on each step. Computed without waiting for the device.

    Args:
        low: alpha_low, the lower bound, in [0, 1]; the upper one is 1.
        gradient: "last" takes the gradient of step k, made at theta_{k-1}, which costs nothing (Appendix B.2)
            but leans alpha upwards, as d holds minus that very gradient; "fresh" calls the closure once more,
            at theta_k, and so needs `step(closure)`. Either way it is the `.grad` that the optimizer sees, so
            clipping counts, and a parameter without one counts as zero.
        power: 1 takes the second moments themselves, the empirical Fisher of the paper; 1/2 their roots,
            Adam's own preconditioner, whose scale follows the gradients'.
        beta: decay of our own average.

    Raises:
        ValueError: an argument is out of range.
    """

    low: float
    gradient: str = "last"
    power: float = 1.0
    beta: float = 0.999

    def __post_init__(self) -> None:
        if not is_number(self.low) or not 0 <= self.low <= 1:
            raise ValueError(f"low must be a number in [0, 1], not {self.low!r}")
        if self.gradient not in GRADIENTS:
            raise ValueError(f"gradient must be one of {', '.join(GRADIENTS)}, not {self.gradient!r}")
        if not is_number(self.power) or self.power not in POWERS:
            raise ValueError(f"power must be 1 (Fisher) or 0.5 (Adam's preconditioner), not {self.power!r}")
        if not is_number(self.beta) or not 0 <= self.beta < 1:
            raise ValueError(f"beta must be a number in [0, 1), not {self.beta!r}")
        # One form for equal values, as checkpoints compare the text of it.
        for name in ("low", "power", "beta"):
            object.__setattr__(self, name, float(getattr(self, name)))

    def __call__(self, terms: Iterable["Term"]) -> tuple[Tensor, Tensor]:
        """Return alpha clipped to [low, 1], and before that: 0-dim tensors, finite also where d = 0 (then 1)."""
        raw = estimate(terms, self.power)
        return raw.clamp(self.low, 1.0), raw


def checked_alpha(alpha: Any) -> float | AdaptiveAlpha:
    """Return the slow weights step size; a ValueError unless it is a number in [0, 1] or an AdaptiveAlpha."""
    if isinstance(alpha, AdaptiveAlpha):
        return alpha
    if type(alpha) is float and 0 <= alpha <= 1:  # told quickly, as every step looks
        return alpha
    if not is_number(alpha) or not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be a number in [0, 1] or an AdaptiveAlpha, not {alpha!r}")
    return float(alpha)


def as_saved(value: Any) -> Any:
    """Return a group's entry as a checkpoint holds it: an AdaptiveAlpha as its text, which needs no pickle."""
    return repr(value) if isinstance(value, AdaptiveAlpha) else value


class Term(NamedTuple):
    """One parameter's part of the sums: weights, slow weights, gradient (or None), and diagonal A.

    A is `second_moment / correction`, before the power is taken. All have the parameter's shape.
    """

    fast: Tensor
    slow: Tensor
    gradient: Tensor | None
    second_moment: Tensor
    correction: Tensor | float


@torch.no_grad()
def estimate(terms: Iterable[Term], power: float) -> Tensor:
    """Return 1 - g^T d / (d^T A^power d) over all terms as a 0-dim tensor, always finite; 1 where d = 0."""
    totals: dict[Any, tuple[Tensor, Tensor]] = {}
    for term in terms:
        fast, slow = _real(term.fast), _real(term.slow)
        dtype = torch.promote_types(torch.promote_types(fast.dtype, slow.dtype), torch.float32)
        # Slow weights on the host are pinned, so that this copy is not waited for.
        d = fast.to(dtype) - slow.to(fast.device, dtype, non_blocking=fast.is_cuda)
        a = _real(term.second_moment).to(dtype) ** power
        d_a_d = (d * d * a).sum() / term.correction**power
        g_d = torch.zeros_like(d_a_d) if term.gradient is None else (_real(term.gradient).to(dtype) * d).sum()
        # Sharded tensors (DTensor) give partial sums, which add up before they are reduced, once.
        key = (type(d_a_d), d_a_d.device, getattr(d_a_d, "placements", None), getattr(d_a_d, "device_mesh", None))
        before = totals.get(key)
        totals[key] = (g_d, d_a_d) if before is None else (before[0] + g_d, before[1] + d_a_d)
    sums = [tuple(_whole(total) for total in pair) for pair in totals.values()]
    if not sums:
        return torch.ones(())
    device, dtype = sums[0][0].device, sums[0][0].dtype
    g_d, d_a_d = (sum(total.to(device, dtype) for total in column) for column in zip(*sums, strict=True))
    return torch.nan_to_num(1 - g_d / d_a_d, nan=1.0)  # 0/0: nothing has moved


def needs_closure(groups: Iterable[Mapping[str, Any]], keys: Keys) -> bool:
    """Say whether a synchronization of these groups wants a fresh gradient."""
    for group in groups:
        alpha = group[keys.alpha]
        if isinstance(alpha, AdaptiveAlpha) and alpha.gradient == "fresh":
            return True
    return False


def observe(group: Mapping[str, Any], state: Mapping[Tensor, Any], keys: Keys) -> None:
    """After an inner step, take its gradients into our own averages, where the group's alpha needs them."""
    alpha = group[keys.alpha]
    if isinstance(alpha, AdaptiveAlpha):
        for p in group["params"]:
            own = members_state(state, p, keys.slow)
            if own is not None and p.grad is not None and _kept_second_moment(own, group) is None:
                _average_second_moment(own, p.grad, alpha.beta, keys)


def choose(
    due: Iterable[Mapping[str, Any]],
    state: Mapping[Tensor, Any],
    keys: Keys,
    closure: Callable[[], Any] | None,
) -> dict[AdaptiveAlpha, tuple[Tensor, Tensor]]:
    """Return, for every AdaptiveAlpha in the groups that synchronize, its value and that before clipping.

    It is one for all groups that have the same. The closure is called, once, where a fresh gradient is wanted.
    """
    groups = [group for group in due if isinstance(group[keys.alpha], AdaptiveAlpha)]
    if needs_closure(due, keys):
        forget_derived()  # of the weights before this step, where all of it runs inside autocast
        with torch.enable_grad():
            closure()
    terms: dict[AdaptiveAlpha, list[Term]] = {}
    for group in groups:
        for p in dict.fromkeys(group["params"]):
            own = members_state(state, p, keys.slow)
            if own is None:
                continue
            # Without a gradient since the adaptive alpha was chosen there is no average: nothing known, A = 0.
            kept = _kept_second_moment(own, group) or (own.get(keys.second_moment, torch.zeros_like(p)), 1.0)
            gradient = -p.grad if p.grad is not None and group.get("maximize") else p.grad  # of what is minimized
            terms.setdefault(group[keys.alpha], []).append(Term(p.detach(), own[keys.slow], gradient, *kept))
    return {alpha: alpha(all_terms) for alpha, all_terms in terms.items()}


def _kept_second_moment(state: Mapping[str, Any], group: Mapping[str, Any]) -> tuple[Tensor, Any] | None:
    """Return the inner optimizer's own second moment and what to divide it by for its bias; None if it has none."""
    if "step" not in state:
        return None
    # After a reset the count may be 0, and the moment with it.
    step = state["step"].clamp(min=1) if isinstance(state["step"], Tensor) else max(state["step"], 1)
    if "exp_avg_sq" in state and "betas" in group:  # Adam and its kin
        return state["exp_avg_sq"], 1 - group["betas"][1] ** step
    for decay in ("alpha", "rho"):  # RMSprop, Adadelta
        if "square_avg" in state and decay in group:
            return state["square_avg"], 1 - group[decay] ** step
    return None


@torch.no_grad()
def _average_second_moment(state: dict[str, Any], gradient: Tensor, beta: float, keys: Keys) -> None:
    """Take a gradient into the average of squares of a parameter's state, free of bias.

    Adam's moving average over its correction, 1 - beta^n, as one moving average whose weight falls from 1.
    """
    mean, count = keys.second_moment, keys.second_moment_step
    square = _real(gradient)
    square = square.to(torch.promote_types(square.dtype, torch.float32)) ** 2  # 16 bits would stall
    if mean not in state:
        with making_state():
            # On the CPU, as Adam's count is, so that reading it waits for nothing.
            state[mean], state[count] = torch.zeros_like(square), torch.zeros((), device="cpu")
    state[count] += 1
    state[mean].lerp_(square, (1 - beta) / (1 - beta ** state[count].item()))


def _real(t: Tensor) -> Tensor:
    """Return the real view that Adam too takes of complex tensors, and sparse gradients dense."""
    t = t.to_dense() if t.layout != torch.strided else t
    return torch.view_as_real(t) if t.is_complex() else t


def _whole(total: Tensor) -> Tensor:
    return total.full_tensor() if hasattr(total, "full_tensor") else total
