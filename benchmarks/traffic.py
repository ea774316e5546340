"""How much memory a piece of work reads and writes, counted by the kernels that it calls."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CACHE = 1 << 24  # bytes that a CPU is taken to hold in its cache
# What a kernel may write to by its signature, and does not: gradients, which it would unscale.
ONLY_READ = {"_fused_sgd_": {"grads"}, "_fused_adam_": {"grads"}, "_fused_adamw_": {"grads"}}
OVERWRITING = {"copy_", "_foreach_copy_", "zero_", "_foreach_zero_", "fill_"}  # do not read what they write to


class Traffic(TorchDispatchMode):
    """Count the bytes that torch's kernels read and write inside a `with` block.

    What is among the last `cache` bytes touched is read again, or written once more, at no cost; with 0 each kernel
    counts in full. A compiled kernel is not seen.
    """

    def __init__(self, cache: int) -> None:
        super().__init__()
        self.reads = self.writes = 0
        self._cache, self._held = cache, 0
        self._recent: OrderedDict[tuple[int, int], bool] = OrderedDict()  # address and bytes: whether written to

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name, schema = func.overloadpacket.__name__, func._schema
        given = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | kwargs
        aliases = [a.alias_info for a in (*schema.arguments, *schema.returns) if a.alias_info is not None]
        if any(not alias.is_write for alias in aliases):
            return result  # a view
        for argument in schema.arguments:
            writes = argument.alias_info is not None and argument.name not in ONLY_READ.get(name, ())
            for t in _tensors(given.get(argument.name)):
                self._touch(t, not (writes and name in OVERWRITING) and not name.startswith("empty"), writes)
        if not aliases:
            for t in _tensors(result):
                self._touch(t, False, not name.startswith("empty"))
        return result

    def _touch(self, t: Tensor, reads: bool, writes: bool) -> None:
        size = t.numel() * t.element_size()
        if not size or not (reads or writes):
            return
        place = t.data_ptr(), size
        held = place in self._recent
        dirty = self._recent.pop(place, False)
        self.reads += size if reads and not held else 0
        self.writes += size if writes and not dirty else 0
        self._recent[place] = dirty or writes
        self._held += 0 if held else size
        while self._held > self._cache:
            (_, oldest), _ = self._recent.popitem(last=False)
            self._held -= oldest


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def traffic(work: Callable[[], object], device: torch.device) -> tuple[int, int]:
    """Return the bytes that `work` reads and writes; on a CPU, whose cache holds much, those of the memory itself."""
    with Traffic(CACHE if device.type == "cpu" else 0) as seen:
        work()
    return seen.reads, seen.writes
