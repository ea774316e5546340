"""The objects that a run is made of, built from its configuration before any data is touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from experiments.engine.average import Average
from experiments.engine.captured import may_capture, mode_within
from experiments.engine.configuration import enough_memory, explained
from experiments.engine.errors import ConfigurationError
from experiments.engine.processes import ALONE, Processes
from experiments.engine.schedule import Schedule
from experiments.engine.seeding import seed_everything
from experiments.engine.task import Task
from experiments.engine.trial import check_targets, try_steps

NOT_ARGUMENTS = ("name", "preset", "recipes")  # of a task's node: for the configuration, not for the task


@dataclass
class Parts:
    """What a run is made of. `task.model` is the plain model; the rest calls it.

    `forward` is compiled where asked, for evaluations. `trained` also sums gradients over processes; `uncompiled` is
    the same without compilation, for batches of a size that is not worth it. `captured` says that a whole pass is to be
    one CUDA graph, `local` that processes do not sum gradients: they are workers that meet at the outer update.
    """

    task: Task
    forward: Callable[..., torch.Tensor]
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    average: Average | None
    trained: Callable[..., torch.Tensor] | None = None  # None: `forward`
    uncompiled: nn.Module | None = None  # None: the task's model
    captured: bool = False
    local: bool = False

    def __post_init__(self) -> None:
        self.trained = self.trained or self.forward
        self.uncompiled = self.uncompiled or self.task.model


def build(config: DictConfig, device: torch.device, processes: Processes = ALONE) -> Parts:
    """Make the parts of a run from its configuration, the model's initial weights from the seed alone.

    The task comes last, as it may fetch data. Raises ConfigurationError for whatever a constructor refuses.
    """
    with explained():
        check_targets(config)
        try_steps(config, device)
        seed_everything(config.seed)
        # Made on the CPU, so that a seed means the same weights on every device.
        with enough_memory(config, "model"):
            model = instantiate(config.model)
        memory_format = torch.channels_last if config.runtime.channels_last else torch.preserve_format
        model = model.to(device=device, memory_format=memory_format)
        optimizer = instantiate(config.optim.optimizer)(model.parameters())
        local = config.optim.get("local", False) and not processes.alone
        of_workers = {"group": dist.group.WORLD, "model": model} if local else {}
        if "lookahead" in config.optim:
            optimizer = instantiate(config.optim.lookahead)(optimizer, **of_workers)
        schedule = Schedule(optimizer, **instantiate(config.schedule))
        average = Average(model, optimizer, **instantiate(config.average)) if config.average is not None else None
        with processes.first_alone(), enough_memory(config, "task"):
            task = _task(config, model, device)
        if average is not None:
            average.check_begins(task, config.epochs, config.steps)
        parts = _called(config, Parts(task, model, optimizer, schedule, average, local=local), device, processes)
        if config.get("probe") is not None:
            instantiate(config.probe)(parts)  # whatever it refuses, before anything is written
    return parts


def _task(config: DictConfig, model: nn.Module, device: torch.device) -> Task:
    chosen = OmegaConf.to_container(config.task, resolve=True)
    arguments: dict[str, Any] = {key: value for key, value in chosen.items() if key not in NOT_ARGUMENTS}
    task = instantiate(arguments, model=model, seed=config.seed, device=device)
    if not hasattr(task, "model"):
        raise ConfigurationError(f"task._target_={config.task._target_} makes no task: it has no model")
    return task


def _called(config: DictConfig, parts: Parts, device: torch.device, processes: Processes) -> Parts:
    """Wrap the model for several processes, then compile: torch asks for this order."""
    model, runtime = parts.task.model, config.runtime
    alone = processes.alone or parts.local
    if not alone:
        # The first process's buffers are broadcast where they are read, not at every pass.
        devices = [device] if device.type == "cuda" else None
        parts.uncompiled = DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)
    parts.trained = parts.uncompiled
    parts.captured = may_capture(config, parts.task, parts.optimizer, device, alone)
    if runtime.compile is not None and getattr(model, "compilable", True):
        mode = mode_within(runtime.compile) if parts.captured else runtime.compile
        options = {"mode": mode, "dynamic": runtime.compile_dynamic}
        parts.forward = torch.compile(model, **options)
        parts.trained = parts.forward if alone else torch.compile(parts.uncompiled, **options)
    return parts
