"""The outer update as one compiled kernel, which reads and writes every weight once."""

import functools
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def pull_back_(slow: Sequence[Tensor], fast: Sequence[Tensor], alpha: float | Tensor) -> bool:
    """Do slow += alpha * (fast - slow), then fast := slow; return False, with nothing changed, where it cannot be.

    The tensors are of one device; each list is of one dtype. torch.compile makes the kernel at the first call
    for these shapes, in seconds; without a C++ compiler, say, a warning tells why it cannot, once.
    """
    kernel = _kernel()
    if kernel is None or not slow[0].is_floating_point():
        return False
    # A number would be compiled into the kernel, which a schedule of alpha would have compiled again and again.
    if not isinstance(alpha, Tensor):
        alpha = torch.full((), alpha, dtype=slow[0].dtype, device=slow[0].device)
    alpha = alpha.to(slow[0].device, slow[0].dtype)
    try:
        kernel([s.detach() for s in slow], [f.detach() for f in fast], alpha)
    except torch._dynamo.exc.TorchDynamoException as error:  # raised while compiling: nothing has run
        _give_up(error)
        return False
    return True


_reason: list[str] = []  # why there is no kernel, once that is known


@functools.cache
def _compiled() -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    def kernel(slow: list[Tensor], fast: list[Tensor], alpha: Tensor) -> None:
        converted = [f.to(s.dtype) for s, f in zip(slow, fast, strict=True)]
        torch._foreach_lerp_(slow, converted, [alpha] * len(slow))
        torch._foreach_copy_(fast, slow)

    # Not `fullgraph`: beyond torch's limit of compilations, new shapes run as they are written.
    return torch.compile(kernel, dynamic=False)


def _kernel() -> Callable | None:
    if _reason:
        return None
    try:
        return _compiled()
    except RuntimeError as error:  # torch.compile is not there at all, as with a Python that is too new
        _give_up(error)
        return None


def _give_up(error: Exception) -> None:
    _reason.append(str(error).splitlines()[0])
    warnings.warn(f"fused=True is not available here, so the plain update is used: {_reason[0]}", stacklevel=2)
