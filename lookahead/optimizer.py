"""The Lookahead optimizer (Zhang et al., 2019, Algorithm 1) around any torch optimizer."""

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lookahead import adaptive, hooks
from lookahead.adaptive import AdaptiveAlpha
from lookahead.arguments import check, check_nesterov
from lookahead.batch_norm import reestimated
from lookahead.checkpoint import attach_loaded, check_shapes, differences, load_inner, with_lookahead_entries
from lookahead.entries import Keys, drop_leftovers
from lookahead.groups import Settings, completed
from lookahead.inner_state import moments_of
from lookahead.inplace import copy_, forget_derived, swapped
from lookahead.members import Members
from lookahead.synchronization import Synchronization
from lookahead.untraced import untraced
from lookahead.workers import Workers


class Lookahead(Synchronization):
    """Wrap the inner optimizer: after every k of its steps, pull the weights back towards where they began.

    The slow weights phi start as the fast weights theta and follow Equation 1, phi += alpha * (theta - phi);
    then theta := phi. They live in the inner optimizer's state (`state[p]["lookahead_slow"]`), k, alpha,
    outer_momentum and nesterov in its parameter groups (`lookahead_k` and so on), where they may also be given
    per group. The step count is one for all groups and runs on over epochs.

    With an outer momentum mu the outer update is SGD's along s = phi - theta: b := mu b + s, then
    phi -= alpha (mu b + s) (Nesterov) or phi -= alpha b (heavy ball); b is `state[p]["lookahead_momentum_buffer"]`.
    This is SNOO (Kallusky et al., 2025) and, with a `group` of workers, DiLoCo (Douillard et al., 2023).

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
            which takes seconds at the first one, for each alpha. Not with an `AdaptiveAlpha` or a `slow_device`;
            needs torch 2.11 or newer.
        outer_momentum: mu, the momentum of the outer update, in [0, 1); above 0 it takes one more copy of the
            parameters. Not with an `AdaptiveAlpha`.
        nesterov: Nesterov's outer momentum, or the heavy ball's. None: Nesterov's where there is momentum.
        group: a process group of workers, each with a copy of the weights and steps of its own. A synchronization
            averages the fast weights over them, by one all-reduce per dtype, so that slow weights are equal on all.
            Gradients must not be averaged too, so give no DDP. All workers construct it and step equally often, from
            equal weights.
        model: with a group, the module whose batch-norm statistics are averaged with the weights.

    Raises:
        TypeError: `optimizer` is not a `torch.optim.Optimizer`, `group` not a process group, `model` not a module.
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
        outer_momentum: float = 0.0,
        nesterov: bool | None = None,
        group: Any = None,
        model: nn.Module | None = None,
    ) -> None:
        check(optimizer, inner_state, slow_dtype, slow_device, fused)
        self.inner, self.inner_state, self.fused = optimizer, inner_state, fused
        self._given = Settings(k, alpha, outer_momentum, True if nesterov is None else nesterov).checked()
        if group is None and model is not None:
            raise ValueError("model is for the workers of a group, and there is no group: leave it out")
        self._workers = None if group is None else Workers(group, model)
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
        self._members: Members | None = None  # as last found
        drop_leftovers(optimizer.param_groups, optimizer.state, self._keys)
        self._complete_groups()
        check_nesterov(nesterov, [group[self._keys.outer_momentum] for group in optimizer.param_groups])
        if self._workers is not None:
            # The weights are looked at before the first step, as they may be loaded until then.
            self._workers.agree(optimizer.param_groups, optimizer.state, self._keys, self._options(), weights=False)

    k = property(lambda self: self._given.k, doc="The k given at first; to change it, set `lookahead_k` in the groups.")
    alpha = property(lambda self: self._given.alpha, doc="The alpha given at first; see k.")
    outer_momentum = property(lambda self: self._given.outer_momentum, doc="The momentum given at first; see k.")
    nesterov = property(lambda self: self._given.nesterov, doc="Whether it is Nesterov's, as given at first; see k.")
    group = property(lambda self: self._workers and self._workers.group, doc="The workers' process group, or None.")

    @property
    def last_alpha(self) -> Tensor | None:
        """The alpha of the last synchronization, 0-dim; None before the first one."""
        alpha = self._last_alpha
        return alpha if alpha is None or isinstance(alpha, Tensor) else torch.tensor(alpha, dtype=torch.float64)

    @property
    def needs_closure(self) -> bool:
        """Whether `step` must be given a closure: an AdaptiveAlpha wants a fresh gradient."""
        return adaptive.needs_closure(self.param_groups, self._keys) or getattr(self.inner, "needs_closure", False)

    def step(self, closure: Callable[[], Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """Take one inner step and, after every k of them, synchronize; return what the inner step returns.

        Further arguments are the inner optimizer's. Raises a RuntimeError inside `slow_weights()`, while a CUDA graph
        is captured (its replays would repeat the captured step, and synchronize always or never: capture forward and
        backward alone), and without a closure where an AdaptiveAlpha needs one; a ValueError where a parameter was
        resized, so that its slow weights no longer fit it.
        """
        if self._swap_depth:
            self._refuse_while_swapped("step()")
        if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError("Lookahead.step() cannot be captured in a CUDA graph; call it outside the capture")
        if closure is not None or args or kwargs or not self._nothing_has_changed():
            return self._step_with_more(closure, args, kwargs)
        loss = self.inner.step()
        if not self._finishes_plainly():
            self._finish({}, None)
        return loss

    step = untraced(step)
    # torch wraps a step that is not marked so in code that runs hooks, the global ones included. Those run in
    # the inner optimizer's step already, and must not run twice.
    step.hooked = True

    @untraced
    def _step_with_more(self, closure: Callable[[], Any] | None, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Take a step with all that may belong to it."""
        hooked = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        if hooked:
            given, named = hooks.step_arguments(self, closure, args, kwargs)
            kwargs = dict(named)
            closure, *args = given[1:] or (kwargs.pop("closure", None),)
        if not self._groups_are_complete():
            self._look_over_groups(closure)
        if self._workers is not None:
            self._workers.agree(self.inner.param_groups, self.inner.state, self._keys, self._options())
        anchors = {} if self._nobody_is_new() else self._take_anchors({})
        if closure is not None:

            def closure_then_anchors() -> Any:
                loss = closure()
                # Gradients may appear only here. The inner optimizer cannot have moved such a parameter yet, and
                # must not be given the time: LBFGS moves the weights between its calls of the closure.
                self._take_anchors(anchors)
                return loss

            loss = self.inner.step(closure_then_anchors, *args, **kwargs)
        elif args:
            loss = self.inner.step(None, *args, **kwargs)
        else:  # an inner optimizer's step may have no place for a closure
            loss = self.inner.step(**kwargs)
        if anchors or closure is not None or not self._finishes_plainly():
            self._finish(anchors, closure)
        if hooked:
            hooks.run(self._optimizer_step_post_hooks, self, given, named)
        return loss

    @contextmanager
    def slow_weights(self, model: nn.Module | None = None, batches: Iterable[Any] | None = None) -> Iterator[None]:
        """Let the model hold the slow weights inside the `with` block, in place, and the fast ones after it.

        Changes nothing before the first step; may be nested. Appendix C.1 evaluates Lookahead so. Batch-norm
        statistics stem from the fast weights' passes; given `model` and `batches` (of inputs, or of tuples
        that start with them), they are estimated anew for the slow weights, and put back at the end. Raises a
        ValueError where only one of the two is given, where there are no batches, or where a parameter was resized.
        A `state_dict()` of the model taken inside holds the model's own tensors, as always: copy it to keep it.
        """
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        if (model is None) != (batches is None):
            raise ValueError(f"give both model and batches, or neither; {'model' if model is None else 'batches'}=None")
        with_slow = self._current_members().of(tuple(range(len(self.param_groups))))
        fast, slow = with_slow.params, [own[self._keys.slow] for own in with_slow.states]
        swap = swapped(fast, slow) if self._swap_depth == 0 else contextlib.nullcontext()
        with swap:
            self._swap_depth += 1
            try:
                with reestimated(model, batches) if fast and batches is not None else contextlib.nullcontext():
                    yield
            finally:
                self._swap_depth -= 1

    @torch.no_grad()
    def return_to_slow_weights(self) -> None:
        """Set the fast weights to the slow ones, in place, as where an inner loop begins; the step count stays.

        Raises a RuntimeError inside `slow_weights()`.
        """
        self._refuse_while_swapped("return_to_slow_weights()")
        with_slow = self._current_members().of(tuple(range(len(self.param_groups))))
        copy_(with_slow.params, with_slow.entries(self._keys.slow))
        forget_derived()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimizer, which synchronizes in phase with the others.

        It may hold `lookahead_k` and `lookahead_alpha`; raises a ValueError if they are out of range. The dict is
        copied.
        """
        if isinstance(param_group, dict):
            param_group = completed(param_group, self._keys, self._given, self._steps)
        self.inner.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return the inner optimizer's state dict, which holds the slow weights, k, alpha and the step count.

        Raises a RuntimeError inside `slow_weights()`.
        """
        self._refuse_while_swapped("state_dict()")
        hooks.run(self._optimizer_state_dict_pre_hooks, self)
        self._complete_groups()
        self._wait_for_copies()
        state_dict = with_lookahead_entries(self.inner.state_dict(), self.inner, self._keys)
        return hooks.changed_by(self._optimizer_state_dict_post_hooks, self, state_dict)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of ours, to go on exactly where it was taken, or a plain inner optimizer's.

        k, alpha and outer momentum stay as they are given here, with a warning where the checkpoint's differ. A plain
        checkpoint brings no slow weights: they start as the current weights, at step 0, with a warning.
        Raises a RuntimeError inside `slow_weights()`, and what the inner optimizer raises.
        """
        self._refuse_while_swapped("load_state_dict()")
        state_dict = hooks.changed_by(self._optimizer_load_state_dict_pre_hooks, self, state_dict.copy())
        self._complete_groups()
        keys = self._keys
        kept = [keys.own_part(group) for group in self.param_groups]
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
        if self._workers is not None:
            self._workers.forget_agreement()
        hooks.run(self._optimizer_load_state_dict_post_hooks, self)
        for warning in differences(kept, saved_groups, keys):
            warnings.warn(warning, stacklevel=2)  # last, as a warning may be made an error

    def __repr__(self) -> str:
        """Show k, alpha and inner_state as constructed, and the inner optimizer with its groups."""
        arguments = f"k={self.k}, alpha={self.alpha}, inner_state={self.inner_state!r}"
        for name, default in (("slow_dtype", None), ("slow_device", None), ("fused", False), ("outer_momentum", 0.0)):
            if getattr(self, name) != default:
                arguments += f", {name}={getattr(self, name)}"
        arguments += "" if self.nesterov else ", nesterov=False"
        arguments += f", group of {self._workers.size}" if self._workers is not None else ""
        return f"{type(self).__name__} ({arguments}, inner={self.inner!r})"

    def __getstate__(self) -> dict[str, Any]:
        """List what deepcopy and pickle take: no hooks, as in torch, and no `step` patched by a scheduler."""
        self._refuse_while_swapped("copying or pickling")
        if self._workers is not None:
            raise RuntimeError("a Lookahead with a group of workers cannot be copied or pickled: take its state_dict()")
        self._wait_for_copies()
        arguments = ("inner", "_given", "inner_state", "slow_dtype", "slow_device", "fused", "_workers")
        others = ("_last_alpha", "last_alpha_raw", "_keys", "_moments", "_steps", "_swap_depth")
        return {"_members": None} | {field: getattr(self, field) for field in (*arguments, *others)}

    def _options(self) -> tuple[Any, ...]:
        """Return what workers must have alike beside the settings of groups."""
        return self.inner_state, self.slow_dtype

    def _wait_for_copies(self) -> None:
        """Let copies of slow weights to the host's memory arrive before they are read there."""
        if self.slow_device is not None:
            for device in {p.device for group in self.param_groups for p in group["params"] if p.is_cuda}:
                torch.cuda.synchronize(device)

    def _refuse_while_swapped(self, what: str) -> None:
        if self._swap_depth > 0:
            raise RuntimeError(f"{what} inside slow_weights() would take slow weights for fast ones; leave it first")
