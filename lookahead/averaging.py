"""Averages of the weights that only read the trajectory: they never change how the model trains.

What is averaged is what the model holds at `update()`: under Lookahead the fast weights, and inside
`optimizer.slow_weights()` the slow ones.
"""

import math
import numbers
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor, nn

from lookahead.arguments import is_number
from lookahead.batch_norm import reestimated
from lookahead.inplace import Pairs, interpolate_, making_state, swapped


class WeightAverage:
    """What the averages share: a mean that takes memory from the first update on, swapped with the weights in place.

    The n-th `update()`, counted from 0, does mean += w * (theta - mean) with w = 1 / (n + 1), the plain mean, unless
    a subclass has another `_weight()`. The mean is kept in each parameter's dtype: in bfloat16 a slow average stalls.

    Args:
        model: its parameters are averaged, whatever optimizer moves them.
        buffers: average floating-point buffers (batch-norm statistics) the same way. Integer ones are left
            alone, and so are those with a value that is not finite now (masks of -inf).
    """

    def __init__(self, model: nn.Module, buffers: bool = False) -> None:
        self.model, self.averages_buffers = model, buffers
        # Decided once, here, as looking into a buffer waits for the device.
        self._buffers = {name for name, b in model.named_buffers() if buffers and _can_be_averaged(b)}
        self._mean: dict[str, Tensor] = {}
        self._named: NamedTensors | None = None  # as last found, and so the pairs
        self._pairs: Pairs | None = None
        self._updates = 0
        self._swap_depth = 0

    @property
    def has_mean(self) -> bool:
        """Whether there is a mean yet: some `update()` has taken the weights into it."""
        return self._updates > 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the current weights into the mean.

        Raises a RuntimeError inside `averaged_weights()`.
        """
        self._refuse_while_swapped("update()")
        tensors = self._tensors()
        known = [name for name in tensors if name in self._mean]
        interpolate_(self._pairs_of(known, tensors), self._weight())
        if len(known) < len(tensors):  # all of them at the first update, where w = 1
            with making_state():
                new = {name: value.detach().clone() for name, value in tensors.items() if name not in self._mean}
            self._mean = {**self._mean, **new}
        self._updates += 1

    def _pairs_of(self, names: list[str], tensors: Mapping[str, Tensor]) -> Pairs:
        """Return (mean, weights) in parts, as they lie now; a ValueError where a tensor was resized."""
        mean, current = [self._mean[name] for name in names], [tensors[name] for name in names]
        if self._pairs is None or not self._pairs.fits(mean, current):
            self._pairs = Pairs(mean, current, "mean values", names)
        return self._pairs

    def _weight(self) -> float:
        """Return the weight w of the current weights in the mean."""
        return 1 / (self._updates + 1)

    @contextmanager
    def averaged_weights(self, batches: Iterable[Any] | None = None) -> Iterator[None]:
        """Let the model hold the mean inside the `with` block, in place, and its own weights after it.

        With `batches` (inputs, or tuples that begin with one), batch-norm statistics are re-estimated for the mean
        and put back after: see `reestimated`. Changes nothing before the first update, where `batches` is not
        touched; may be nested. An optimizer's step inside would move the mean, and be undone for the weights: take
        none. Raises a ValueError where batch norm finds no batch.
        """
        names = list(self._mean) if self._swap_depth == 0 else []
        tensors = self._tensors()
        weights, mean = [tensors[name] for name in names], [self._mean[name] for name in names]
        with ExitStack() as stack:
            stack.enter_context(swapped(weights, mean, "mean values", names))
            self._swap_depth += 1
            stack.callback(self._leave)
            if batches is not None and self.has_mean:
                stack.enter_context(reestimated(self.model, batches))
            yield

    def _leave(self) -> None:
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
        current, mean = self._tensors(), state_dict["mean"]
        if mean and mean.keys() != current.keys():
            names = ", ".join(sorted(mean.keys() ^ current.keys()))
            raise ValueError(f"the saved average and the model do not have the same tensors: {names}")
        for name, value in mean.items():
            if value.shape != current[name].shape:
                shapes = f"{tuple(value.shape)}, not {tuple(current[name].shape)}"
                raise ValueError(f"the saved average of {name} has shape {shapes}")
        with making_state():
            self._mean = {name: value.detach().to(current[name].device, copy=True) for name, value in mean.items()}
        self._updates = state_dict["updates"]

    def _tensors(self) -> dict[str, Tensor]:
        """Return what is averaged by name, as it is now: moving a module replaces its buffers."""
        if self._named is None or not self._named.is_current():
            self._named = NamedTensors(self.model, self._buffers)
        return self._named.tensors

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is found anew."""
        return self.__dict__ | {"_named": None, "_pairs": None}

    def _refuse_while_swapped(self, what: str) -> None:
        if self._swap_depth > 0:
            raise RuntimeError(f"{what} inside averaged_weights() would take the mean for the weights; leave it first")


class NamedTensors:
    """A model's parameters and some of its buffers by name, and whether they are still all of them.

    Naming them takes about half a millisecond for a ResNet-18; `is_current` a small part of that.
    """

    def __init__(self, model: nn.Module, buffers: Collection[str]) -> None:
        self.tensors = dict(model.named_parameters()) | {n: b for n, b in model.named_buffers() if n in buffers}
        self._modules = list(model.modules())
        self._names, self._contents = (list(chain.from_iterable(part)) for part in self._tables())
        # A model may name its tensors in a way of its own.
        self._as_torch = all(
            getattr(type(model), name) is getattr(nn.Module, name)
            for name in ("named_parameters", "named_buffers", "named_modules", "modules", "_named_members")
        ) and all(isinstance(table, dict) for module in self._modules for table in _tables_of(module))

    def is_current(self) -> bool:
        """Say whether each module still holds the same parameters, buffers and modules under the same names."""
        if not self._as_torch:
            return False
        tables = list(chain.from_iterable(map(_tables_of, self._modules)))
        return (
            sum(map(len, tables)) == len(self._names)
            and all(map(is_, chain.from_iterable(tables), self._names))
            and all(map(is_, chain.from_iterable(map(dict.values, tables)), self._contents))
        )

    def _tables(self) -> tuple[list[Any], list[Any]]:
        tables = list(chain.from_iterable(map(_tables_of, self._modules)))
        return tables, [table.values() for table in tables]


class PolyakAverage(WeightAverage):
    """Average a model's weights over its updates: a plain mean at first, then an exponential moving average.

    The n-th `update()`, counted from 0 and called after each optimizer step, does mean += w * (theta - mean) with
    w = max(1 - decay, 1 / (n + 1)). decay=1 is the mean of all updates (Polyak-Ruppert); decay=0 is the current
    weights.

    Args:
        model, buffers: as in `WeightAverage`.
        decay: in [0, 1].

    Raises:
        ValueError: decay is not a number in [0, 1].
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, buffers: bool = True) -> None:
        if not is_number(decay) or not 0 <= decay <= 1:
            raise ValueError(f"decay must be a number in [0, 1], not {decay!r}")
        super().__init__(model, buffers)
        self.decay = decay

    def _weight(self) -> float:
        return max(1 - self.decay, super()._weight())


class StochasticWeightAverage(WeightAverage):
    """Average the weights equally over the calls of `update()`, one an epoch, say, once the rate is low (SWA).

    Izmailov et al., 2018. Buffers are not averaged: give `averaged_weights(batches)` the training batches where
    the model has batch norm, whose statistics belong to the last weights otherwise. The same mean as
    torch's `AveragedModel`, without its second model.

    Args:
        model: its parameters are averaged, whatever optimizer moves them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)


class NonMonotonicASGD(WeightAverage):
    """Average the weights over all updates since validation stopped improving (NT-ASGD, Merity et al., 2017).

    Call `update()` after each optimizer step, and `observe(loss)` after each validation. The mean is that of the
    weights after every update since the trigger, each counting the same. `torch.optim.ASGD(t0=0, lambd=0)`, which
    the authors' code switches to, overwrites the first of these weights by the second and so leaves them out of its
    mean; here it is the exact mean of all. Buffers are not averaged.

    Args:
        model: its parameters are averaged, whatever optimizer moves them.
        n: the non-monotone interval, a whole number of at least 0: how many of the latest losses do not count.

    Raises:
        ValueError: n is out of range.
    """

    def __init__(self, model: nn.Module, n: int = 5) -> None:
        if isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 0:
            raise ValueError(f"n must be a whole number of at least 0, not {n!r}")
        super().__init__(model)
        self.n = int(n)
        self._triggered = False
        self._losses: list[float] = []

    @property
    def triggered(self) -> bool:
        """Whether averaging has begun: the next `update()` counts."""
        return self._triggered

    def observe(self, validation_loss: float) -> None:
        """Trigger where this loss is above the minimum of all earlier ones except the n most recent.

        A loss that is not finite is passed over: it neither triggers nor counts as seen. Nothing happens once
        triggered. Raises a ValueError for what is not a number.
        """
        if isinstance(validation_loss, bool) or not isinstance(validation_loss, numbers.Real):
            raise ValueError(f"validation_loss must be a number, not {validation_loss!r}")
        if self._triggered or not math.isfinite(validation_loss):
            return
        older = self._losses[: max(len(self._losses) - self.n, 0)]  # not [:-n], which is empty for n = 0
        self._triggered = bool(older) and validation_loss > min(older)
        self._losses.append(float(validation_loss))

    def update(self) -> None:
        """Take the current weights into the mean once triggered; before, do nothing.

        Raises a RuntimeError inside `averaged_weights()`.
        """
        if self._triggered:
            super().update()
        else:
            self._refuse_while_swapped("update()")

    def state_dict(self) -> dict[str, Any]:
        """Return also the losses seen and whether they triggered; a RuntimeError inside `averaged_weights()`."""
        return super().state_dict() | {"losses": list(self._losses), "triggered": self._triggered}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict()`, the trigger's history included; raises as `WeightAverage` does."""
        super().load_state_dict(state_dict)
        self._losses, self._triggered = list(state_dict["losses"]), state_dict["triggered"]


_tables_of = attrgetter("_parameters", "_buffers", "_modules")


def _can_be_averaged(buffer: Tensor) -> bool:
    return buffer.is_floating_point() and bool(torch.isfinite(buffer).all())
