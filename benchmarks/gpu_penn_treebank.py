"""Penn Treebank on this device: what fast updates of AWD-LSTM compute, and how long an epoch of them takes.

The text is made in code, of as many words as Penn Treebank has, and the lengths of its sequences are drawn as there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.gpu_checks import COMPARED, EAGER, Check, agreement, losses, waits
from benchmarks.gpu_imagenet import release
from benchmarks.gpu_speed import timed
from benchmarks.own_work import own_work
from benchmarks.penn_treebank_results import EPOCH_GOAL, EPOCH_TOKENS
from benchmarks.trainers import endless_updates, penn_treebank_configuration, started
from experiments.engine.loop import Trainer
from experiments.engine.provenance import peak_memory

WORDS = 10_000
ROWS = 2000  # of the text: its epochs have some 28 updates, so that the comparison goes through none twice
RATE = 1e-3  # Adam's usual one, in place of the recipe's, which the first updates take badly
WITHOUT_DROPOUT = [f"model.{name}_dropout=0" for name in ("word", "input", "hidden", "output", "weight")]
# Of a gradient's norm. On an H200 they were up to 5.2e-2 apart: much of a sum over thousands of words cancels, and the
# rounding to bf16 of what the logits' product gives back to the layers does not. Simulated on a CPU, TF32 in the layers
# adds hardly anything to it; float16 in them, or a mask on the weights of one, takes gradients beyond the tolerance.
GRADIENT_TOLERANCE = 1e-1
MOVED = "not part of single contiguous chunk"  # of what torch warns where cuDNN cannot use the weights as they lie

Configure = Callable[..., DictConfig]  # of overrides


def configured(model: str, batch_size: int) -> Configure:
    """Return what composes a configuration of Penn Treebank on the text, with Lookahead around Adam."""

    def configure(*overrides: str) -> DictConfig:
        sizes = (model, WORDS, batch_size, ROWS * batch_size)
        return penn_treebank_configuration(*sizes, "task.bptt=70", *overrides, "optim=la_adam", f"optim.lr={RATE}")

    return configure


def updates(device: torch.device, fast: list[str], folder: Path, configure: Configure) -> list[Check]:
    """Compare fast updates without dropout with eager float32 ones; hidden states are carried through them."""
    found = []
    for how in (EAGER, ()):
        release(device)
        trainer = started(configure(*fast, f"runtime.device={device}", *WITHOUT_DROPOUT, *how), folder)
        found.append((first_gradients(trainer), losses(trainer, COMPARED)))
        del trainer
    (gradients, eager), (fast_gradients, fast_losses) = found
    agreed = agreement(eager, fast_losses)
    agreed.name, agreed.advice = f"AWD-LSTM, {agreed.name}", "precision=fp32"
    return [same_gradients(gradients, fast_gradients), agreed]


def first_gradients(trainer: Trainer) -> dict[str, Tensor]:
    """Return the gradients of the first update, clipped, which is not taken."""
    trainer.updater.gradients(next(endless_updates(trainer)), counts=False)
    found = {name: p.grad.clone() for name, p in trainer.parts.task.model.named_parameters()}
    trainer.parts.optimizer.zero_grad(set_to_none=True)
    return found


def same_gradients(eager: dict[str, Tensor], fast: dict[str, Tensor], model: str = "AWD-LSTM") -> Check:
    """Compare the gradients of each parameter, by the norm of their difference."""
    apart = {name: float((fast[name] - own).norm() / own.norm()) for name, own in eager.items()}
    # Written so that what is not a number does not pass.
    wrong = [name for name, distance in apart.items() if not distance <= GRADIENT_TOLERANCE]
    text = f"at most {max(apart.values()):.1e} apart" + (f"; too far: {', '.join(wrong[:4])}" if wrong else "")
    return Check(f"{model}, gradients, eager float32 and fast", text, not wrong, "precision=fp32")


def speeds(device: torch.device, fast: list[str], folder: Path, configure: Configure) -> list[Check]:
    """Look for waits in fast updates with dropout, and say how fast these and float32 ones are."""
    release(device)
    trainer = started(configure(*fast, f"runtime.device={device}"), folder)
    waiting = waits(trainer)
    waiting.name = f"AWD-LSTM, {waiting.name}"
    found = [waiting, moved_weights(trainer), speed(trainer)]
    del trainer
    release(device)
    return [*found, speed(started(configure(*fast, f"runtime.device={device}", *EAGER), folder), goal=False)]


def moved_weights(trainer: Trainer) -> Check:
    """Say whether cuDNN used the layers' weights as they lay in an update, or moved them first."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.update(next(endless_updates(trainer)))
    times = sum(MOVED in str(warning.message) for warning in caught)
    return Check("AWD-LSTM, weights that were moved for cuDNN in an update", f"of {times} layers" if times else "none")


def speed(trainer: Trainer, goal: bool = True, count: int = 60, loops: int = 4) -> Check:
    """Time updates of random lengths; say the memory that was taken, and Lookahead's part of an update."""
    stream = endless_updates(trainer)

    def take(number: int) -> None:
        for update in islice(stream, number):
            trainer.update(update)

    take(12)  # of many lengths: the device's memory is shared out anew
    begun = trainer.position.samples
    seconds = timed(trainer.device, lambda: take(count))[1]
    rate = (trainer.position.samples - begun) / seconds
    own = own_work(trainer, stream, loops)
    text = (
        f"{rate:,.0f} tokens/s ({1000 * seconds / count:.1f} ms per update), {EPOCH_TOKENS / rate:.1f} s for an epoch "
        f"of Penn Treebank, {peak_memory(trainer.device) / 2**30:.1f} GiB at most, Lookahead {own.percent:.2f} % of an "
        "update"
    )
    title = f"AWD-LSTM, batch {trainer.config.batch_size}, {trainer.config.precision}"
    return Check(title, f"{text}; the goal on one H100 is {EPOCH_GOAL:.0f} s for an epoch" if goal else text)
