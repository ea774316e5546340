"""From a configuration to the objects of a run; everything is checked before any work starts."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from experiments.engine.average import Average
from experiments.engine.errors import ConfigurationError, choices, innermost
from experiments.engine.schedule import Schedule
from experiments.engine.seeding import seed_everything
from experiments.engine.task import Task


def _whole(low: int) -> tuple[Callable[[Any], bool], str]:
    return (
        lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= low,
        f"a whole number of at least {low}",
    )


def _number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)


def _optional(rule: tuple[Callable[[Any], bool], str]) -> tuple[Callable[[Any], bool], str]:
    return lambda v: v is None or rule[0](v), f"null or {rule[1]}"


def _one_of(*known: Any) -> tuple[Callable[[Any], bool], str]:
    return lambda v: v in known, "one of " + ", ".join("null" if k is None else str(k) for k in known)


# What constructors do not check themselves, or only after work has begun. A key that is absent is not checked.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (lambda v: _whole(0)[0](v) and v < 2**63, "a whole number from 0 up to 2**63 - 1"),
    "epochs": _whole(1),
    "steps": _optional(_whole(1)),
    "batch_size": _whole(1),
    "optim.lr": (lambda v: _number(v) and v > 0, "a number above 0"),
    "optim.weight_decay": (lambda v: _number(v) and v >= 0, "a number of at least 0"),
    "optim.momentum": (lambda v: _number(v) and 0 <= v < 1, "a number from 0 up to, but not including, 1"),
    "precision.autocast": _one_of(None, "bf16"),
    "precision.channels_last": _one_of(True, False),
    "precision.compile": _one_of(None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    "evaluation.every_epochs": _optional(_whole(1)),
    "evaluation.every_steps": _optional(_whole(1)),
    "evaluation.train_pass": _one_of("clean", "augmented", "none"),
    "evaluation.batch_size": _whole(1),
    "evaluation.batch_norm": _one_of("kept", "reestimated"),
    "task.padding": _whole(0),
    "task.flip": _one_of(True, False),
    "task.dataset.train_subset": _optional(_whole(1)),
    "task.dataset.val_subset": _optional(_whole(1)),
    "runtime.device": (lambda v: isinstance(v, str) and v != "meta", "auto, cpu, cuda, cuda:1 or the like"),
    "runtime.data_dir": (lambda v: isinstance(v, str) and v != "", "a folder"),
    "runtime.threads": _optional(_whole(1)),
    "runtime.read_loss_every": _whole(1),
    "runtime.checkpoint_every_steps": _optional(_whole(1)),
    "runtime.progress": _one_of("auto", "bar", "lines", "none"),
    "schedule.per": _one_of("epoch", "step"),
    "average.per": _one_of("epoch", "step"),
    "average.start": _whole(0),
    "average.n": _whole(0),
    "average.metric": (lambda v: isinstance(v, str), "the name of a metric, such as val/loss"),
    "tracker.mode": _one_of("offline", "online"),
    "schedule.milestones": (
        lambda v: isinstance(v, ListConfig) and all(_whole(1)[0](m) for m in v),
        "a list of whole numbers of at least 1",
    ),
    "schedule.gamma": (lambda v: _number(v) and v > 0, "a number above 0"),
    "schedule.delay": _whole(0),
}


def check(config: DictConfig) -> None:
    """Raise ConfigurationError for the first value that is missing or out of range, naming it and what is allowed."""
    for key, (holds, allowed) in RULES.items():
        value = OmegaConf.select(config, key, default=...)
        if value is not ... and not holds(value):
            raise ConfigurationError(f"{key}={'null' if value is None else value} is not possible; give {allowed}")
    classes = [OmegaConf.select(config, f"{part}.num_classes") for part in ("model", "task")]
    if None not in classes and classes[0] != classes[1]:
        raise ConfigurationError(
            f"model.num_classes={classes[0]}, but task={config.task.name} has {classes[1]} classes"
        )


def choose_device(name: str) -> torch.device:
    """Return the device of `runtime.device`; "auto" is the first accelerator, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        known = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ConfigurationError(f"runtime.device={name} cannot be used ({reason}){choices(name, known)}") from error
    return device


@dataclass
class Parts:
    """What a run is made of. `forward` is the model, compiled where asked; `task.model` is the plain one."""

    task: Task
    forward: Callable[..., torch.Tensor]
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    average: Average | None


def build(config: DictConfig, device: torch.device) -> Parts:
    """Make the parts of a run from its configuration, the model's initial weights from the seed alone.

    Raises ConfigurationError for whatever a constructor refuses.
    """
    with explained():
        return _build(config, device)


@contextlib.contextmanager
def explained(node: str | None = None) -> Iterator[None]:
    """Turn what a constructor raises for a wrong value into a ConfigurationError.

    With `node`, the node that is made, the message begins with the key below it where the error arose.
    """
    try:
        yield
    except HydraException as error:
        cause = str(innermost(error))
        key = re.search(r"full_key: (\S+)", str(error)) if node else None
        where = f"{node}.{key[1]}" if key else node
        missing = re.search(r"missing \d+ required .*arguments?: (.*)", cause)
        if missing and where:
            cause = f"{where} has no value of {missing[1]}"
        elif key:
            cause = f"{where}: {cause}"
        raise ConfigurationError(cause) from error
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise ConfigurationError(str(error)) from error


def _build(config: DictConfig, device: torch.device) -> Parts:
    seed_everything(config.seed)
    # Made on the CPU, so that a seed means the same weights on every device.
    model = instantiate(config.model)
    memory_format = torch.channels_last if config.precision.channels_last else torch.preserve_format
    model = model.to(device=device, memory_format=memory_format)
    chosen = OmegaConf.to_container(config.task, resolve=True)
    task = instantiate(
        {key: value for key, value in chosen.items() if key not in ("name", "preset", "recipes")},
        model=model,
        batch_size=config.batch_size,
        seed=config.seed,
        device=device,
        data_dir=config.runtime.data_dir,
        channels_last=config.precision.channels_last,
        eval_batch_size=config.evaluation.batch_size,
        train_pass=config.evaluation.train_pass,
    )
    optimizer = instantiate(config.optim.optimizer)(model.parameters())
    if "lookahead" in config.optim:
        optimizer = instantiate(config.optim.lookahead)(optimizer)
    schedule = Schedule(optimizer, **instantiate(config.schedule))
    average = Average(model, optimizer, **instantiate(config.average)) if config.average is not None else None
    forward = torch.compile(model, mode=config.precision.compile, dynamic=False) if config.precision.compile else model
    return Parts(task, forward, optimizer, schedule, average)
