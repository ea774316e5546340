"""May a run on this device be trusted? What it computes, compared with the CPU or with eager float32."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch._dynamo.utils import counters

from benchmarks.trainers import cifar_configuration, endless_updates, started
from experiments.engine.evaluation import autocast, evaluated_weights
from experiments.engine.loop import Trainer
from experiments.vision.augment import RandomCropFlip, draw_epoch
from experiments.vision.datasets import CIFAR_MEAN, CIFAR_STD
from lookahead import Lookahead

BATCH = 128
UPDATES, COMPARED = 40, 20  # updates taken, and the one whose losses are compared
# The losses at update 20 may differ by so much, relatively: products in bf16 have 8 bits.
LOSS_TOLERANCE = 2e-2
# At the recipe's 0.1 the first updates are chaotic: on an H200 two eager float32 runs that differ in nothing but their
# memory format were a tenth apart by update 20. At this rate such runs on a CPU stayed within a hundredth.
RATE = 3e-3
# Float32 arithmetic on pixels of at most 2.5 standard deviations: some units in the last place. A wrong pixel is off by
# at least 1 / 63, a level in standard deviations.
PIXEL_TOLERANCE = 1e-6
# Of the largest logit: both sides compute in the run's precision, but add in another order.
LOGIT_TOLERANCE = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}
# Of slow weights of at most 10, after three float32 updates of some roundings each, half a unit in the last place.
OUTER_TOLERANCE = 1e-5
# How the outer update with momentum is done: dtype of the weights, and options of Lookahead.
OUTER_WAYS = {
    "float32": (torch.float32, {}),
    "bfloat16 with float32 slow weights": (torch.bfloat16, {"slow_dtype": torch.float32}),
    "slow weights on the host": (torch.float32, {"slow_device": "cpu"}),
    "fused": (torch.float32, {"fused": True}),
}
OUTER_SHAPES = (
    (1 << 21,),
    (64, 32, 3, 3),
    (256, 512),
    (7,),
    (),
)  # from 65,536 elements on there are kernels of their own


@dataclass
class Check:
    """One row of the report: what was found, and whether it is as it should be (None: for information)."""

    name: str
    found: str
    passed: bool | None = None
    advice: str = ""  # what to do where it is not

    @property
    def verdict(self) -> str:
        return {None: "", True: "good", False: f"NOT GOOD: {self.advice}"}[self.passed]


def crops(device: torch.device, images: int = 50_000) -> list[Check]:
    """Compare crops of a whole data set on the device with the CPU's, in both memory formats: whole batch, last, clean.

    The view of all windows has more elements than 32 bits count: 1.5e12 for CIFAR.
    """
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    draws = draw_epoch(1, 0, images, 4, True)
    last = images % BATCH or BATCH
    found = []
    for channels_last in (False, True):
        pair = [
            RandomCropFlip(part, 4, True, CIFAR_MEAN, CIFAR_STD, channels_last) for part in (pixels, pixels.to(device))
        ]
        starts = [augment.starts(draws) for augment in pair]
        slices = {f"the first {BATCH}": slice(0, BATCH), f"the last {last}": slice(images - last, images)}
        worst = {
            name: apart(*(augment(start[part]) for augment, start in zip(pair, starts, strict=True)))
            for name, part in slices.items()
        }
        worst["clean"] = apart(*(augment.clean(images - last, images) for augment in pair))
        text = ", ".join(f"{name}: {value:.1e}" for name, value in worst.items())
        layout = "channels_last" if channels_last else "contiguous"
        good = max(worst.values()) <= PIXEL_TOLERANCE
        found.append(Check(f"crops against the CPU's, {layout}", f"apart by {text}", good, "stop; the data are wrong"))
    return found


def apart(one: Tensor, other: Tensor) -> float:
    return float((one.cpu() - other.cpu()).abs().max())


def losses(trainer: Trainer, count: int) -> list[float]:
    """Return the loss of each of the next `count` updates."""
    found = []
    updates = endless_updates(trainer)
    for _ in range(count):
        trainer.updater.restart()
        trainer.update(next(updates))
        found.append(trainer.updater.loss_sum.item() / trainer.updater.weight_sum)
    return found


def agreement(eager: list[float], fast: list[float], compared: int = COMPARED) -> Check:
    """Compare the losses of a fast run with those of an eager float32 run on the same batches, at one update."""
    apart = [abs(a - b) / abs(b) for a, b in zip(fast, eager, strict=True)]
    text = (
        f"{eager[compared - 1]:.4f} and {fast[compared - 1]:.4f}, {apart[compared - 1]:.1e} apart "
        f"(at update 1: {apart[0]:.1e}, at {len(apart)}: {apart[-1]:.1e})"
    )
    # Written so that a loss that is not a number does not pass.
    good = apart[compared - 1] <= LOSS_TOLERANCE
    return Check(
        f"loss at update {compared}, eager float32 and fast",
        text,
        good,
        "runtime.cuda_graph=false, then runtime.compile=null",
    )


def graphs(trainer: Trainer) -> Check:
    """Say whether the run's passes are one CUDA graph; where the run captures none, whether inductor left one out."""
    if trainer.parts.captured:
        captured = trainer.updater.captured is not None
        text = "yes" if captured else "no"
        return Check("a pass is one CUDA graph", text, captured, "runtime.cuda_graph=false")
    skips = counters["inductor"]["cudagraph_skips"]
    return Check("CUDA graphs that were skipped", str(skips), skips == 0, "runtime.compile=default")


def strides(trainer: Trainer) -> Check:
    """Compare every gradient's strides with its parameter's, which fused optimizers rely on."""
    trainer.updater.gradients(next(endless_updates(trainer)), counts=False)
    named = list(trainer.parts.task.model.named_parameters())
    wrong = [name for name, p in named if p.grad is None or p.grad.stride() != p.stride()]
    trainer.parts.optimizer.zero_grad(set_to_none=True)
    text = f"{len(named) - len(wrong)} of {len(named)}" + (f"; not {', '.join(wrong[:4])}" if wrong else "")
    return Check("gradients with the strides of their parameters", text, not wrong, "runtime.fused=false")


@torch.no_grad()
def slow_logits(trainer: Trainer) -> Check:
    """Compare compiled logits of the slow weights with eager ones, where the fast weights have been compiled before.

    A graph that reads other memory than the swapped weights gives the fast weights' logits.
    """
    parts, model = trainer.parts, trainer.parts.task.model
    inputs = next(endless_updates(trainer)).parts[0].inputs
    with trainer.undisturbed(), autocast(trainer.precision, trainer.device):
        model.eval()
        for _ in range(3):  # the first passes compile and record
            parts.forward(inputs)
        fast = model(inputs).float()
        with evaluated_weights(parts, "kept") as which:
            eager, compiled = model(inputs).float(), parts.forward(inputs).float().clone()
    size = float(eager.abs().max())
    apart, moved = float((compiled - eager).abs().max()) / size, float((fast - eager).abs().max()) / size
    text = f"{apart:.1e} of the largest apart (fast and slow weights' are {moved:.1e} apart)"
    good = which == "slow" and apart <= LOGIT_TOLERANCE[trainer.precision] and apart < moved / 2
    return Check("slow weights' logits, compiled and eager", text, good, "runtime.compile=null")


@torch.no_grad()
def outer_momentum(device: torch.device) -> Check:
    """Compare outer momentum, in every way that the update is done, with the plain update in float64, on the way there.

    From the second synchronization on nothing may wait for the device.
    """
    apart = {}
    for way, (dtype, options) in OUTER_WAYS.items():
        generator = torch.Generator().manual_seed(0)
        start = [torch.randn(shape, generator=generator).to(device, dtype) for shape in OUTER_SHAPES]
        params = [torch.nn.Parameter(t.clone()) for t in start]
        inner = torch.optim.SGD(params, lr=0.1)
        optimizer = Lookahead(inner, k=2, alpha=0.7, outer_momentum=0.9, **options)
        fast = []  # theta after each inner step, before a synchronization
        inner.register_step_post_hook(lambda *_, params=params, fast=fast: fast.append([p.clone() for p in params]))
        for step in range(6):
            for p in params:
                p.grad = torch.randn(p.shape, generator=generator).to(device, dtype)
            with no_waiting(device) if step > 3 else contextlib.nullcontext():
                optimizer.step()
        phis = plain_outer_updates(start, fast[1::2], 0.7, 0.9)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # copies to the host arrive
        slows = [optimizer.state[p]["lookahead_slow"].to(device) for p in params]
        apart[way] = max(float((slow - phi).abs().max()) for slow, phi in zip(slows, phis, strict=True))
        if not all(torch.equal(p, slow.to(dtype)) for p, slow in zip(params, slows, strict=True)):
            apart[way] = math.inf  # the fast weights are not the slow ones
    text = "; ".join(f"{way}: {value:.1e}" for way, value in apart.items())
    good = max(apart.values()) <= OUTER_TOLERANCE
    return Check("outer momentum against float64", f"apart by {text}", good, "leave outer_momentum out")


def plain_outer_updates(start: list[Tensor], fast: list[list[Tensor]], alpha: float, momentum: float) -> list[Tensor]:
    """Return the slow weights, in float64, after outer updates with Nesterov's momentum towards each of `fast`."""
    slow, buffers = [phi.double() for phi in start], [torch.zeros_like(phi, dtype=torch.float64) for phi in start]
    for thetas in fast:
        s = [phi - theta.double() for phi, theta in zip(slow, thetas, strict=True)]
        buffers = [momentum * b + its for b, its in zip(buffers, s, strict=True)]
        slow = [phi - alpha * (momentum * b + its) for phi, b, its in zip(slow, buffers, s, strict=True)]
    return slow


@contextlib.contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Raise RuntimeError, inside the context, for what waits for a CUDA device."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def waits(trainer: Trainer) -> Check:
    """Take inner steps and two synchronizations of Lookahead in which nothing may wait for the device."""
    updates, count = endless_updates(trainer), 2 * trainer.config.optim.k
    trainer.update(next(updates))
    try:
        with no_waiting(trainer.device):
            for _ in range(count):
                trainer.update(next(updates))
        text = f"none in {count} updates"
    except RuntimeError as error:
        text = str(error).splitlines()[0]
    return Check(
        "waits for the device in updates", text, text.startswith("none"), "find what reads a value of the device"
    )


def compared(
    configure: Callable[..., DictConfig], device: torch.device, fast: list[str], folder: Path, updates: int = UPDATES
) -> tuple[Check, Trainer]:
    """Compare losses of a run with the overrides `fast` with eager float32's; return the fast trainer too."""
    counters.clear()
    common = (f"runtime.device={device}", "optim=la_sgd", f"optim.lr={RATE}")
    reference = losses(started(configure(*fast, *common, *EAGER), folder), updates)
    trainer = started(configure(*fast, *common), folder)
    return agreement(reference, losses(trainer, updates)), trainer


def trust(
    device: torch.device, fast: list[str], folder: Path, model: str = "resnet18", images: int = 50_000
) -> tuple[list[Check], Trainer]:
    """Compare a run with the overrides `fast` with eager float32; return what was found, and the fast trainer."""
    agreed, trainer = compared(partial(cifar_configuration, model, images), device, fast, folder)
    found = [agreed, strides(trainer)]
    for update, _ in zip(endless_updates(trainer), range(2), strict=False):  # off a synchronization
        trainer.update(update)
    found.append(slow_logits(trainer))
    found.append(waits(trainer))
    found.append(graphs(trainer))
    return found, trainer


EAGER = ("precision=fp32", "runtime.compile=null", "runtime.cuda_graph=false", "runtime.channels_last=false")
