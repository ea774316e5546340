"""The Lookahead optimizer (Zhang et al., 2019, Algorithm 1) around any torch optimizer."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lookahead import adaptive, hooks
from lookahead.adaptive import AdaptiveAlpha
from lookahead.arguments import check, checked_k
from lookahead.batch_norm import reestimated
from lookahead.checkpoint import (
    attach_loaded,
    check_shapes,
    drop_leftovers,
    load_inner,
    place,
    with_our_entries,
)
from lookahead.inner_state import attach_slow_moments, interpolate_moments, moments_of, reset_moments
from lookahead.inplace import swapped
from lookahead.keys import Keys, checked_alpha
from lookahead.outer_update import pull_back_

# torch.compile would guard what it traces here on the step count, and compile anew at each step. The inner
# optimizer's step, which `step` calls, is compiled all the same.
untraced = functools.partial(torch.compiler.disable, recursive=False)


class Lookahead(Optimizer):
    """Wrap the inner optimizer: after every k of its steps, pull the weights back towards where they began.

    The slow weights phi start as the fast weights theta and follow Equation 1, phi += alpha * (theta - phi);
    then theta := phi. They live in the inner optimizer's state (`state[p]["lookahead_slow"]`), k and alpha in
    its parameter groups (`lookahead_k`, `lookahead_alpha`), where they may also be given per group. The step
    count is one for all groups and runs on over epochs.

    Args:
        optimizer: the inner optimizer A; it may already be in use, and may be a Lookahead itself, whose slow
            weights an outer update then leaves alone, as it leaves any inner state that is maintained.
        k: synchronization period, an integer of at least 1.
        alpha: slow weights step size, in [0, 1], or an `AdaptiveAlpha` (Section 2.1).
        inner_state: what a synchronization does to the inner optimizer's state: "maintain", "interpolate" or
            "reset" it (Section 2, Appendix D.1).
        slow_dtype: dtype of the slow weights, no coarser than the parameters': in bfloat16 the outer update
            rounds small changes away, so give torch.float32. None: the parameter's own.
        slow_device: "cpu" keeps the slow weights in the host's memory. None: on the parameter's device.
        fused: compile the outer update of parameters of 65,536 elements or more into one kernel (torch.compile),
            which takes seconds at the first one, for each alpha. Not with an `AdaptiveAlpha` or a `slow_device`.

    Raises:
        TypeError: `optimizer` is not a `torch.optim.Optimizer`.
        ValueError: another argument is out of range, or `inner_state` is not known for this inner optimizer.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        k: int = 5,
        alpha: float | AdaptiveAlpha = 0.5,
        inner_state: str = "maintain",
        slow_dtype: torch.dtype | None = None,
        slow_device: torch.device | str | None = None,
        fused: bool = False,
    ) -> None:
        check(optimizer, inner_state, slow_dtype, slow_device, fused)
        self.inner, self.inner_state, self.fused = optimizer, inner_state, fused
        self._k, self._alpha = checked_k(k), checked_alpha(alpha)
        self.slow_dtype, self.slow_device = slow_dtype, None if slow_device is None else torch.device("cpu")
        self._last_alpha: float | Tensor | None = None
        self.last_alpha_raw: Tensor | None = None  # 0-dim: before clipping, where an AdaptiveAlpha chose it
        self._keys = Keys(optimizer._keys.level + 1 if isinstance(optimizer, Lookahead) else 1)
        self._moments = () if inner_state == "maintain" else moments_of(optimizer)
        self._steps = 0
        self._swap_depth = 0
        # Sets up the hook tables. `super().__init__` would also make `param_groups`, `state` and `defaults`
        # of our own, which are the inner optimizer's here.
        Optimizer.__setstate__(self, {})
        drop_leftovers(optimizer, self._keys)
        self._complete_groups()

    k = property(lambda self: self._k, doc="The k given at first; to change it, set `lookahead_k` in the groups.")
    alpha = property(lambda self: self._alpha, doc="The alpha given at first; to change it, set `lookahead_alpha`.")

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

    @property
    def last_alpha(self) -> Tensor | None:
        """The alpha of the last synchronization, 0-dim; None before the first one."""
        alpha = self._last_alpha
        return alpha if alpha is None or isinstance(alpha, Tensor) else torch.tensor(alpha, dtype=torch.float64)

    @property
    def needs_closure(self) -> bool:
        """Whether `step` must be given a closure: an AdaptiveAlpha wants a fresh gradient."""
        return adaptive.needs_closure(self.param_groups, self._keys) or getattr(self.inner, "needs_closure", False)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one inner step and, after every k of them, synchronize; return what the inner step returns.

        Raises a RuntimeError inside `slow_weights()`, while a CUDA graph is captured (its replays would repeat
        the captured step, and synchronize always or never: capture forward and backward alone), and without a
        closure where an AdaptiveAlpha needs one.
        """
        self._refuse_while_swapped("step()")
        if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError("Lookahead.step() cannot be captured in a CUDA graph; call it outside the capture")
        args, kwargs = hooks.step_arguments(self, closure)
        loss = self._step(*args[1:], **kwargs)
        hooks.run(self._optimizer_step_post_hooks, self, args, kwargs)
        return loss

    step = untraced(step)
    # torch wraps a step that is not marked so in code that runs hooks, the global ones included. Those run in
    # the inner optimizer's step already, and must not run twice.
    step.hooked = True

    @untraced
    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        self._complete_groups()
        due = [group for group in self.param_groups if (self._steps + 1) % group[self._keys.k] == 0]
        if closure is None and adaptive.needs_closure(due, self._keys):
            raise RuntimeError("AdaptiveAlpha(gradient='fresh') needs step(closure); GradScaler has no such step")
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
            if p.grad is None and not self.state.get(p):
                continue  # the closure took its gradient away, and the step left it out
            # Only now: an entry made before the inner optimizer's first step would pass for its own state.
            self.state[p][self._keys.slow] = slow
            if self.inner_state == "interpolate":
                attach_slow_moments(self.state[p], self._moments, self._keys)
        adaptive.observe(self.param_groups, self.state, self._keys)
        # Before the step counts: where a fresh gradient's closure raises, the next step synchronizes.
        chosen = adaptive.choose(due, self.state, self._keys, closure)
        self._steps += 1
        if due:
            self._synchronize(due, chosen)
        for group in self.param_groups:
            group[self._keys.step] = self._steps
        return loss

    @torch.compiler.disable
    @torch.no_grad()
    def _take_anchors(self, anchors: dict[Tensor, Tensor]) -> None:
        """Copy the weights of parameters about to take their first step: phi_0 = theta_0 of Algorithm 1.

        Taken this late, weights loaded after construction are the start, and frozen ones cost no memory.
        """
        state, key = self.state, self._keys.slow  # looked up once: this runs over all parameters at every step
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and key not in state.get(p, ()) and p not in anchors:
                    anchors[p] = place(p, p, self.slow_dtype, self.slow_device)

    def _with_slow(self, params: Iterable[Tensor]) -> dict[Tensor, dict[str, Any]]:
        """Return the parameters that have slow weights, each once, and their state."""
        found = {p: self.state.get(p, {}) for p in params}
        return {p: own for p, own in found.items() if self._keys.slow in own}

    @torch.compiler.disable
    def _synchronize(self, due: list[dict[str, Any]], chosen: dict[AdaptiveAlpha, tuple[Tensor, Tensor]]) -> None:
        """Do the outer update of Algorithm 1 in the groups whose inner loop ends with this step."""
        by_alpha: dict[float | AdaptiveAlpha, dict[Tensor, dict[str, Any]]] = {}
        for group in due:
            # All that have slow weights, whether or not they had a gradient on this very step.
            by_alpha.setdefault(group[self._keys.alpha], {}).update(self._with_slow(group["params"]))
        # Adaptive ones last, as `last_alpha` is theirs where there are others.
        for given, fast in sorted(by_alpha.items(), key=lambda item: isinstance(item[0], AdaptiveAlpha)):
            if not fast:
                continue
            alpha, raw = chosen.get(given, (given, None))
            states = list(fast.values())
            pull_back_([state[self._keys.slow] for state in states], list(fast), alpha, self.fused)
            if self.inner_state == "interpolate":
                interpolate_moments(states, self._moments, self._keys, alpha)
            elif self.inner_state == "reset":
                reset_moments(states, self._moments)
            self._last_alpha, self.last_alpha_raw = alpha, raw

    @contextmanager
    def slow_weights(self, model: nn.Module | None = None, batches: Iterable[Any] | None = None) -> Iterator[None]:
        """Let the model hold the slow weights inside the `with` block, in place, and the fast ones after it.

        Changes nothing before the first step; may be nested. Appendix C.1 evaluates Lookahead so. Batch-norm
        statistics stem from the fast weights' passes; given `model` and `batches` (of inputs, or of tuples
        that start with them), they are estimated anew for the slow weights, and put back at the end. Raises a
        ValueError where only one of the two is given, or where there are no batches.
        """
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        if (model is None) != (batches is None):
            raise ValueError(f"give both model and batches, or neither; {'model' if model is None else 'batches'}=None")
        fast = self._with_slow(p for group in self.param_groups for p in group["params"])
        slow = [own[self._keys.slow] for own in fast.values()]
        swap = swapped(list(fast), slow) if self._swap_depth == 0 else contextlib.nullcontext()
        with swap:
            self._swap_depth += 1
            try:
                with reestimated(model, batches) if fast and batches is not None else contextlib.nullcontext():
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
            self._keys.complete(param_group, self.k, self.alpha, self._steps)
        self.inner.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return the inner optimizer's state dict, which holds the slow weights, k, alpha and the step count.

        Raises a RuntimeError inside `slow_weights()`.
        """
        self._refuse_while_swapped("state_dict()")
        hooks.run(self._optimizer_state_dict_pre_hooks, self)
        self._complete_groups()
        self._wait_for_copies()
        state_dict = with_our_entries(self.inner.state_dict(), self.inner, self._keys)
        return hooks.changed_by(self._optimizer_state_dict_post_hooks, self, state_dict)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of ours, to go on exactly where it was taken, or a plain inner optimizer's.

        k and alpha stay as they are given here, with a warning where the checkpoint's differ. A plain
        checkpoint brings no slow weights: they start as the current weights, at step 0, with a warning.
        Raises a RuntimeError inside `slow_weights()`, and what the inner optimizer raises.
        """
        self._refuse_while_swapped("load_state_dict()")
        state_dict = hooks.changed_by(self._optimizer_load_state_dict_pre_hooks, self, state_dict.copy())
        self._complete_groups()
        keys = self._keys
        kept = [keys.ours(group) for group in self.param_groups]
        saved_groups = state_dict["param_groups"]
        check_shapes(self.inner, state_dict, keys)
        load_inner(self.inner, state_dict, keys)
        self._last_alpha = self.last_alpha_raw = None
        self._steps = max((group.get(keys.step, 0) for group in saved_groups), default=0)
        for group, given in zip(self.param_groups, kept, strict=True):
            group.update(given)
        self._complete_groups()
        moments = self._moments if self.inner_state == "interpolate" else ()
        attach_loaded(self.inner, state_dict, keys, moments, self.slow_dtype, self.slow_device)
        hooks.run(self._optimizer_load_state_dict_post_hooks, self)
        for warning in keys.warnings(kept, saved_groups):
            warnings.warn(warning, stacklevel=2)  # last, as a warning may be made an error

    def __repr__(self) -> str:
        """Show k, alpha and inner_state as constructed, and the inner optimizer with its groups."""
        arguments = f"k={self.k}, alpha={self.alpha}, inner_state={self.inner_state!r}"
        for name, default in (("slow_dtype", None), ("slow_device", None), ("fused", False)):
            if getattr(self, name) != default:
                arguments += f", {name}={getattr(self, name)}"
        return f"{type(self).__name__} ({arguments}, inner={self.inner!r})"

    def __getstate__(self) -> dict[str, Any]:
        """List what deepcopy and pickle take: no hooks, as in torch, and no `step` patched by a scheduler."""
        self._refuse_while_swapped("copying or pickling")
        self._wait_for_copies()
        arguments = ("inner", "_k", "_alpha", "inner_state", "slow_dtype", "slow_device", "fused")
        others = ("_last_alpha", "last_alpha_raw", "_keys", "_moments", "_steps", "_swap_depth")
        return {field: getattr(self, field) for field in (*arguments, *others)}

    def _complete_groups(self) -> None:
        """Fill in and check the groups; they may be new, or edited by the user, at any time."""
        for group in self.param_groups:
            self._keys.complete(group, self.k, self.alpha, self._steps)

    def _wait_for_copies(self) -> None:
        """Let copies of slow weights to the host's memory arrive before they are read there."""
        if self.slow_device is not None:
            for device in {p.device for group in self.param_groups for p in group["params"] if p.is_cuda}:
                torch.cuda.synchronize(device)

    def _refuse_while_swapped(self, what: str) -> None:
        if self._swap_depth > 0:
            raise RuntimeError(f"{what} inside slow_weights() would take slow weights for fast ones; leave it first")
