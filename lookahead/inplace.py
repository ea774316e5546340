"""In-place operations on lists of tensors, shared by the optimizer and the averages.

Every tensor keeps its address: nothing here rebinds `.data`. Tensors of one device are not waited for.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from operator import is_not
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lookahead.untraced import untraced


class Part(NamedTuple):
    """Paired tensors, each list of which is of one device and dtype, and the elements of the largest tensor.

    `alike` says whether all lists are of the same ones, `on_cpu` whether the first is on the CPU; `device` and
    `dtype` were the second one's at the time. `third` is empty where there are but two, and
    `dense` says, where there are three, whether each row of them goes through its memory in one order without gaps.
    """

    first: list[Tensor]
    second: list[Tensor]
    largest: int
    alike: bool
    on_cpu: bool
    device: torch.device
    dtype: torch.dtype
    third: list[Tensor]
    dense: bool


class Pairs:
    """Two lists of tensors that belong together pair by pair, split into parts of one device and dtype.

    A third list may go with the first: momentum buffers beside slow weights. The split is kept as long as `fits` says
    so: to compare costs less than to split. The lists are not to be changed in place. `what` says in an error what the
    first list holds, `names` what the second one's tensors are called.

    Raises:
        ValueError: the tensors of a pair differ in shape.
    """

    def __init__(
        self,
        first: Sequence[Tensor],
        second: Sequence[Tensor],
        what: str = "slow weights",
        names: Sequence[str] = (),
        third: Sequence[Tensor] = (),
    ) -> None:
        check_shapes(first, second, what, names)
        self._first, self._second, self._third = Same(first), Same(second), Same(third)
        # The local part of a sharded tensor is made anew each time; sparse and empty tensors have no address.
        self._plain = all(map(is_plain, (*first, *third))) and all(map(_has_address, second))
        lists = (first, second, third) if third else (first, second)
        self.parts = [_part(*its) for its in by_device_and_dtype(*lists)]
        if self._plain:
            self._given = second
            self._addresses, self._counts = list(map(Tensor.data_ptr, second)), list(map(Tensor.numel, second))
            self._strides = list(map(Tensor.stride, second)) if third else None

    @untraced
    def fits(self, first: Sequence[Tensor], second: Sequence[Tensor], third: Sequence[Tensor] = ()) -> bool:
        """Say whether these are the same tensors, the second of which lie and count as before (`.to()` moves them).

        Runs at every synchronization. To ask all tensors for device and dtype would take twice as long: a tensor that
        moves or is converted gets memory of its own, and only the whole model's passing through a third dtype could
        give back the very addresses, which the first tensor of each part tells.
        """
        if not (self._plain and self._first.as_in(first) and (second is self._given or self._second.as_in(second))):
            return False
        if not self._third.as_in(list(third)):
            return False
        if self._strides is not None and list(map(Tensor.stride, second)) != self._strides:
            return False
        for part in self.parts:
            if part.second[0].dtype != part.dtype or part.second[0].device != part.device:
                return False
        return list(map(Tensor.data_ptr, second)) == self._addresses and list(map(Tensor.numel, second)) == self._counts


def _has_address(t: Tensor) -> bool:
    return is_plain(t) and t.layout == torch.strided and t.numel() > 0


def _part(first: list[Tensor], second: list[Tensor], third: Sequence[Tensor] = ()) -> Part:
    kinds = {(tensors[0].device, tensors[0].dtype) for tensors in (first, second, third) if tensors}
    on_cpu, largest = first[0].device.type == "cpu", max(map(Tensor.numel, first))
    device, dtype = second[0].device, second[0].dtype
    in_one_order = bool(third) and all(map(dense, first, second, third))
    return Part(first, second, largest, len(kinds) == 1, on_cpu, device, dtype, list(third), in_one_order)


def dense(*tensors: Tensor) -> bool:
    """Say whether tensors of one shape go through their memory in the same order, without gaps."""
    strides = {t.stride() if t.layout == torch.strided else None for t in tensors}
    # Only a tensor without gaps has the strides of its like.
    return len(strides) == 1 and torch.empty_like(tensors[0], device="meta").stride() in strides


class Same:
    """Tensors, to ask later whether a list still holds these very ones, which runs at every step.

    Lists are compared an order of magnitude sooner by `==`, which does not look into what is identical, than item by
    item. For tensors that are not it asks `torch.eq`, whose answer passes for "equal" only where it is one element.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = list(tensors)
        self._single = [number for number, t in enumerate(tensors) if not is_plain(t) or t.numel() == 1]
        self._single_tensors = [tensors[number] for number in self._single]

    @untraced
    def as_in(self, tensors: list[Tensor]) -> bool:
        """Say whether the list holds the same tensors in the same order."""
        try:
            equal = tensors == self._tensors
        except Exception:  # whatever torch says of tensors that cannot be compared, they are not the same
            return False
        if not self._single or not equal:
            return equal
        return not any(map(is_not, map(tensors.__getitem__, self._single), self._single_tensors))


def check_shapes(kept: Sequence[Tensor], tensors: Sequence[Tensor], what: str, names: Sequence[str] = ()) -> None:
    """Raise a ValueError where what is kept of a tensor, its slow weights, say, no longer has the tensor's shape.

    Without it a shape that can be broadcast would be. `names` are the tensors', else they are numbered.
    """
    for number, (held, t) in enumerate(zip(kept, tensors, strict=True)):
        if held.shape != t.shape:
            name = names[number] if names else f"parameter {number}"
            raise ValueError(
                f"the {what} of {name} have the shape {tuple(held.shape)}, and it has {tuple(t.shape)} now: was it "
                "resized? Begin anew with `optimizer.state.pop(parameter)`, or with a new average of the weights"
            )


@torch.no_grad()
def interpolate_(pairs: Pairs, weight: float) -> None:
    """Move every first tensor towards its second one: slow += weight * (fast - slow).

    `lerp` is exact at both ends, so weight 0 leaves `slow` as it is and weight 1 gives `fast` to the last bit; the
    written-out form does not.
    """
    for slows, fasts, _, alike, *_ in pairs.parts:
        # Both sides must agree; they do unless a checkpoint brought an average of another dtype.
        ends = fasts if alike else [f.to(s.device, s.dtype) for s, f in zip(slows, fasts, strict=True)]
        torch._foreach_lerp_(slows, ends, weight)


@torch.no_grad()
def copy_(destination: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    """Copy every `source` tensor into its `destination` of the same shape, converting dtype and device."""
    for destinations, sources in by_device_and_dtype(destination, source):
        torch._foreach_copy_(destinations, sources)


@contextmanager
def making_state() -> Iterator[None]:
    """Make tensors that outlive the block: no autograd, and no inference tensors, which cannot be written outside."""
    with torch.inference_mode(False), torch.no_grad():  # inference_mode(False) alone would turn autograd on
        yield


@contextmanager
def swapped(
    fast: Sequence[Tensor], other: Sequence[Tensor], what: str = "slow weights", names: Sequence[str] = ()
) -> Iterator[None]:
    """Let the `fast` tensors hold the values of `other` inside the `with` block, and their own after it.

    The lists pair tensors of one shape (ValueError otherwise; `what` and `names` are for its text). Pairs of one dtype
    and device trade contents, so only one tensor at a time exists twice; other pairs need a backup, as a trade would
    round the more precise side. What fails, also half way in, leaves every tensor as it was.
    """
    with torch.no_grad():
        pairs = [(local(a), local(b)) for a, b in zip(fast, other, strict=True)]
    check_shapes(other, fast, what, names)
    with ExitStack() as undo:  # the last first, which matters where two tensors share memory
        undo.callback(forget_derived)
        for a, b in pairs:
            if (a.device, a.dtype) == (b.device, b.dtype):
                _trade(a, b)
                undo.callback(_trade, a, b)
            else:
                undo.callback(_write, a, a.detach().clone())
                _write(a, b)
        forget_derived()
        yield


@untraced
def forget_derived() -> None:
    """Drop what torch has derived from weights and keeps: autocast's casts, and parametrizations inside `cached()`."""
    torch.clear_autocast_cache()  # empty outside autocast; inside it may be off for a moment, and keep its cache
    if parametrize._cache_enabled:
        parametrize._cache.clear()


def is_plain(t: Tensor) -> bool:
    """Say whether it is a tensor or parameter of torch's own: told quickly, as this runs over all parameters."""
    return type(t) is Tensor or type(t) is nn.Parameter


def local(t: Tensor) -> Tensor:
    """Return this rank's part of a sharded tensor (DTensor), which shares its memory; any other as it is.

    To be called without autograd, for which the part would be a view.
    """
    return t if is_plain(t) or not hasattr(t, "to_local") else t.to_local()


def _trade(a: Tensor, b: Tensor) -> None:
    """Exchange the contents of two tensors of one shape, dtype and device; `a` keeps its own where that fails."""
    held = a.detach().clone()
    try:
        _write(a, b)
        _write(b, held)
    except BaseException:
        _write(a, held)
        raise


def _write(t: Tensor, values: Tensor) -> None:
    """Copy into a tensor, also into one made in inference mode."""
    with torch.inference_mode(t.is_inference()), torch.no_grad():
        t.copy_(values)


def by_device_and_dtype(*lists: Sequence[Tensor]) -> Iterator[tuple[list[Tensor], ...]]:
    """Split lists that belong together into parts whose tensors share device and dtype, as fused kernels need."""
    parts: dict[tuple[Any, ...], tuple[list[Tensor], ...]] = {}
    with torch.no_grad():
        for tensors in zip(*(map(local, its) for its in lists), strict=True):
            kind = tuple((t.device, t.dtype) for t in tensors)
            for its, t in zip(parts.setdefault(kind, tuple([] for _ in lists)), tensors, strict=True):
                its.append(t)
    yield from parts.values()
