"""Averages of the weights that only read the trajectory: they never change how the model trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lookahead.inplace import interpolate_, swapped


class PolyakAverage:
    """Average a model's weights over its updates: a plain mean at first, then an exponential moving average.

    The n-th `update()`, counted from 0, does mean += w * (theta - mean) with w = max(1 - decay, 1 / (n + 1)).
    decay=1 is the mean of all updates (Polyak-Ruppert); decay=0 is the current weights. The mean takes memory
    from the first update on, in each parameter's dtype: in bfloat16 a slow average stalls.

    Args:
        model: its parameters are averaged, whatever optimizer moves them.
        decay: in [0, 1].
        buffers: average floating-point buffers (batch-norm statistics) the same way. Integer ones are left
            alone, and so are those with a value that is not finite now (masks of -inf).

    Raises:
        ValueError: decay is not a number in [0, 1].
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, buffers: bool = True) -> None:
        if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay <= 1:
            raise ValueError(f"decay must be a number in [0, 1], not {decay!r}")
        self.model, self.decay = model, decay
        # Decided once, here, as looking into a buffer waits for the device.
        self._buffers = {name for name, b in model.named_buffers() if buffers and _can_be_averaged(b)}
        self._mean: dict[str, Tensor] = {}
        self._updates = 0
        self._swap_depth = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the current weights into the mean; call it after each optimizer step.

        Raises a RuntimeError inside `averaged_weights()`.
        """
        self._refuse_while_swapped("update()")
        current = self._current()
        weight = max(1 - self.decay, 1 / (self._updates + 1))
        known = [name for name in current if name in self._mean]
        interpolate_([self._mean[name] for name in known], [current[name] for name in known], weight)
        for name in current.keys() - self._mean.keys():  # all of them at the first update, where w = 1
            self._mean[name] = current[name].detach().clone()
        self._updates += 1

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Let the model hold the mean inside the `with` block, in place, and its own weights after it.

        Changes nothing before the first update; may be nested.
        """
        names = list(self._mean) if self._swap_depth == 0 else []
        current = self._current()
        with swapped([current[name] for name in names], [self._mean[name] for name in names]):
            self._swap_depth += 1
            try:
                yield
            finally:
                self._swap_depth -= 1

    def state_dict(self) -> dict[str, Any]:
        """Return the mean by name and the number of updates; a RuntimeError inside `averaged_weights()`."""
        self._refuse_while_swapped("state_dict()")
        return {"updates": self._updates, "mean": dict(self._mean)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict()`, whose tensors are copied.

        Raises a ValueError where its names or shapes are not the model's, and a RuntimeError inside
        `averaged_weights()`.
        """
        self._refuse_while_swapped("load_state_dict()")
        current, mean = self._current(), state_dict["mean"]
        if mean and mean.keys() != current.keys():
            names = ", ".join(sorted(mean.keys() ^ current.keys()))
            raise ValueError(f"the saved average and the model do not have the same tensors: {names}")
        for name, value in mean.items():
            if value.shape != current[name].shape:
                shapes = f"{tuple(value.shape)}, not {tuple(current[name].shape)}"
                raise ValueError(f"the saved average of {name} has shape {shapes}")
        self._mean = {name: value.detach().to(current[name].device, copy=True) for name, value in mean.items()}
        self._updates = state_dict["updates"]

    def _current(self) -> dict[str, Tensor]:
        """Look the tensors up anew, as moving a module replaces its buffers."""
        buffers = {name: b for name, b in self.model.named_buffers() if name in self._buffers}
        return dict(self.model.named_parameters()) | buffers

    def _refuse_while_swapped(self, what: str) -> None:
        if self._swap_depth > 0:
            raise RuntimeError(f"{what} inside averaged_weights() would take the mean for the weights; leave it first")


def _can_be_averaged(buffer: Tensor) -> bool:
    return buffer.is_floating_point() and bool(torch.isfinite(buffer).all())
