"""The outer update of Algorithm 1 on lists of tensors, with little traffic of memory."""

import functools
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lookahead.inplace import Pairs, Part
from lookahead.untraced import untraced

# From this many elements on, a tensor is worth a compiled loop of its own.
LARGE = 1 << 16
# On a CPU large tensors are gone over in blocks of this many elements, so that the slow weights are still in the
# cache when they are copied to the fast ones: 2 reads and 2 writes of memory, where two passes have 3 and 2.
BLOCK = 1 << 20


def pull_back_(pairs: Pairs, alpha: float | Tensor, fused: bool = False) -> None:
    """Do slow += alpha * (fast - slow) (Equation 1), then fast := slow, in place, without waiting for the device.

    The pairs are (slow, fast), which may differ in dtype and device; it is computed in the slow one's dtype on the
    fast one's device. alpha is a number or a 0-dim tensor. `lerp` is exact at 0 and 1, which the written-out form is
    not. `fused` uses one compiled kernel for large real tensors that are on one device, where alpha is a number.
    """
    if not pulled_back_plainly(pairs, alpha, fused):
        for part in pairs.parts:
            _by_size(part, alpha, fused)


@untraced
def pulled_back_plainly(pairs: Pairs, alpha: float | Tensor, fused: bool = False) -> bool:
    """Do the outer update by two kernels over all pairs, where no large ones want another way; else change nothing."""
    if fused or not isinstance(alpha, float):
        return False
    for part in pairs.parts:
        if not part.alike or (part.on_cpu and part.largest >= LARGE):
            return False
    for part in pairs.parts:
        _two_passes(part.first, part.second, alpha)
    return True


@torch.no_grad()
def _by_size(part: Part, alpha: float | Tensor, fused: bool) -> None:
    """Do the outer update of large tensors as is best for them, and of the others in lists where it can be."""
    slows, fasts, _, alike, on_cpu, *_ = part
    number = not isinstance(alpha, Tensor)  # a tensor's value foreach would read, and wait for
    both = list(zip(slows, fasts, strict=True))
    large = [pair for pair in both if pair[0].numel() >= LARGE]
    small = [pair for pair in both if pair[0].numel() < LARGE]
    compilable = fused and number and large and slows[0].device == fasts[0].device
    if compilable and compiled_pull_back_(*zip(*large, strict=True), alpha):
        large = []
    # Where the dtypes differ, one by one: so one converted copy exists at a time.
    for pairs, in_lists in ((large, alike and number and not on_cpu), (small, alike and number)):
        if pairs:
            (_two_passes if in_lists else _one_by_one)(*zip(*pairs, strict=True), alpha)


@untraced
def _two_passes(slow: Sequence[Tensor], fast: Sequence[Tensor], alpha: float) -> None:
    # No tensor is made here, and versions are counted all the same: only autograd's layer, which takes longer than
    # the copy of a small tensor, is left out.
    with torch.inference_mode():
        torch._foreach_lerp_(slow, fast, alpha)
        torch._foreach_copy_(fast, slow)


@torch.no_grad()
def _one_by_one(slow: Sequence[Tensor], fast: Sequence[Tensor], alpha: float | Tensor) -> None:
    if isinstance(alpha, Tensor):
        alpha = alpha.to(fast[0].device, slow[0].dtype)
    for slow_one, fast_one in zip(slow, fast, strict=True):
        if slow_one.device != fast_one.device:
            # Slow weights in the host's memory, which is pinned, so that no copy is waited for. The other way
            # round, after the model was moved to the host, the copy must have arrived before it is read.
            moved = slow_one.to(fast_one.device, non_blocking=fast_one.is_cuda).lerp_(
                fast_one.to(slow_one.dtype), alpha
            )
            fast_one.copy_(moved)
            slow_one.copy_(moved, non_blocking=fast_one.is_cuda)
            continue
        for s, f in zip(_blocks(slow_one), _blocks(fast_one), strict=True):
            s.lerp_(f.to(s.dtype), alpha)
            f.copy_(s)


def _blocks(t: Tensor) -> Sequence[Tensor]:
    """Split along the first dimension into views of about BLOCK elements, whatever the memory format."""
    if t.device.type != "cpu" or t.numel() <= BLOCK:
        return (t,)
    return t.split(max(1, BLOCK * t.shape[0] // t.numel()))


def compiled_pull_back_(slow: Sequence[Tensor], fast: Sequence[Tensor], alpha: float) -> bool:
    """Do the outer update by one compiled kernel, which reads and writes every weight once.

    Returns False, with nothing changed, where it cannot be. The tensors are of one device; each list is of one dtype.
    torch.compile makes the kernel at the first call for these shapes and this alpha, in seconds; without a C++
    compiler, say, a warning tells why it cannot, once.
    """
    kernel = _kernel()
    if kernel is None or not slow[0].is_floating_point():
        return False
    try:
        kernel([s.detach() for s in slow], [f.detach() for f in fast], alpha)
    except torch._dynamo.exc.TorchDynamoException as error:  # raised while compiling: nothing has run
        _give_up(error)
        return False
    return True


_no_kernel_because: list[str] = []  # one sentence, once that is known


@functools.cache
def _compiled() -> Callable[[list[Tensor], list[Tensor], float], None]:
    # alpha is a constant of the kernel: read from a tensor, it makes lerp choose its form at every element, which
    # takes several times as long on a CPU.
    def kernel(slow: list[Tensor], fast: list[Tensor], alpha: float) -> None:
        for s, f in zip(slow, fast, strict=True):
            apart = f.to(s.dtype) - s
            # As lerp writes it, exact at 0 and 1; the lerp that torch 2.11 compiles is not exact at 1.
            s.copy_(s + alpha * apart if alpha < 0.5 else f.to(s.dtype) - (1 - alpha) * apart)
        torch._foreach_copy_(fast, slow)

    # Not `fullgraph`: beyond torch's limit of compilations, new shapes and alphas run as they are written.
    return torch.compile(kernel, dynamic=False)


def _kernel() -> Callable[..., None] | None:
    if _no_kernel_because:
        return None
    try:
        return _compiled()
    except RuntimeError as error:  # torch.compile is not there at all, as with a Python that is too new
        _give_up(error)
        return None


def _give_up(error: Exception) -> None:
    _no_kernel_because.append(str(error).splitlines()[0])
    warnings.warn(
        f"fused=True is not available here, so the plain update is used: {_no_kernel_because[0]}", stacklevel=2
    )
