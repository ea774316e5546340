"""The outer update as one compiled kernel, which reads and writes every weight once."""

import functools
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def pull_back_(slow: Sequence[Tensor], fast: Sequence[Tensor], alpha: float) -> bool:
    """Do slow += alpha * (fast - slow), then fast := slow; return False, with nothing changed, where it cannot be.

    The tensors are of one device; each list is of one dtype. torch.compile makes the kernel at the first call
    for these shapes and this alpha, in seconds; without a C++ compiler, say, a warning tells why it cannot, once.
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


_reason: list[str] = []  # why there is no kernel, once that is known


@functools.cache
def _compiled() -> Callable[[list[Tensor], list[Tensor], float], None]:
    # alpha is a constant of the kernel: read from a tensor, it makes lerp choose its form at every element, which
    # takes several times as long on a CPU.
    def kernel(slow: list[Tensor], fast: list[Tensor], alpha: float) -> None:
        torch._foreach_lerp_(slow, [f.to(s.dtype) for s, f in zip(slow, fast, strict=True)], alpha)
        torch._foreach_copy_(fast, slow)

    # Not `fullgraph`: beyond torch's limit of compilations, new shapes and alphas run as they are written.
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
