"""All that the rest of a run depends on, as a checkpoint holds it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.engine.errors import RunFolderError
from experiments.engine.local_workers import restore_weights, workers_state
from experiments.engine.parts import Parts
from experiments.engine.processes import ALONE, Processes
from experiments.engine.run_folder import check_same_configuration
from experiments.engine.seeding import random_state, seed_rank, set_random_state

if TYPE_CHECKING:
    from experiments.engine.loop import Trainer


@dataclass
class Position:
    """Where a run is: what is done, so that a resumed run goes on with batch `batch` of epoch `epoch`."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    evaluations: int = 0
    evaluated_step: int = -1
    wall_s: float = 0.0


def state_of(trainer: Trainer) -> dict[str, Any]:
    """Return the state of all processes together; called by all of them."""
    parts, everyone = trainer.parts, trainer.processes
    workers = workers_state(parts, everyone)
    if workers is None:
        everyone.broadcast_tensors(parts.task.model.buffers())
    sums = everyone.gather((trainer.updater.loss_sum.item(), trainer.updater.weight_sum))
    return {
        "config": trainer.saved_config,
        "position": dataclasses.asdict(trainer.position),
        "loss_sum": sum(loss for loss, _ in sums),
        "weight_sum": sum(weight for _, weight in sums),
        "last_row": trainer.last_row,
        "last_lr": trainer.last_lr,
        "commits": trainer.commits,
        "history": trainer.history.state_dict(),
        "model": parts.task.model.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "schedule": parts.schedule.state_dict(),
        "average": parts.average.state_dict() if parts.average is not None else None,
        "task": everyone.gather(parts.task.state_dict()),
        "probes": trainer.probes.state_dict(),
        "best": trainer.best.state_dict(),
        "random": everyone.gather(random_state()),
        **({} if workers is None else {"workers": workers}),
    }


def newest_state(trainer: Trainer) -> dict[str, Any] | None:
    """Return the newest checkpoint's state, to whose length history.csv is cut back; None where there is none.

    Raises RunFolderError for one of another configuration, and where there are rows without a checkpoint.
    """
    state = trainer.checkpoints.load()
    if state is not None:
        with trainer.checkpoints.fitting():
            check_same_configuration(trainer.config, state["config"], trainer.checkpoints.folder)
            trainer.history.load_state_dict(state["history"])
    elif trainer.history.path.exists():
        raise RunFolderError(
            f"{trainer.history.path} has rows but there is no checkpoint; move {trainer.folder} away to start again"
        )
    return state


def restore_trainer(trainer: Trainer, state: dict[str, Any]) -> None:
    """Put the states of a checkpoint back; with as many processes as it is of, those of each of them."""
    restore(trainer.parts, state, trainer.processes)
    trainer.position = Position(**state["position"])
    if trainer.processes.writes:  # it goes on with the sums of all
        trainer.updater.loss_sum.fill_(state["loss_sum"])
        trainer.updater.weight_sum = state["weight_sum"]
    trainer.last_row, trainer.last_lr = state["last_row"], state["last_lr"]
    trainer.commits = list(dict.fromkeys([*state["commits"], *trainer.commits]))
    trainer.probes.load_state_dict(state["probes"])
    trainer.best.load_state_dict(state["best"])
    if len(state["random"]) == trainer.processes.count:
        set_random_state(state["random"][trainer.processes.rank])
    else:
        seed_rank(trainer.config.seed, trainer.position.step, trainer.processes.rank)


def restore(parts: Parts, state: dict[str, Any], processes: Processes = ALONE) -> None:
    """Put the parts' states of a checkpoint back."""
    restore_weights(parts, state, processes)
    parts.schedule.load_state_dict(state["schedule"])
    if parts.average is not None:
        parts.average.load_state_dict(state["average"])
    parts.task.load_state_dict(state["task"])
