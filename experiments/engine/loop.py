"""The training loop: one for every domain, for epochs and for steps.

Read `Trainer._epochs` and `Trainer.update` first. The loop never asks which domain it runs: a Task gives it batches
and a loss.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from experiments.engine.alpha_log import AlphaLog
from experiments.engine.average import evaluated_weights
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.configuration import Parts
from experiments.engine.errors import Diverged, RunFolderError
from experiments.engine.interruption import Interrupted, Interruption
from experiments.engine.progress import Progress
from experiments.engine.records import Table
from experiments.engine.run_folder import check_same_configuration, result_config
from experiments.engine.seeding import random_state, set_random_state
from experiments.engine.task import Batch
from experiments.engine.tracker import Tracker


@dataclass
class Position:
    """Where a run is: what is done, so that a resumed run goes on with batch `batch` of epoch `epoch`."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    evaluated_step: int = -1
    wall_s: float = 0.0


class Trainer:
    """One run: its parts, its position, and what it writes."""

    def __init__(
        self,
        config: DictConfig,
        parts: Parts,
        device: torch.device,
        folder: Path,
        tracker: Tracker,
        interruption: Interruption,
        commit: str = "unknown",
    ) -> None:
        self.config, self.parts, self.device, self.folder = config, parts, device, folder
        self.tracker, self.interruption = tracker, interruption
        self.position = Position()
        self.commits = [commit]  # of the code; more than one where a resumed run went on with other code
        self.history = Table(folder / "history.csv")
        self.last_row: dict[str, Any] = {}
        self.alpha_log = AlphaLog(parts.optimizer, device)
        self.needs_closure = getattr(parts.optimizer, "needs_closure", False)
        self.checkpoints = Checkpoints(folder / "checkpoints")
        # Sums since the last evaluation, on the device: reading one waits for every kernel queued before it.
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.weight_sum = 0.0
        self.running_loss = float("nan")
        self.total_steps = config.steps or config.epochs * parts.task.steps_per_epoch
        # What each update asks for, as plain values: reading a DictConfig costs tens of microseconds.
        self.last_step, self.autocast = config.steps, config.precision.autocast
        self.evaluate_every, self.batch_norm = config.evaluation.every_steps, config.evaluation.batch_norm
        self.read_every = config.runtime.read_loss_every
        self.checkpoint_every = config.runtime.checkpoint_every_steps
        self.steps_unread, self.samples_unread = 0, 0
        self.last_lr = parts.optimizer.param_groups[0]["lr"]  # of the last update
        self.clock = time.perf_counter()

    def train(self) -> bool:
        """Train from the last checkpoint, or from the start, to the end. Return False where a signal stopped it."""
        self.resume()
        self.start_clock()
        self.parts.task.model.train()
        try:
            return self._epochs()
        finally:
            self.progress.close()

    def start_clock(self) -> None:
        """Begin to count time, and to show progress, from the position that the run is at."""
        self.clock, self.read_at = time.perf_counter(), self.position.wall_s
        name = f"{self.config.task.name} {self.config.optim.name}"
        self.progress = Progress(self.config.runtime.progress, self.total_steps, self.position.step, name)

    def _epochs(self) -> bool:
        at, task = self.position, self.parts.task
        while not self.finished():
            for batch in task.batches(at.epoch, start=at.batch):
                if self._due(self.evaluate_every) and not self.evaluate_and_record():
                    return False
                if at.step == self.last_step:
                    break
                self.update(batch)
                if self.interruption.signum is not None:
                    return self.stop_here()
                if self._due(self.checkpoint_every):
                    self.save()
            else:  # the epoch is over, not cut short by `steps`
                if self.parts.average is not None:
                    self.parts.average.after("epoch", at.epoch)
            # Here the epoch, or the run, is over.
            if self._evaluation_due_at_epoch_end() and not self.evaluate_and_record():
                return False
            self.parts.schedule.after("epoch", self.last_row if at.evaluated_step == at.step else None)
            at.epoch, at.batch = at.epoch + 1, 0
            self.save()
        return True

    def _evaluation_due_at_epoch_end(self) -> bool:
        at, every_epochs = self.position, self.config.evaluation.every_epochs
        if every_epochs is not None and (at.epoch + 1) % every_epochs == 0:
            return True
        last = at.epoch + 1 == self.config.epochs if self.last_step is None else at.step == self.last_step
        return last or self._due(self.evaluate_every)

    def finished(self) -> bool:
        at = self.position
        if self.last_step is not None:
            return at.step == self.last_step == at.evaluated_step
        return at.epoch == self.config.epochs

    def _due(self, every: int | None) -> bool:
        return every is not None and self.position.step > 0 and self.position.step % every == 0

    def update(self, batch: Batch) -> None:
        """One update of the (fast) weights: forward, backward, step; nothing here waits for the device."""
        parts, at = self.parts, self.position

        def loss_and_gradients() -> torch.Tensor:
            parts.optimizer.zero_grad(set_to_none=True)
            with autocast(self.autocast, self.device):
                loss = parts.task.loss(parts.forward, batch)
            loss.backward()
            return loss.detach()

        self.last_lr = parts.optimizer.param_groups[0]["lr"]
        with scaled_learning_rate(parts.optimizer, batch.lr_scale):
            if self.needs_closure:  # which is called more than once; a captured graph would reuse the loss's memory
                loss = parts.optimizer.step(lambda: loss_and_gradients().clone())
            else:
                loss = loss_and_gradients()
                parts.optimizer.step()
        parts.optimizer.zero_grad(set_to_none=True)
        parts.schedule.after("step")
        if parts.average is not None:
            parts.average.after("step", at.step)

        self.loss_sum.add_(loss, alpha=batch.weight)
        self.weight_sum += batch.weight
        at.batch, at.step, at.samples = at.batch + 1, at.step + 1, at.samples + batch.size
        self.steps_unread, self.samples_unread = self.steps_unread + 1, self.samples_unread + batch.size
        if self.steps_unread >= self.read_every:
            self.read_loss()

    def read_loss(self) -> None:
        """Read the running loss: waits for the device. Raises Diverged where it is not finite."""
        if self.weight_sum == 0:
            return
        self.running_loss = self.loss_sum.item() / self.weight_sum
        if not math.isfinite(self.running_loss):
            at, lr = self.position, self.parts.optimizer.param_groups[0]["lr"]
            raise Diverged(
                f"the training loss is {self.running_loss} in epoch {at.epoch + 1}, within the last "
                f"{max(self.steps_unread, 1)} updates before step {at.step} (lr {lr:g}); "
                f"lower optim.lr, now {self.config.optim.lr:g}"
            )
        self.tick_clock()
        rate = self.samples_unread / max(self.position.wall_s - self.read_at, 1e-9)
        self.read_at = self.position.wall_s
        self.progress.step(self.steps_unread, self.running_loss, rate)
        self.steps_unread = self.samples_unread = 0

    def evaluate_and_record(self) -> bool:
        """Evaluate, and append a row to history.csv, unless that is done for this step.

        Return False where a signal came first: then the state is saved, and the evaluation is done on resume.
        """
        if self.position.evaluated_step == self.position.step:
            return True
        self.read_loss()
        tick = self.interruption.raise_if_requested
        try:
            with autocast(self.autocast, self.device), evaluated_weights(self.parts, self.batch_norm, tick):
                metrics = self.parts.task.evaluate(self.parts.forward, tick)
        except Interrupted:
            return self.stop_here()
        at = self.position
        self.tick_clock()
        # epoch is 1-based. running_loss is that of the fast weights, as trained since the last row.
        row = {
            "epoch": at.epoch + 1,
            "step": at.step,
            "samples": at.samples,
            "wall_s": round(at.wall_s, 3),
            "lr": self.last_lr,
        }
        row |= {"train/running_loss": self.running_loss, **metrics, **self.alpha_log.metrics()}
        at.evaluated_step = at.step
        self.loss_sum.zero_()
        self.weight_sum = 0.0
        self.last_row = row
        if self.parts.average is not None:
            self.parts.average.observe(metrics)
        self.history.append(row)
        self.tracker.log(row)
        self.progress.row(row, self.config.epochs)
        wrong = [f"{key} is {value}" for key, value in metrics.items() if not math.isfinite(value)]
        if wrong:
            raise Diverged(f"{wrong[0]} at step {at.step}; lower optim.lr, now {self.config.optim.lr:g}")
        return True

    def tick_clock(self) -> None:
        now = time.perf_counter()
        self.position.wall_s += now - self.clock
        self.clock = now

    def stop_here(self) -> bool:
        self.save()
        return False

    def save(self) -> None:
        """Write a checkpoint of everything that the rest of the run depends on."""
        self.read_loss()  # never keep a state whose loss is not finite
        self.tick_clock()
        parts = self.parts
        state = {
            "config": result_config(self.config),
            "position": dataclasses.asdict(self.position),
            "loss_sum": self.loss_sum,
            "weight_sum": self.weight_sum,
            "last_row": self.last_row,
            "last_lr": self.last_lr,
            "commits": self.commits,
            "history": self.history.state_dict(),
            "model": parts.task.model.state_dict(),
            "optimizer": parts.optimizer.state_dict(),
            "schedule": parts.schedule.state_dict(),
            "average": parts.average.state_dict() if parts.average is not None else None,
            "task": parts.task.state_dict(),
            "alpha_log": self.alpha_log.state_dict(),
            "random": random_state(),
        }
        self.checkpoints.save(self.position.step, state)

    def resume(self) -> None:
        """Go on from the newest checkpoint, if any. Raises RunFolderError for one of another configuration."""
        state = self.checkpoints.load()
        if state is None:
            if self.history.path.exists():
                raise RunFolderError(
                    f"{self.history.path} has rows but there is no checkpoint; move {self.folder} away to start again"
                )
            self.save()  # from here on there is always a checkpoint to cut history.csv back to
            return
        check_same_configuration(self.config, state["config"], self.checkpoints.folder)
        restore(self.parts, state)
        self.position = Position(**state["position"])
        self.loss_sum.copy_(state["loss_sum"])
        self.weight_sum, self.last_row, self.last_lr = state["weight_sum"], state["last_row"], state["last_lr"]
        self.commits = list(dict.fromkeys([*state["commits"], *self.commits]))
        self.history.load_state_dict(state["history"])
        self.alpha_log.load_state_dict(state["alpha_log"])
        set_random_state(state["random"])


@contextlib.contextmanager
def scaled_learning_rate(optimizer: torch.optim.Optimizer, scale: float):
    """Multiply every group's learning rate by `scale` inside the context, for one step (PTB: its length)."""
    if scale == 1.0:
        yield
        return
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * scale
    try:
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def autocast(precision: str | None, device: torch.device) -> contextlib.AbstractContextManager:
    """Return the context of `precision.autocast`: None (float32) or "bf16"."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def restore(parts: Parts, state: dict[str, Any]) -> None:
    """Put the parts' states of a checkpoint back."""
    parts.task.model.load_state_dict(state["model"])
    parts.optimizer.load_state_dict(state["optimizer"])
    parts.schedule.load_state_dict(state["schedule"])
    if parts.average is not None:
        parts.average.load_state_dict(state["average"])
    parts.task.load_state_dict(state["task"])
