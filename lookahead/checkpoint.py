"""Lookahead's part of a state dict, kept apart from the inner optimizer's, and where slow weights lie."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lookahead.adaptive import as_saved
from lookahead.entries import Keys
from lookahead.inplace import making_state


def place(t: Tensor, like: Tensor, dtype: torch.dtype | None, device: torch.device | None) -> Tensor:
    """Return a copy of `t` that stands beside the parameter `like`: in `dtype` (None: as it is) on `device` or its.

    Only real floating-point tensors change dtype. In the host's memory beside a CUDA parameter it is pinned.
    """
    dtype = dtype if dtype is not None and t.is_floating_point() else t.dtype
    with making_state():
        if device is None or device == like.device:
            return t.detach().to(like.device, dtype, copy=True)
        copy = torch.empty_like(t, dtype=dtype, device=device, pin_memory=like.is_cuda, requires_grad=False)
        return copy.copy_(t, non_blocking=like.is_cuda)


def with_lookahead_entries(state_dict: dict[str, Any], inner: Optimizer, keys: Keys) -> dict[str, Any]:
    """Return the inner optimizer's state dict with Lookahead's entries as they are saved.

    They are in it already, except where the inner optimizer makes its state dict from elsewhere, as
    ZeroRedundancyOptimizer does; an AdaptiveAlpha becomes its text.
    """
    state, groups = dict(state_dict["state"]), []
    for group, saved in zip(inner.param_groups, state_dict["param_groups"], strict=True):
        groups.append({name: as_saved(value) for name, value in saved.items()})
        for p, key in zip(group["params"], saved["params"], strict=True):
            if entries := keys.own_part(inner.state.get(p)):
                state[key] = {**state.get(key, {}), **entries}
    return {**state_dict, "state": state, "param_groups": groups}


def check_shapes(inner: Optimizer, state_dict: dict[str, Any], keys: Keys) -> None:
    """Raise a ValueError where what is saved does not have its parameter's shape, before anything is loaded."""
    for group, saved in zip(inner.param_groups, state_dict["param_groups"], strict=False):
        for p, key in zip(group["params"], saved["params"], strict=False):
            own = keys.own_part(state_dict["state"].get(key))
            for name, what in ((keys.slow, "slow weights"), (keys.momentum_buffer, "momentum buffers")):
                if name in own and own[name].shape != p.shape:
                    shapes = f"{tuple(own[name].shape)}, the parameter {tuple(p.shape)}"
                    raise ValueError(f"the saved {what} of parameter {key} have the shape {shapes}")


def load_inner(inner: Optimizer, state_dict: dict[str, Any], keys: Keys) -> None:
    """Load the inner optimizer's own part of a state dict.

    torch would cast the slow weights to the parameter's dtype, and entries that hold nothing but slow weights
    would pass for initialized ones.
    """
    state = {key: keys.inner_part(entry) for key, entry in state_dict["state"].items()}
    own = {
        "state": {key: entry for key, entry in state.items() if entry != {}},
        "param_groups": [keys.inner_part(group) for group in state_dict["param_groups"]],
    }
    inner.load_state_dict({**state_dict, **own})
    if hasattr(inner, "consolidate_state_dict"):
        # ZeroRedundancyOptimizer's state is in its local optimizer; a load leaves a second copy of it here, of this
        # rank's parameters alone.
        inner.state.clear()


def attach_loaded(
    inner: Optimizer,
    state_dict: dict[str, Any],
    keys: Keys,
    moments: Iterable[str],
    dtype: torch.dtype | None,
    device: torch.device | None,
) -> None:
    """Put copies of the saved slow weights, slow `moments` and second moments into the inner optimizer's state.

    Momentum buffers go to the groups that have an outer momentum.
    """
    wanted = {keys.slow, keys.second_moment, keys.second_moment_step, *map(keys.slow_moment, moments)}
    params = [(p, group.get(keys.outer_momentum)) for group in inner.param_groups for p in group["params"]]
    saved = [key for group in state_dict["param_groups"] for key in group["params"]]
    moments_loaded = False
    for (p, momentum), key in zip(params, saved, strict=True):
        for name, value in keys.own_part(state_dict["state"].get(key)).items():
            if name not in wanted and not (momentum and name == keys.momentum_buffer):
                continue
            if name in (keys.slow, keys.momentum_buffer):
                value = place(value, p, dtype, device)
            else:
                with making_state():
                    value = value.detach().to("cpu" if name == keys.second_moment_step else p.device, copy=True)
            inner.state.setdefault(p, {})[name] = value
            moments_loaded |= name.startswith(f"{keys.slow}_")
    if moments and not moments_loaded:
        # Not from an interpolating run: like the weights, slow moments start as the current ones.
        for state in [own for own in inner.state.values() if isinstance(own, dict)]:
            for moment in moments:
                if isinstance(state.get(moment), Tensor):
                    with making_state():
                        state[keys.slow_moment(moment)] = state[moment].clone()


def differences(given: Sequence[Mapping[str, Any]], saved: Sequence[Mapping[str, Any]], keys: Keys) -> Iterator[str]:
    """Say in words what the groups of a checkpoint lack, or where their settings differ from those given."""
    for group, saved_group in zip(given, saved, strict=True):
        momenta = group.get(keys.outer_momentum), saved_group.get(keys.outer_momentum, 0.0)
        own = (keys.k, keys.alpha, keys.outer_momentum, *([keys.nesterov] if all(momenta) else []))
        # One without outer momentum is from before there was one.
        known = {keys.outer_momentum: 0.0, **saved_group} if keys.step in saved_group else saved_group
        differing = [key for key in own if key in known and known[key] != as_saved(group[key])]
        if differing:
            parts = [f"{key}={known[key]} (given here, and used: {group[key]})" for key in differing]
            dropped = momenta[1] and not momenta[0]
            buffers = "; its momentum buffers are left out: set the groups before it is loaded" if dropped else ""
            yield f"the checkpoint has {' and '.join(parts)}{buffers}"
    if not any(keys.step in group for group in saved):
        yield (
            "the state dict holds no slow weights (a plain inner optimizer's?): they start as the "
            "current weights, at step 0 of an inner loop"
        )
