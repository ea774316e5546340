"""Run an optimizer's own hooks as `torch.optim.Optimizer` would, which wraps only a class's own `step`."""

from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer


def step_arguments(
    optimizer: Optimizer, closure: Callable[[], Any] | None, further: tuple, kwargs: dict[str, Any]
) -> tuple[tuple, dict[str, Any]]:
    """Run the step pre-hooks and return args, which begin with the optimizer, and kwargs as they leave them.

    Raises a RuntimeError where a hook returns something else than None or (args, kwargs).
    """
    args = (optimizer,) if closure is None and not further else (optimizer, closure, *further)
    for hook in optimizer._optimizer_step_pre_hooks.values():
        changed = hook(optimizer, args, kwargs)
        if changed is not None:
            if not (isinstance(changed, tuple) and len(changed) == 2):
                raise RuntimeError(f"a step pre-hook must return None or (args, kwargs), not {changed!r}")
            args, kwargs = changed
    return args, kwargs


def changed_by(hooks: Mapping[Any, Callable], optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return the state dict as hooks that may replace it leave it."""
    for hook in hooks.values():
        changed = hook(optimizer, state_dict)
        state_dict = state_dict if changed is None else changed
    return state_dict


def run(hooks: Mapping[Any, Callable], *arguments: Any) -> None:
    """Call hooks that return nothing."""
    for hook in hooks.values():
        hook(*arguments)
