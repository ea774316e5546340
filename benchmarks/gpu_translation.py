"""The Transformer on this device: what fast updates compute, how fast they are, and what beam search finds.

WMT14's configuration at the paper's size, on pairs made in code whose lengths are spread as that text's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from omegaconf import DictConfig

from benchmarks.gpu_checks import COMPARED, EAGER, Check, agreement, graphs, losses, waits
from benchmarks.gpu_imagenet import release
from benchmarks.gpu_penn_treebank import first_gradients, same_gradients
from benchmarks.gpu_speed import timed
from benchmarks.own_work import own_work
from benchmarks.trainers import endless_updates, started, translation_configuration
from benchmarks.translation import LEAST_ALIKE, RATE
from benchmarks.translation_results import DECODING as BEAM_SEARCH
from benchmarks.translation_results import GOALS, RATE_GOAL
from benchmarks.translation_sides import WITHOUT_DROPOUT, Decoding, our_search, plain_search
from experiments.engine.loop import Trainer
from experiments.engine.provenance import peak_memory

VOCABULARY = 32_000
LENGTHS = ("+task.corpus.median=24", "+task.corpus.spread=0.55")
LEARNED = 150  # updates before sentences are translated
SENTENCES, COMPARED_SENTENCES = 256, 64

Configure = Callable[..., DictConfig]  # of overrides


def configured(model: str, batch_size: int) -> Configure:
    """Return what composes a configuration of WMT14 on the made pairs, with Lookahead around Adam."""

    def configure(*overrides: str) -> DictConfig:
        sizes = ("wmt14", model, VOCABULARY, batch_size)
        counts = [f"+task.corpus.test_pairs={SENTENCES}"]
        return translation_configuration(*sizes, *LENGTHS, *counts, *overrides, "optim=la_adam", *RATE)

    return configure


def updates(device: torch.device, fast: list[str], folder: Path, configure: Configure) -> list[Check]:
    """Compare fast updates without dropout with eager float32 ones."""
    found = []
    for how in (EAGER, ()):
        release(device)
        trainer = started(configure(*fast, f"runtime.device={device}", *WITHOUT_DROPOUT, *how), folder)
        found.append((first_gradients(trainer), losses(trainer, COMPARED)))
        del trainer
    (gradients, eager), (fast_gradients, fast_losses) = found
    agreed = agreement(eager, fast_losses, COMPARED)
    agreed.name = f"Transformer, {agreed.name}"
    return [same_gradients(gradients, fast_gradients, "Transformer"), agreed]


def speeds(device: torch.device, fast: list[str], folder: Path, configure: Configure) -> tuple[list[Check], Trainer]:
    """Say how fast updates are, and what was found on the way; return their trainer too."""
    release(device)
    trainer = started(configure(*fast, f"runtime.device={device}"), folder)
    first = timed(device, lambda: trainer.update(next(endless_updates(trainer))))[1]
    found = [graphs(trainer), waits(trainer)]
    for check in found:
        check.name = f"Transformer, {check.name}"
    return [*found, Check("Transformer, the first update, compiling", f"{first:.1f} s"), speed(trainer)], trainer


def speed(trainer: Trainer, count: int = 30, loops: int = 2) -> Check:
    """Time updates; say the memory that was taken, and Lookahead's part of an update."""
    stream = endless_updates(trainer)

    def take(number: int) -> None:
        for update in islice(stream, number):
            trainer.update(update)

    take(5)
    begun = trainer.position.samples
    seconds = timed(trainer.device, lambda: take(count))[1]
    rate = (trainer.position.samples - begun) / seconds
    own = own_work(trainer, stream, loops)
    config = trainer.config
    compiled = "compiled" if config.runtime.compile else "not compiled"
    text = (
        f"{rate:,.0f} target tokens/s ({1000 * seconds / count:.1f} ms per update), "
        f"{peak_memory(trainer.device) / 2**30:.1f} GiB at most, Lookahead {own.percent:.2f} % of an update; "
        f"the goal on one H100 is {RATE_GOAL:,}"
    )
    return Check(f"Transformer, {config.batch_size:,} positions, {config.precision}, {compiled}", text)


def searches(trainer: Trainer) -> list[Check]:
    """Compare the beam search's translations with the CPU's, and time it and one without a cache, in float32."""
    for update in islice(endless_updates(trainer), max(0, LEARNED - trainer.position.step)):
        trainer.update(update)
    model, task, device = trainer.parts.task.model, trainer.parts.task, trainer.device
    settings, data = (task.beam, task.length_penalty), task.data.test
    some = data.first(COMPARED_SENTENCES)
    on_cpu = Decoding(our_search(copy.deepcopy(model).cpu(), *settings), some, task.beam, torch.device("cpu"))
    own = our_search(model, *settings)
    here = Decoding(own, some, task.beam, device).translations()  # the kernels are loaded
    alike = sum(one == other for one, other in zip(on_cpu.translations(), here, strict=True))
    length = sum(map(len, here)) / len(some)
    text = f"{alike} of {len(some)} sentences alike, {length:.1f} tokens in the mean"
    good = alike >= LEAST_ALIKE * len(some)
    found = [Check("beam search, translations against the CPU's", text, good, "stop; the translations are wrong")]
    plain = plain_search(model, trainer.config, *settings)
    Decoding(plain, some, task.beam, device).translations()
    rates = [len(data) / _seconds(Decoding(search, data, task.beam, device)) for search in (own, plain)]
    text = (
        f"{rates[0]:,.0f} sentences/s, {rates[0] / rates[1]:.1f} times one without a cache; the goal is "
        f"{GOALS[BEAM_SEARCH]:.0f} times"
    )
    return [*found, Check(f"beam search, {len(data)} sentences, float32", text)]


def _seconds(decoding: Decoding) -> float:
    return timed(decoding.device, decoding.translations)[1]
