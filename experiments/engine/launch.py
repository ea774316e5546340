"""Which process of how many this is, as torchrun or Slurm says it. Needs no torch: the command line asks, too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from experiments.engine.errors import ConfigurationError

# Of `runtime`, what may differ between the processes of a run.
OWN = ("device", "threads", "data_dir", "output_dir", "progress", "commit")


@dataclass(frozen=True)
class Launch:
    """Which process of how many this is, and which of its host."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0


def launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """Return what torchrun (RANK, WORLD_SIZE, LOCAL_RANK) or else Slurm's srun says; alone where neither does.

    In a batch script, outside srun, Slurm sets SLURM_PROCID too, but not SLURM_STEP_NUM_TASKS: there is one process.
    Raises ConfigurationError where they contradict themselves.
    """
    if "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    elif "SLURM_PROCID" in environment and "SLURM_STEP_NUM_TASKS" in environment:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    else:
        return Launch()
    values = {name: environment.get(name, "0") for name in names}
    rank, count, local_rank = (whole_number(value, -1) for value in values.values())
    if not (0 <= rank < count and local_rank >= 0):
        found = ", ".join(f"{name}={value}" for name, value in values.items())
        raise ConfigurationError(
            f"{found} in the environment is not possible; unset {names[1]}, or start processes with torchrun or srun"
        )
    return Launch(rank, count, local_rank)


def whole_number(text: str, otherwise: int) -> int:
    """Return the whole number that a text is in plain digits, else `otherwise`."""
    return int(text) if text.isascii() and text.isdecimal() else otherwise


def refuse_sweep(started: Launch) -> None:
    """Raise a ConfigurationError in each of several processes: they take one run."""
    if started.count > 1:
        raise ConfigurationError("several processes were started for a sweep; give each setting a command of its own")
