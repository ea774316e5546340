"""In-place operations on lists of tensors, shared by the optimizer and the averages.

Every tensor keeps its address: nothing here rebinds `.data`. Tensors of one device are not waited for.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.no_grad()
def interpolate_(slow: Sequence[Tensor], fast: Sequence[Tensor], weight: float) -> None:
    """Move every `slow` tensor towards its `fast` one: slow += weight * (fast - slow).

    The lists pair tensors of one shape. `lerp` is exact at both ends, so weight 0 leaves `slow` as it is and
    weight 1 gives `fast` to the last bit; the written-out form does not.
    """
    for slows, fasts in by_device_and_dtype(slow, fast):
        # Both sides must agree; they do unless a checkpoint brought an average of another dtype.
        torch._foreach_lerp_(slows, [f.to(s.device, s.dtype) for s, f in zip(slows, fasts, strict=True)], weight)


@torch.no_grad()
def copy_(destination: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    """Copy every `source` tensor into its `destination` of the same shape, converting dtype and device."""
    for destinations, sources in by_device_and_dtype(destination, source):
        torch._foreach_copy_(destinations, sources)


@contextmanager
def swapped(fast: Sequence[Tensor], other: Sequence[Tensor]) -> Iterator[None]:
    """Let the `fast` tensors hold the values of `other` inside the `with` block, and their own after it.

    The lists pair tensors of one shape. Pairs of one dtype and device trade contents, so only one tensor at a
    time exists twice; other pairs need a backup, as a trade would round the more precise side.
    """
    traded: list[tuple[Tensor, Tensor]] = []
    backups: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        pairs = [(local(a), local(b)) for a, b in zip(fast, other, strict=True)]
    try:
        for a, b in pairs:
            if (a.device, a.dtype) == (b.device, b.dtype):
                _trade(a, b)
                traded.append((a, b))
            else:
                backups.append((a, a.detach().clone()))
                copy_([a], [b])
        yield
    finally:
        # What was done is undone, also when the entry itself failed half way.
        for a, b in traded:
            _trade(a, b)
        for a, backup in backups:
            copy_([a], [backup])


def local(t: Tensor) -> Tensor:
    """Return this rank's part of a sharded tensor (DTensor), which shares its memory; any other as it is.

    To be called without autograd, for which the part would be a view.
    """
    plain = type(t) is Tensor or type(t) is nn.Parameter  # told quickly, as this runs over all parameters
    return t if plain or not hasattr(t, "to_local") else t.to_local()


@torch.no_grad()
def _trade(a: Tensor, b: Tensor) -> None:
    """Exchange the contents of two tensors of one shape, dtype and device."""
    held = a.detach().clone()
    a.copy_(b)
    b.copy_(held)


def by_device_and_dtype(
    first: Sequence[Tensor], second: Sequence[Tensor]
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Split two paired lists into parts whose tensors share device and dtype, as fused kernels need."""
    parts: dict[tuple, tuple[list[Tensor], list[Tensor]]] = {}
    for a, b in zip(first, second, strict=True):
        key = (a.device, a.dtype, b.device, b.dtype)
        firsts, seconds = parts.setdefault(key, ([], []))
        firsts.append(a)
        seconds.append(b)
    yield from parts.values()
