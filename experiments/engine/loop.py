"""The training loop: one for every domain, for epochs and for steps, on one process or many.

Read `Trainer._epochs` and `Trainer.update` first. The loop never asks which domain it runs: a Task gives it updates
and a loss.
"""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from experiments.engine.alpha_log import AlphaLog
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.errors import Diverged
from experiments.engine.evaluation import Best, autocast, evaluated_weights, measure, no_tick, undisturbed
from experiments.engine.interruption import Interrupted, Interruption
from experiments.engine.local_workers import shared_statistics
from experiments.engine.parts import Parts
from experiments.engine.probe import Probes
from experiments.engine.processes import ALONE, Processes
from experiments.engine.progress import Progress
from experiments.engine.run_folder import result_config
from experiments.engine.seeding import seed_rank
from experiments.engine.table import Table
from experiments.engine.task import Share, Update, updates_in
from experiments.engine.tracker import Tracker
from experiments.engine.trainer_state import Position, newest_state, restore_trainer, state_of
from experiments.engine.update import Updater

TRAIN = "train"  # the split that `evaluation.train_pass_every` thins out


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
        processes: Processes = ALONE,
    ) -> None:
        self.config, self.parts, self.device, self.folder = config, parts, device, folder
        self.tracker, self.interruption, self.processes = tracker, interruption, processes
        self.share = Share(processes.rank, processes.count, config.runtime.micro_batches, config.batch_norm_images)
        self.position = Position()
        self.commits = [commit]  # of the code; more than one where a resumed run went on with other code
        self.history = Table(folder / "history.csv")
        self.last_row: dict[str, Any] = {}
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self.saved_config = result_config(config)
        self.best = Best(**(config.keep or {}))
        # What each update asks for, as plain values: reading a DictConfig costs tens of microseconds.
        self.last_step, self.precision = config.steps, config.precision
        self.evaluate_every, self.batch_norm = config.evaluation.every_steps, config.evaluation.batch_norm
        self.read_every = config.runtime.read_loss_every
        self.checkpoint_every, self.save_every_s = (
            config.runtime.checkpoint_every_steps,
            config.runtime.checkpoint_every_s,
        )
        fixed_size = config.runtime.compile is not None and config.runtime.compile_dynamic is False
        clip, several = config.optim.get("clip"), config.batch_norm_images is not None
        self.updater = Updater(parts, device, processes, self.precision, clip, fixed_size, first_pass_counts=several)
        self.probes = self._probes()
        self.running_loss = float("nan")
        self.steps_unread, self.samples_unread = 0, 0
        self.stopping, self.save_wanted = False, False
        self.last_lr = parts.optimizer.param_groups[0]["lr"]  # of the last update
        self.clock = self.saved_at = time.perf_counter()
        # A batch of an evaluation can be interrupted only where no other process waits for its result.
        self.tick = interruption.raise_if_requested if processes.alone and interruption is not None else no_tick

    def _probes(self) -> Probes:
        alpha = AlphaLog(self.parts.optimizer, self.device)
        probes = {"alpha": alpha} if alpha.watching else {}
        if self.config.probe is not None:
            probes["probe"] = instantiate(self.config.probe)(self.parts)
        return Probes(probes)

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
        self.clock = self.saved_at = time.perf_counter()
        self.read_at = self.position.wall_s
        name = f"{self.config.task.name} {self.config.optim.name}"
        total = updates_in(self.parts.task, self.config.epochs, self.last_step)
        style = self.config.runtime.progress if self.processes.writes else "none"
        self.progress = Progress(style, total, self.position.step, name)

    def _epochs(self) -> bool:
        position, task = self.position, self.parts.task
        while not self.finished():
            for update in task.updates(position.epoch, position.batch, self.share):
                if self._due(self.evaluate_every) and not self.evaluate_and_record():
                    return False
                if position.step == self.last_step:
                    break
                self.update(update)
                if self.stopping or (self.processes.alone and self.interruption.signum is not None):
                    return self.stop_here()
                if self.save_wanted or self._due(self.checkpoint_every):
                    self.save()
            else:  # the epoch is over, not cut short by `steps`
                if self.parts.average is not None:
                    self.parts.average.after("epoch", position.epoch)
            # Here the epoch, or the run, is over.
            if self._evaluation_due_at_epoch_end() and not self.evaluate_and_record(epoch_over=True):
                return False
            self.parts.schedule.after("epoch", self.last_row if position.evaluated_step == position.step else None)
            self.probes.after("epoch", self)
            position.epoch, position.batch = position.epoch + 1, 0
            self.read_loss()  # all processes agree there whether to save and whether to stop
            if self.save_wanted or self.finished():
                self.save()
            if self.stopping and not self.finished():
                return self.stop_here()
        return True

    def _evaluation_due_at_epoch_end(self) -> bool:
        every_epochs = self.config.evaluation.every_epochs
        if every_epochs is not None and (self.position.epoch + 1) % every_epochs == 0:
            return True
        return self._last(epoch_over=True) or self._due(self.evaluate_every)

    def _last(self, epoch_over: bool) -> bool:
        """Say whether the run ends here."""
        if self.last_step is not None:
            return self.position.step == self.last_step
        return epoch_over and self.position.epoch + 1 == self.config.epochs

    def finished(self) -> bool:
        position = self.position
        if self.last_step is not None:
            return position.step == self.last_step == position.evaluated_step
        return position.epoch == self.config.epochs

    def _due(self, every: int | None) -> bool:
        return every is not None and self.position.step > 0 and self.position.step % every == 0

    def update(self, update: Update) -> None:
        """One update of the (fast) weights: forward, backward, step; nothing here waits for the device."""
        parts, position = self.parts, self.position
        self.last_lr = parts.optimizer.param_groups[0]["lr"]
        self.updater(update)
        parts.schedule.after("step")
        if parts.average is not None:
            parts.average.after("step", position.step)
        position.batch, position.step = position.batch + 1, position.step + 1
        position.samples += update.size
        self.probes.after("update", self)
        self.steps_unread, self.samples_unread = self.steps_unread + 1, self.samples_unread + update.size
        if self.steps_unread >= self.read_every:
            self.read_loss()

    def read_loss(self) -> None:
        """Read the running loss, which waits for the device; agree with the other processes whether to stop or save.

        Raises Diverged, on all of them, where the loss is not finite.
        """
        self.tick_clock()
        stop = self.interruption is not None and self.interruption.signum is not None
        late = self.save_every_s is not None and time.perf_counter() - self.saved_at >= self.save_every_s
        flags = [float(stop), float(self.save_wanted or (late and self.processes.writes))]
        loss, weight, *flags = self.processes.sum([self.updater.loss_sum.item(), self.updater.weight_sum, *flags])
        self.stopping, self.save_wanted = flags[0] > 0 and not self.processes.alone, flags[1] > 0
        if weight == 0:
            return
        self.running_loss = loss / weight
        if not math.isfinite(self.running_loss):
            raise Diverged(
                f"the training loss is {self.running_loss} in epoch {self.position.epoch + 1}, within the last "
                f"{max(self.steps_unread, 1)} updates before step {self.position.step} "
                f"(lr {self.parts.optimizer.param_groups[0]['lr']:g}); lower optim.lr, now {self.config.optim.lr:g}"
            )
        if self.steps_unread:
            rate = self.samples_unread / max(self.position.wall_s - self.read_at, 1e-9)
            self.progress.step(self.steps_unread, self.running_loss, rate)
        self.read_at = self.position.wall_s
        self.steps_unread = self.samples_unread = 0

    def evaluate_and_record(self, epoch_over: bool = False) -> bool:
        """Evaluate, and append a row to history.csv, unless that is done for this step.

        Return False where a signal came first: then the state is saved, and the evaluation is done on resume.
        """
        if self.position.evaluated_step == self.position.step:
            return True
        self.read_loss()
        if self.stopping:
            return self.stop_here()
        every = self.config.evaluation.train_pass_every
        thinned = every is not None and self.position.evaluations % every != 0 and not self._last(epoch_over)
        try:
            splits = [name for name in self.config.evaluation.splits if not (thinned and name == TRAIN)]
            metrics = self.measure(splits, keep=True)
        except Interrupted:
            return self.stop_here()
        self._record(metrics)
        wrong = [f"{key} is {value}" for key, value in metrics.items() if not math.isfinite(value)]
        if wrong:
            raise Diverged(f"{wrong[0]} at step {self.position.step}; lower optim.lr, now {self.config.optim.lr:g}")
        return True

    def measure(self, splits: list[str], keep: bool = False) -> dict[str, float]:
        """Return the metrics of the evaluated weights (the average, or slow ones), and leave no trace in the training.

        With `keep` they may become the best ones. Raises Interrupted.
        """
        with (
            shared_statistics(self.parts, self.processes),
            self.undisturbed(),
            autocast(self.precision, self.device),
            evaluated_weights(self.parts, self.batch_norm, self.tick) as which,
        ):
            metrics = measure(self.parts, splits, self.share, self.processes, self.tick)
            if keep and self.best.better(metrics):
                position = self.position
                where = {"epoch": position.epoch + 1, "step": position.step, "weights": which}
                self.best.keep(metrics, self.parts.task.model, **where)
        return metrics

    def undisturbed(self) -> contextlib.AbstractContextManager:
        """Put back, at the end of the context, all that passes in it move: see `evaluation.undisturbed`."""
        return undisturbed(self.parts.task, self.processes)

    def _record(self, metrics: dict[str, float]) -> None:
        position = self.position
        self.tick_clock()
        # epoch is 1-based. running_loss is that of the fast weights, as trained since the last row.
        row = {
            "epoch": position.epoch + 1,
            "step": position.step,
            "samples": position.samples,
            "wall_s": round(position.wall_s, 3),
            "lr": self.last_lr,
        }
        row |= {"train/running_loss": self.running_loss, **metrics, **self.probes.metrics()}
        position.evaluated_step, position.evaluations = position.step, position.evaluations + 1
        self.updater.restart()
        self.last_row = row
        if self.parts.average is not None:
            self.parts.average.observe(metrics)
        if self.processes.writes:
            # The first evaluation has every column; what is not measured at a later one stays empty.
            self.history.append({name: row.get(name, "") for name in self.history.columns or ()} | row)
            self.tracker.log(row)
        self.progress.row(row, self.config.epochs)

    def tick_clock(self) -> None:
        now = time.perf_counter()
        self.position.wall_s += now - self.clock
        self.clock = now

    def ask_to_save(self) -> None:
        """Have a checkpoint written after this update, or at the end of this epoch."""
        self.save_wanted = True

    def stop_here(self) -> bool:
        self.save()
        return False

    def save(self) -> None:
        """Write a checkpoint of everything that the rest of the run depends on."""
        self.read_loss()  # never keep a state whose loss is not finite
        self.tick_clock()
        state = state_of(self)
        self.processes.first(lambda: self.checkpoints.save(self.position.step, state) and None)
        self.save_wanted, self.saved_at = False, time.perf_counter()

    def resume(self) -> None:
        """Go on from the newest checkpoint, if any. Raises RunFolderError for one of another configuration."""
        state = self.processes.first(lambda: newest_state(self))
        if state is None:
            if self.processes.rank > 0:  # the first goes on as it was when its parts were made
                seed_rank(self.config.seed, 0, self.processes.rank)
            self.save()  # from here on there is always a checkpoint to cut history.csv back to
            return
        with self.checkpoints.fitting():
            restore_trainer(self, state)
