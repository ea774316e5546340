"""How each implementation is called. Adapters translate names only: what an implementation does stays as it is."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer


class Unsupported(Exception):
    """The implementation offers no way at all to do this; the text says what is missing."""


class Excluded(Exception):
    """What the check looks for and the setting in which it looks exclude one another; the text says how that is."""


class Adapter:
    """An implementation that offers what most do: an inner optimizer, k and alpha."""

    label: str  # the table's column
    distribution: str  # its name for pip
    module: str
    argument: str = "optimizer"  # the constructor's name for the inner optimizer
    slow_key: str  # of the slow weights in a parameter's state
    options: ClassVar[dict[str, tuple[str, dict[Any, Any]]]] = {}  # ours -> (theirs, {our value: their value})
    group_keys: ClassVar[dict[str, str]] = {}  # "k" and "alpha" in a parameter group
    outer_momentum: float = 0.0  # mu of Nesterov's momentum on the outer update, which expected numbers reckon with

    def version(self) -> str:
        return importlib.metadata.version(self.distribution)

    def load(self) -> type[Optimizer]:
        """Return the class; an ImportError if the package is not installed."""
        return importlib.import_module(self.module).Lookahead

    def lookahead(self, inner: Any, k: Any = 5, alpha: Any = 0.5, **options: Any) -> Optimizer:
        """Wrap `inner`; options are named and valued as ours are."""
        translated = {}
        for name, value in options.items():
            if name not in self.options:
                raise Unsupported(f"no option like {name}")
            theirs, values = self.options[name]
            translated[theirs] = values.get(value, value)
        return self.load()(**{self.argument: inner}, k=k, alpha=alpha, **translated)

    def adaptive(self, low: float, gradient: str = "last") -> Any:
        """Return what makes alpha adaptive (Section 2.1), to be given as `alpha`."""
        raise Unsupported("no adaptive alpha")

    def group(self, **entries: Any) -> dict[str, Any]:
        """Return the entries of a parameter group that give it its own k or alpha."""
        if not self.group_keys:
            raise Unsupported("no k or alpha per group")
        return {self.group_keys[name]: value for name, value in entries.items()}

    def slow(self, optimizer: Optimizer, p: Tensor) -> Tensor | None:
        """Return the slow weights of `p`, if there are any."""
        return optimizer.state.get(p, {}).get(self.slow_key)

    def slow_weights(self, optimizer: Optimizer) -> AbstractContextManager[None]:
        """Let the model hold the slow weights inside the `with` block."""
        raise Unsupported("no way to evaluate on the slow weights")

    def estimated(self, optimizer: Optimizer, model: nn.Module, batches: Any) -> AbstractContextManager[None]:
        """As `slow_weights`, with batch-norm statistics estimated for them."""
        raise Unsupported("no batch-norm statistics for the slow weights")


class Ours(Adapter):
    label = "lookahead (ours)"
    distribution = "lookahead-optimizer"
    module = "lookahead"
    slow_key = "lookahead_slow"
    options: ClassVar = {name: (name, {}) for name in ("inner_state", "slow_dtype", "slow_device", "outer_momentum")}
    group_keys: ClassVar = {"k": "lookahead_k", "alpha": "lookahead_alpha"}

    def version(self) -> str:
        return "of this commit"

    def adaptive(self, low: float, gradient: str = "last") -> Any:
        return importlib.import_module(self.module).AdaptiveAlpha(low, gradient=gradient)

    def slow_weights(self, optimizer: Optimizer) -> AbstractContextManager[None]:
        return optimizer.slow_weights()

    def estimated(self, optimizer: Optimizer, model: nn.Module, batches: Any) -> AbstractContextManager[None]:
        return optimizer.slow_weights(model, batches)


class WithOuterMomentum(Ours):
    """Ours once more, where every Lookahead has outer momentum."""

    label = "lookahead with outer momentum"
    outer_momentum = 0.5

    def lookahead(self, inner: Any, k: Any = 5, alpha: Any = 0.5, **options: Any) -> Optimizer:
        return super().lookahead(inner, k, alpha, outer_momentum=self.outer_momentum, **options)

    def adaptive(self, low: float, gradient: str = "last") -> Any:
        alpha = super().adaptive(low, gradient)
        try:
            self.lookahead(SGD([torch.zeros(1)], lr=1.0), alpha=alpha)
        except ValueError as error:
            raise Excluded(f"refused: {error}") from error
        return alpha


class Timm(Adapter):
    label = distribution = "timm"
    module = "timm.optim"
    argument = "base_optimizer"
    slow_key = "lookahead_slow_buff"
    group_keys: ClassVar = {"k": "lookahead_k", "alpha": "lookahead_alpha"}

    def slow(self, optimizer: Optimizer, p: Tensor) -> Tensor | None:
        return optimizer._base_optimizer.state.get(p, {}).get(self.slow_key)


class PytorchOptimizer(Adapter):
    label = distribution = module = "pytorch_optimizer"
    slow_key = "slow_params"
    options: ClassVar = {"inner_state": ("pullback_momentum", {"maintain": "none", "interpolate": "pullback"})}

    @contextmanager
    def slow_weights(self, optimizer: Optimizer) -> Iterator[None]:
        optimizer.backup_and_load_cache()
        try:  # as a careful user writes it around a pair of methods
            yield
        finally:
            optimizer.clear_and_load_backup()


class TorchOptimizer(Adapter):
    label = distribution = module = "torch_optimizer"
    slow_key = "slow_param"


ADAPTERS: tuple[Adapter, ...] = (Ours(), WithOuterMomentum(), Timm(), PytorchOptimizer(), TorchOptimizer())
