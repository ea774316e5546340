"""Trainers on synthetic data for benchmarks, in this process or each in one of its own that works when asked."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.engine.composition import composed
from experiments.engine.interruption import Interruption
from experiments.engine.launch import launch
from experiments.engine.loop import Trainer
from experiments.engine.parts import build
from experiments.engine.processes import ALONE, Processes
from experiments.engine.run import prepare
from experiments.engine.task import Update
from experiments.engine.tracker import NoTracker


def cifar_configuration(model: str, images: int, *overrides: str) -> DictConfig:
    """Return CIFAR-100's configuration with the paper's batch, on so many synthetic images, and a fifth to test."""
    chosen = ["task=cifar100", "scale=smoke", f"model={model}", "batch_size=128"]
    sizes = [f"task.dataset.train_subset={images}", f"task.dataset.val_subset={max(images // 5, 1)}"]
    return quiet(*chosen, *sizes, *overrides)


def imagenet_configuration(model: str, folder: Path, batch_size: int, *overrides: str) -> DictConfig:
    """Return ImageNet's configuration, but for its batch, on the images of a folder in the layout of ImageNet."""
    chosen = ["task=imagenet", f"model={model}", f"task.images.folder={folder}", f"batch_size={batch_size}"]
    return quiet(*chosen, *overrides)


def penn_treebank_configuration(
    model: str, vocabulary: int, batch_size: int, tokens: int, *overrides: str
) -> DictConfig:
    """Return Penn Treebank's configuration on a text of so many words and training tokens that is made in code."""
    chosen = ["task=ptb", "scale=smoke", f"model={model}", f"task.vocabulary={vocabulary}", f"batch_size={batch_size}"]
    least = [f"task.corpus.{split}_tokens={vocabulary}" for split in ("val", "test")]
    return quiet(*chosen, *least, f"task.corpus.train_tokens={max(tokens, vocabulary)}", *overrides)


def translation_configuration(task: str, model: str, vocabulary: int, batch_size: int, *overrides: str) -> DictConfig:
    """Return a translation task's configuration on pairs of sentences that are made in code."""
    chosen = [f"task={task}", f"model={model}", f"task.vocabulary={vocabulary}", f"batch_size={batch_size}"]
    return quiet(*chosen, "task.corpus._target_=benchmarks.made_pairs.made_pairs", *overrides)


def quiet(*overrides: str) -> DictConfig:
    """Return a training configuration that shows nothing and that reads no losses and saves nothing by itself."""
    silent = ["runtime.progress=none", "tracker=none", "runtime.read_loss_every=1000000"]
    return composed("train", [*silent, "runtime.checkpoint_every_s=null", *overrides])


def started(config: DictConfig, folder: Path, processes: Processes = ALONE) -> Trainer:
    """Return a trainer that is ready for its first update, and set what its run would set for the process."""
    device = prepare(config, launch())
    parts = build(config, device, processes)
    trainer = Trainer(config, parts, device, folder, NoTracker(), Interruption(), processes=processes)
    trainer.start_clock()
    trainer.parts.task.model.train()
    return trainer


def endless_updates(trainer: Trainer) -> Iterator[Update]:
    """Yield the updates of one epoch after the other."""
    epoch = 0
    while True:
        yield from trainer.parts.task.updates(epoch, 0, trainer.share)
        epoch += 1


class Worker:
    """A process of its own that answers one line of JSON to each line that it is asked."""

    def __init__(self, script: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, script, *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8", env=environment)

    def ask(self, question: Any = None) -> None:
        print(json.dumps(question), file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        """Wait for the answer. Raises RuntimeError where the process ended without one."""
        for line in self.process.stdout:
            if line.startswith("answer "):  # other lines are what libraries print
                return json.loads(line.removeprefix("answer "))
        raise RuntimeError(f"a process of the benchmark ended with {self.process.wait()}")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        """Let it end by itself: a killed client of CUDA MPS would end the others."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def serve(answer: Callable[[Any], Any]) -> None:
    """Answer what the parent asks, until it asks no more."""
    for line in sys.stdin:
        print("answer", json.dumps(answer(json.loads(line))), flush=True)
