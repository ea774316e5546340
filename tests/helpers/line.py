"""A task without data, one weight large, and a trainer of it from a configuration written here: quick to make."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from experiments.engine import loop
from experiments.engine.interruption import Interruption
from experiments.engine.loop import Trainer
from experiments.engine.parts import Parts
from experiments.engine.schedule import Schedule, multistep
from experiments.engine.task import Batch, Mean, Share, Update
from experiments.engine.tracker import NoTracker
from lookahead import Lookahead
from tests.helpers.running import history

TEXT = """
seed: 1
task: {name: line}
optim: {name: sgd, lr: 0.1}
epochs: 2
steps: null
scale: paper
precision: fp32
batch_norm_images: null
keep: null
probe: null
average: null
evaluation: {every_epochs: 1, every_steps: null, splits: [train, val], train_pass_every: null, batch_norm: null}
runtime:
  micro_batches: 1
  read_loss_every: 100
  checkpoint_every_steps: null
  checkpoint_every_s: null
  compile: null
  compile_dynamic: false
  cuda_graph: false
  progress: none
"""


class Line:
    """The weight w and the loss w (mean of the inputs), so that SGD of rate r moves w by -r each update.

    An epoch has three updates of 2, 2 and 1 samples; `carried` is how many passes were made, and an evaluation draws.
    """

    def __init__(self) -> None:
        self.model, self.carried = nn.Linear(1, 1, bias=False), 0
        nn.init.ones_(self.model.weight)
        self.sizes, self.evaluated = (2, 2, 1), []

    def steps(self, epoch: int) -> int:
        return len(self.sizes)

    def updates(self, epoch: int, start: int = 0, share: Share | None = None) -> Iterator[Update]:
        for size in self.sizes[start:]:
            yield Update([Batch(torch.ones(size, 1), None, size=size, weight=float(size))], float(size), size)

    def loss(self, model, batch):
        self.carried += 1
        return model(batch.inputs).mean()

    def evaluate(self, model, split, share, processes, tick):
        tick()
        self.evaluated.append(split)
        torch.rand(())
        self.model.eval()
        return {f"{split}/loss": Mean(10 * model(torch.ones(1, 1)).item(), 10)}

    def derive(self, metrics):
        return {}

    def batch_norm_inputs(self):
        yield from ()

    def state_dict(self) -> dict[str, Any]:
        return {"carried": self.carried}

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        self.carried = states[0]["carried"]


def line_config(**changes: Any) -> DictConfig:
    """Return the configuration with changes, two underscores for a dot."""
    config = OmegaConf.create(TEXT)
    for path, value in changes.items():
        OmegaConf.update(config, path.replace("__", "."), value, merge=False)
    return config


def line_trainer(
    folder: Path, interruption: Interruption | None = None, k: int | None = None, rate: float = 0.1, **changes: Any
) -> Trainer:
    """Return a trainer of the task in `folder`: SGD, or with `k` Lookahead (alpha 0.5) around it."""
    config, task = line_config(**changes), Line()
    optimizer = torch.optim.SGD(task.model.parameters(), lr=rate)
    if k is not None:
        optimizer = Lookahead(optimizer, k=k, alpha=0.5)
    schedule = Schedule(optimizer, lambda o: multistep(o, [1], 0.5), per="epoch")
    parts = Parts(task, task.model, optimizer, schedule, average=None)
    folder.mkdir(exist_ok=True)
    return Trainer(
        config, parts, torch.device("cpu"), folder, NoTracker(), interruption or Interruption(), commit="abc"
    )


def column(trainer, name):
    return [row[name] for row in history(trainer.folder)]


def trained(folder, **changes):
    trainer = line_trainer(folder, **changes)
    assert trainer.train() is True
    return trainer


class Clock:
    """A clock that moves by `tick` seconds each time it is read."""

    def __init__(self, monkeypatch, tick):
        self.now, self.tick = 100.0, tick
        monkeypatch.setattr(loop.time, "perf_counter", self)

    def __call__(self):
        self.now += self.tick
        return self.now


def stopped_at(folder, step, **changes):
    """Train until a signal arrives in the update that leads to `step`; return the trainer."""
    interruption = Interruption()
    trainer = line_trainer(folder, interruption, **changes)
    original = trainer.update

    def update(one):
        if trainer.position.step + 1 == step:
            interruption.signum = signal.SIGTERM
        original(one)

    trainer.update = update
    assert trainer.train() is False
    return trainer


def saved(trainer):
    """Return the state of the newest checkpoint."""
    return trainer.checkpoints.load()


def steps_saved(trainer):
    """Note at which steps a checkpoint is written from now on."""
    steps, save = [], trainer.checkpoints.save
    trainer.checkpoints.save = lambda step, state: steps.append(step) or save(step, state)
    return steps
