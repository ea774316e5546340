"""The Lookahead optimizer (Zhang et al., 2019, Algorithm 1) around any torch optimizer."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lookahead import groups
from lookahead.groups import ALPHA, SLOW, STEP, K, checked_alpha, checked_k
from lookahead.inner_state import (
    attach_slow_moments,
    interpolate_moments,
    moments_of,
    reset_moments,
    slow_key,
)
from lookahead.inplace import copy_, interpolate_, swapped

INNER_STATES = ("maintain", "interpolate", "reset")


class Lookahead(Optimizer):
    """Wrap the inner optimizer: after every k of its steps, pull the weights back towards where they began.

    The slow weights phi start as the fast weights theta and follow Equation 1, phi += alpha * (theta - phi);
    then theta := phi. They live in the inner optimizer's state (`state[p]["lookahead_slow"]`), k and alpha in
    its parameter groups (`lookahead_k`, `lookahead_alpha`), where they may also be given per group. The step
    count is one for all groups and runs on over epochs.

    Args:
        optimizer: the inner optimizer A; it may already be in use.
        k: synchronization period, an integer of at least 1.
        alpha: slow weights step size, in [0, 1].
        inner_state: what a synchronization does to the inner optimizer's state: "maintain", "interpolate" or
            "reset" it (Section 2, Appendix D.1).

    Raises:
        TypeError: `optimizer` is not a `torch.optim.Optimizer`.
        ValueError: another argument is out of range, or `inner_state` is not known for this inner optimizer.
    """

    def __init__(self, optimizer: Optimizer, k: int = 5, alpha: float = 0.5, inner_state: str = "maintain") -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
        if isinstance(optimizer, Lookahead):
            raise ValueError("optimizer is a Lookahead already; nested Lookahead is not supported")
        if inner_state not in INNER_STATES:
            raise ValueError(f"inner_state must be one of {', '.join(INNER_STATES)}, not {inner_state!r}")
        self.inner = optimizer
        self.k, self.alpha, self.inner_state = checked_k(k), checked_alpha(alpha), inner_state
        self._moments = () if inner_state == "maintain" else moments_of(optimizer)
        self._steps = 0
        self._swap_depth = 0
        # Sets up the hook tables. `super().__init__` would also make `param_groups`, `state` and `defaults`
        # of our own, which are the inner optimizer's here.
        Optimizer.__setstate__(self, {})
        self._drop_leftovers()
        self._complete_groups()

    # One source of truth: never a copy, as load_state_dict replaces these objects in the inner optimizer.
    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The inner optimizer's parameter groups."""
        return self.inner.param_groups

    @property
    def state(self) -> dict[Tensor, Any]:
        """The inner optimizer's state, slow weights included."""
        return self.inner.state

    @property
    def defaults(self) -> dict[str, Any]:
        """The inner optimizer's defaults."""
        return self.inner.defaults

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one inner step and, after every k of them, synchronize; return what the inner step returns.

        Raises a RuntimeError inside `slow_weights()`.
        """
        self._refuse_while_swapped("step()")
        args, kwargs = ((self,) if closure is None else (self, closure)), {}
        for hook in self._optimizer_step_pre_hooks.values():
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(f"a step pre-hook must return None or (args, kwargs), not {changed!r}")
                args, kwargs = changed
        loss = self._step(*args[1:], **kwargs)
        for hook in self._optimizer_step_post_hooks.values():
            hook(self, args, kwargs)
        return loss

    # torch wraps a step that is not marked so in code that runs hooks, the global ones included. Those run in
    # the inner optimizer's step already, and must not run twice.
    step.hooked = True

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        self._complete_groups()
        anchors: dict[Tensor, Tensor] = {}
        self._take_anchors(anchors)

        def closure_then_anchors() -> Any:
            loss = closure()
            # Gradients may appear only here. The inner optimizer cannot have moved such a parameter yet, and
            # must not be given the time: LBFGS moves the weights between its calls of the closure.
            self._take_anchors(anchors)
            return loss

        loss = self.inner.step() if closure is None else self.inner.step(closure_then_anchors)
        for p, slow in anchors.items():
            # Only now: an entry made before the inner optimizer's first step would pass for its own state.
            self.state[p][SLOW] = slow
            if self.inner_state == "interpolate":
                attach_slow_moments(self.state[p], self._moments)
        self._steps += 1
        self._synchronize()
        for group in self.param_groups:
            group[STEP] = self._steps
        return loss

    @torch.no_grad()
    def _take_anchors(self, anchors: dict[Tensor, Tensor]) -> None:
        """Copy the weights of parameters about to take their first step: phi_0 = theta_0 of Algorithm 1.

        Taken this late, weights loaded after construction are the start, and frozen ones cost no memory.
        """
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p not in anchors and SLOW not in self.state.get(p, ()):
                    anchors[p] = p.detach().clone()

    def _synchronize(self) -> None:
        """Do the outer update of Algorithm 1 in every group whose inner loop ends with this step."""
        for group in self.param_groups:
            if self._steps % group[K] != 0:
                continue
            # All that have slow weights, whether or not they had a gradient on this very step.
            fast = [p for p in group["params"] if SLOW in self.state.get(p, ())]
            states = [self.state[p] for p in fast]
            slow = [state[SLOW] for state in states]
            interpolate_(slow, fast, group[ALPHA])  # Equation 1
            copy_(fast, slow)  # theta_{t+1,0} = phi_t
            if self.inner_state == "interpolate":
                interpolate_moments(states, self._moments, group[ALPHA])
            elif self.inner_state == "reset":
                reset_moments(states, self._moments)

    @contextmanager
    def slow_weights(self) -> Iterator[None]:
        """Let the model hold the slow weights inside the `with` block, in place, and the fast ones after it.

        Changes nothing before the first step; may be nested. Appendix C.1 evaluates Lookahead so.
        """
        pairs = []
        if self._swap_depth == 0:
            params = [p for group in self.param_groups for p in group["params"]]
            pairs = [(p, self.state[p][SLOW]) for p in params if SLOW in self.state.get(p, ())]
        with swapped([p for p, _ in pairs], [slow for _, slow in pairs]):
            self._swap_depth += 1
            try:
                yield
            finally:
                self._swap_depth -= 1

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients, as the inner optimizer does."""
        self.inner.zero_grad(set_to_none=set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimizer, which synchronizes in phase with the others.

        It may hold `lookahead_k` and `lookahead_alpha`; raises a ValueError if they are out of range.
        """
        if isinstance(param_group, dict):
            groups.complete(param_group, self.k, self.alpha, self._steps)
        self.inner.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return the inner optimizer's state dict, which holds the slow weights, k, alpha and the step count.

        Raises a RuntimeError inside `slow_weights()`.
        """
        self._refuse_while_swapped("state_dict()")
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        self._complete_groups()
        state_dict = self.inner.state_dict()
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of ours, to go on exactly where it was taken, or a plain inner optimizer's.

        k and alpha stay as they are given here, with a warning where the checkpoint's differ. A plain
        checkpoint brings no slow weights: they start as the current weights, at step 0, with a warning.
        Raises a RuntimeError inside `slow_weights()`, and what the inner optimizer raises.
        """
        self._refuse_while_swapped("load_state_dict()")
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        self._complete_groups()
        kept = [groups.ours(group) for group in self.param_groups]
        saved_groups = state_dict["param_groups"]
        self._load_inner(state_dict)
        self._steps = max((group.get(STEP, 0) for group in saved_groups), default=0)
        for group, given in zip(self.param_groups, kept, strict=True):
            group.update(given)
        self._complete_groups()
        self._attach_loaded(state_dict["state"], [key for group in saved_groups for key in group["params"]])
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)
        # Last, as a warning may be made an error.
        for given, saved in zip(kept, saved_groups, strict=True):
            if difference := groups.difference(given, saved):
                warnings.warn(f"the checkpoint has {difference}", stacklevel=2)
        if not any(STEP in group for group in saved_groups):
            warnings.warn(
                "the state dict holds no slow weights (a plain inner optimizer's?): they start as the "
                "current weights, at step 0 of an inner loop",
                stacklevel=2,
            )

    def __repr__(self) -> str:
        """Show k, alpha and inner_state as constructed, and the inner optimizer with its groups."""
        arguments = f"k={self.k}, alpha={self.alpha}, inner_state={self.inner_state!r}"
        return f"{type(self).__name__} ({arguments}, inner={self.inner!r})"

    def __getstate__(self) -> dict[str, Any]:
        """List what deepcopy and pickle take: no hooks, as in torch, and no `step` patched by a scheduler."""
        self._refuse_while_swapped("copying or pickling")
        fields = ("inner", "k", "alpha", "inner_state", "_moments", "_steps", "_swap_depth")
        return {field: getattr(self, field) for field in fields}

    def _complete_groups(self) -> None:
        """Fill in and check the groups; they may be new, or edited by the user, at any time."""
        for group in self.param_groups:
            groups.complete(group, self.k, self.alpha, self._steps)

    def _drop_leftovers(self) -> None:
        """Forget what another Lookahead left in the inner optimizer, itself or by a state dict."""
        # k and alpha without a step count are the user's own, given per group.
        used = [group for group in self.param_groups if STEP in group]
        for entries in (*used, *self.state.values()):
            for name in groups.ours(entries):
                del entries[name]
        for p in [p for p, entry in self.state.items() if entry == {}]:
            del self.state[p]

    def _load_inner(self, state_dict: dict[str, Any]) -> None:
        """Load the inner optimizer's own part of a state dict.

        torch would cast the slow weights to the parameter's dtype, and entries that hold nothing but slow
        weights would pass for initialized ones.
        """
        state = {key: groups.not_ours(entry) for key, entry in state_dict["state"].items()}
        own = {
            "state": {key: entry for key, entry in state.items() if entry != {}},
            "param_groups": [groups.not_ours(group) for group in state_dict["param_groups"]],
        }
        self.inner.load_state_dict({**state_dict, **own})

    def _attach_loaded(self, saved_state: dict[Any, Any], keys: list[Any]) -> None:
        """Put clones of the saved slow weights and moments, in their own dtype, into the inner's state."""
        params = [p for group in self.param_groups for p in group["params"]]
        wanted = {SLOW} if self.inner_state != "interpolate" else {SLOW, *map(slow_key, self._moments)}
        loaded = set()
        for p, key in zip(params, keys, strict=True):
            for name, value in groups.ours(saved_state.get(key)).items():
                if name in wanted:
                    self.state[p][name] = value.detach().to(p.device, copy=True)
                    loaded.add(name)
        if self.inner_state == "interpolate" and not loaded - {SLOW}:
            # Not from an interpolating run: like the weights, slow moments start as the current ones.
            for state in self.state.values():
                for moment in self._moments:
                    if isinstance(state.get(moment), Tensor):
                        state[slow_key(moment)] = state[moment].clone()

    def _refuse_while_swapped(self, what: str) -> None:
        if self._swap_depth > 0:
            raise RuntimeError(f"{what} inside slow_weights() would take slow weights for fast ones; leave it first")
