"""The outer update of Algorithm 1 on lists of tensors, with little traffic of memory."""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lookahead.inplace import Pairs, Part, dense
from lookahead.untraced import untraced

# From this many elements on, a tensor is worth a compiled loop of its own.
LARGE = 1 << 16
# On a CPU large tensors are gone over in blocks of this many elements, so that the slow weights are still in the
# cache when they are copied to the fast ones: 2 reads and 2 writes of memory, where two passes have 3 and 2.
BLOCK = 1 << 20


def pull_back_(
    pairs: Pairs, alpha: float | Tensor, fused: bool = False, momentum: float = 0.0, nesterov: bool = True
) -> None:
    """Do slow += alpha * (fast - slow) (Equation 1), then fast := slow, in place, without waiting for the device.

    The pairs are (slow, fast), which may differ in dtype and device; it is computed in the slow one's dtype on the
    fast one's device. alpha is a number or a 0-dim tensor. `lerp` is exact at 0 and 1, which the written-out form is
    not. `fused` uses one compiled kernel for large real tensors that are on one device, where alpha is a number.
    With `momentum` the step is that of `with_momentum_`, and the pairs have momentum buffers as a third list.
    """
    if not pulled_back_plainly(pairs, alpha, fused, momentum, nesterov):
        for part in pairs.parts:
            _by_size(part, Rule(alpha, momentum, nesterov), fused)


class Rule(NamedTuple):
    """How the slow weights step: alpha, and momentum, which is 0 where the tensors have no buffers."""

    alpha: float | Tensor
    momentum: float = 0.0
    nesterov: bool = True


@untraced
def pulled_back_plainly(
    pairs: Pairs, alpha: float | Tensor, fused: bool = False, momentum: float = 0.0, nesterov: bool = True
) -> bool:
    """Do the outer update by few kernels over all pairs, where no large ones want another way; else change nothing."""
    if fused or not isinstance(alpha, float):
        return False
    for part in pairs.parts:
        if not part.alike or (part.on_cpu and part.largest >= LARGE):
            return False
    rule = Rule(alpha, momentum, nesterov)
    for part in pairs.parts:
        in_lists_(part.first, part.second, part.third, rule, part.dense)
    return True


@torch.no_grad()
def _by_size(part: Part, rule: Rule, fused: bool) -> None:
    """Do the outer update of large tensors as is best for them, and of the others in lists where it can be."""
    slows, fasts = part.first, part.second
    number = not isinstance(rule.alpha, Tensor)  # a tensor's value foreach would read, and wait for
    each = list(zip(slows, fasts, part.third or [None] * len(slows), strict=True))
    large = [tensors for tensors in each if tensors[0].numel() >= LARGE]
    small = [tensors for tensors in each if tensors[0].numel() < LARGE]
    one_device = len({t.device for tensors in each[:1] for t in tensors if t is not None}) == 1
    compilable = fused and number and large and one_device
    if compilable and compiled_pull_back_(*_lists(large), rule):
        large = []
    # Where the dtypes differ, one by one: so one converted copy exists at a time.
    for its, in_lists in ((large, part.alike and number and not part.on_cpu), (small, part.alike and number)):
        if its and in_lists:
            in_lists_(*_lists(its), rule, part.dense)
        elif its:
            _one_by_one(*_lists(its), rule)


def _lists(each: Sequence[tuple[Tensor, Tensor, Tensor | None]]) -> list[list[Tensor]]:
    """Return slow weights, fast weights and momentum buffers, [] where there are none, as lists."""
    return [[t for t in its if t is not None] for its in zip(*each, strict=True)]


@untraced
def in_lists_(
    slow: list[Tensor], fast: list[Tensor], buffers: list[Tensor], rule: Rule, in_one_order: bool = False
) -> None:
    """Do the outer update of tensors of one device and dtype, with kernels that go over whole lists.

    `in_one_order` says whether slow weights, fast weights and momentum buffers are `dense` together.
    """
    # No tensor is made here, and versions are counted all the same: only autograd's layer, which takes longer than
    # the copy of a small tensor, is left out.
    with torch.inference_mode():
        if buffers:
            with_momentum_(slow, fast, buffers, rule, in_one_order)
        else:
            torch._foreach_lerp_(slow, fast, rule.alpha)
        torch._foreach_copy_(fast, slow)


@torch.no_grad()
def _one_by_one(slow: Sequence[Tensor], fast: Sequence[Tensor], buffers: Sequence[Tensor], rule: Rule) -> None:
    if isinstance(rule.alpha, Tensor):
        rule = rule._replace(alpha=rule.alpha.to(fast[0].device, slow[0].dtype))
    for slow_one, fast_one, buffer in zip(slow, fast, buffers or [None] * len(slow), strict=True):
        kept = [t for t in (slow_one, buffer) if t is not None]
        if any((t.device, t.dtype) != (fast_one.device, slow_one.dtype) for t in kept):
            # Slow weights in the host's memory, which is pinned, so that no copy is waited for. The other way
            # round, after the model was moved to the host, the copy must have arrived before it is read.
            moved = [t.to(fast_one.device, slow_one.dtype, non_blocking=fast_one.is_cuda) for t in kept]
            _step(moved[0], fast_one.to(slow_one.dtype), moved[1:], rule)
            fast_one.copy_(moved[0])
            for t, its in zip(kept, moved, strict=True):
                if t is not its:
                    t.copy_(its, non_blocking=fast_one.is_cuda)
            continue
        blocks = [_blocks(t) for t in (*kept, fast_one)]
        for s, *b, f in zip(*blocks, strict=True):
            _step(s, f.to(s.dtype), b, rule)
            f.copy_(s)


def _step(slow: Tensor, fast: Tensor, buffers: list[Tensor], rule: Rule) -> None:
    """Move one tensor's slow weights."""
    if buffers:
        with_momentum_([slow], [fast], buffers, rule, dense(slow, fast, *buffers))
    else:
        slow.lerp_(fast, rule.alpha)


def with_momentum_(
    slow: list[Tensor], fast: list[Tensor], buffers: list[Tensor], rule: Rule, in_one_order: bool
) -> None:
    """Do b := mu b + s, then slow -= alpha (mu b + s) with Nesterov's momentum and alpha b without; s = slow - fast.

    SNOO (Kallusky et al., 2025) and DiLoCo (Douillard et al., 2023). All tensors are of one device and dtype.
    """
    alpha, momentum, nesterov = rule
    like = slow[0]
    if in_one_order and like.dtype in (torch.float32, torch.float64) and like.device.type in ("cpu", "cuda"):
        # torch's SGD in one kernel, 3 reads and 2 writes: its gradient is maximize's -fast and weight decay's 1 * slow,
        # which is s. It goes through the memory alone, whatever the strides, and of 16 bits it gives wrong numbers on a
        # CPU (torch 2.12).
        torch._fused_sgd_(
            slow,
            fast,
            buffers,
            weight_decay=1.0,
            momentum=momentum,
            lr=alpha,
            dampening=0.0,
            nesterov=nesterov,
            maximize=True,
            is_first_step=False,
        )
        return
    for phi, theta, b in zip(slow, fast, buffers, strict=True):  # so one s exists at a time
        s = phi - theta
        b.mul_(momentum).add_(s)
        if nesterov:
            phi.add_(s, alpha=-alpha)
        phi.add_(b, alpha=-alpha * (momentum if nesterov else 1.0))


def _blocks(t: Tensor) -> Sequence[Tensor]:
    """Split along the first dimension into views of about BLOCK elements, whatever the memory format."""
    if t.device.type != "cpu" or t.numel() <= BLOCK:
        return (t,)
    return t.split(max(1, BLOCK * t.shape[0] // t.numel()))


def compiled_pull_back_(slow: Sequence[Tensor], fast: Sequence[Tensor], buffers: Sequence[Tensor], rule: Rule) -> bool:
    """Do the outer update by one compiled kernel, which reads and writes every weight once.

    Returns False, with nothing changed, where it cannot be. The tensors are of one device; each list is of one dtype.
    torch.compile makes the kernel at the first call for these shapes and this rule, in seconds; without a C++
    compiler, say, a warning tells why it cannot, once.
    """
    kernel = _kernel()
    if kernel is None or not slow[0].is_floating_point():
        return False
    try:
        kernel(*([t.detach() for t in its] for its in (slow, fast, buffers)), *rule)
    except torch._dynamo.exc.TorchDynamoException as error:  # raised while compiling: nothing has run
        _give_up(error)
        return False
    return True


_no_kernel_because: list[str] = []  # one sentence, once that is known


@functools.cache
def _compiled() -> Callable[..., None]:
    # alpha and momentum are constants of the kernel: read from a tensor, alpha makes lerp choose its form at every
    # element, which takes several times as long on a CPU.
    def kernel(
        slow: list[Tensor],
        fast: list[Tensor],
        buffers: list[Tensor],
        alpha: float,
        momentum: float,
        nesterov: bool,
    ) -> None:
        for s, f, b in zip(slow, fast, buffers, strict=False):
            apart = s - f.to(s.dtype)
            moved = momentum * b + apart
            s.copy_(s - alpha * (momentum * moved + apart if nesterov else moved))
            b.copy_(moved)
        if buffers:
            torch._foreach_copy_(fast, slow)
            return
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
