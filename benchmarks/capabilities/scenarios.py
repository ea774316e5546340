"""Small trainings on which the checks look: one weight under gradient 1, and a small network on random data."""

from __future__ import annotations

import gc
import io
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

# One weight, from 3, after each of 5 steps of SGD at rate 1 under gradient 1, by outer momentum; k = 2, alpha = 1/2. An
# inner loop goes down by s = 2. Without momentum the outer update goes down by alpha s = 1; with mu = 1/2 the buffer is
# 2, then 1/2 2 + 2 = 3, and the outer update goes down by alpha (mu b + s), which is 3/2, then 7/4.
BY_HAND = {0.0: [2.0, 2.0, 1.0, 1.0, 0.0], 0.5: [2.0, 1.5, 0.5, -0.25, -1.25]}


def weight(value: float, size: int = 1, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    """Return a parameter that holds `value`."""
    return nn.Parameter(torch.full((size,), value, dtype=dtype))


def descend(optimizer: Optimizer, params: nn.Parameter | Sequence[nn.Parameter], steps: int, gradient: float = 1.0):
    """Take steps with a constant gradient; return the values of the first parameter after each."""
    params = [params] if isinstance(params, nn.Parameter) else list(params)
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()  # as every training does; in torch it also sets up an optimizer's hooks
        for p in params:
            p.grad = torch.full_like(p, gradient)
        optimizer.step()
        seen.append(params[0].flatten()[0].item())
    return seen


def outer_steps(displacements: Iterable[float], alpha: float, momentum: float) -> list[float]:
    """Return how far each outer update moves the slow weights, where the inner loops moved the fast ones so far."""
    buffer, moved = 0.0, []
    for s in displacements:
        buffer = momentum * buffer + s
        moved.append(alpha * (momentum * buffer + s))
    return moved


def synchronizations(seen: Sequence[float], start: float) -> list[int]:
    """Return the steps, counted from 1, at which the weight did not just fall by 1, the inner step of `descend`."""
    before = [start, *seen]
    return [n for n, value in enumerate(seen, 1) if value != before[n - 1] - 1]


def network(seed: int = 0) -> nn.Module:
    """Return a small network, the same for the same seed."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def momentum(model: nn.Module) -> Optimizer:
    """Return SGD with momentum: an inner optimizer that has state."""
    return SGD(model.parameters(), lr=0.1, momentum=0.9)


def train(model: nn.Module, optimizer: Any, steps: int, first: int = 0, rank: int = 0, ranks: int = 1) -> None:
    """Take steps on data that depend on the step's number only; of `ranks`, each takes its share of a batch."""
    for number in range(first, first + steps):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        model(x[rank::ranks]).square().mean().backward()
        optimizer.step()


def weights(model: nn.Module) -> list[float]:
    """Return all weights as one plain list, which compares to the last bit and travels between processes."""
    return nn.utils.parameters_to_vector(model.parameters()).tolist()


def through_file(state: Any) -> Any:
    """Save and load as users should: without arbitrary code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def live_bytes() -> int:
    """Return the size of all tensors that exist, each storage once."""
    gc.collect()
    tensors = [found for found in gc.get_objects() if issubclass(type(found), Tensor)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


class Operations(TorchDispatchMode):
    """Record the names of torch's operations inside a `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Iterable[Any] = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))
