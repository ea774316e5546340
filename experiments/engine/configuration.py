"""The values that the engine itself reads are checked before any work starts; what a domain reads, it checks itself."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigTypeError, KeyValidationError, OmegaConfBaseException

from experiments.engine.errors import ConfigurationError, OfThisHost, choices, innermost, one_line


def _whole(low: int, high: float = math.inf) -> tuple[Callable[[Any], bool], str]:
    return (
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high,
        f"a whole number of at least {low}" if high == math.inf else f"a whole number from {low} to {high}",
    )


def _number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)


def _optional(rule: tuple[Callable[[Any], bool], str]) -> tuple[Callable[[Any], bool], str]:
    return lambda v: v is None or rule[0](v), f"null or {rule[1]}"


def _one_of(*known: Any) -> tuple[Callable[[Any], bool], str]:
    return lambda v: v in known, "one of " + ", ".join("null" if k is None else str(k) for k in known)


def _names(least: int) -> tuple[Callable[[Any], bool], str]:
    return (
        lambda v: isinstance(v, ListConfig | list) and len(v) >= least and all(isinstance(name, str) for name in v),
        "a list of names" + (f", at least {least}" if least else ""),
    )


def _keep(v: Any) -> bool:
    return isinstance(v, DictConfig | dict) and "metric" in v and set(v) <= {"metric", "mode"}


def _betas(v: Any) -> bool:
    return isinstance(v, ListConfig | list) and len(v) == 2 and all(_number(beta) and 0 <= beta < 1 for beta in v)


MADE = (lambda v: isinstance(v, DictConfig) and isinstance(v.get("_target_"), str), "a node with a _target_")
METRIC = (lambda v: isinstance(v, str) and v != "", "the name of a metric, such as val/loss")
MOST_EPOCHS = 10**6  # the steps of all epochs are added up when a run starts
MOST_THREADS = 1024  # torch ends the process where it cannot start so many
# What constructors do not check themselves, or only after work has begun. A key that is absent is not checked.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "scale_factor": (lambda v: _number(v) and v > 0, "a number above 0"),
    **dict.fromkeys(
        ("model", "task", "tracker", "optim.optimizer", "optim.lookahead", "schedule.scheduler", "average.mean"), MADE
    ),
    "probe": _optional(MADE),
    "seed": (lambda v: _whole(0)[0](v) and v < 2**63, "a whole number from 0 up to 2**63 - 1"),
    "epochs": _optional(_whole(1, MOST_EPOCHS)),
    "steps": _optional(_whole(1)),
    "batch_size": _whole(1),
    "optim.lr": (lambda v: _number(v) and v > 0, "a number above 0"),
    "optim.weight_decay": (lambda v: _number(v) and v >= 0, "a number of at least 0"),
    "optim.momentum": (lambda v: _number(v) and 0 <= v < 1, "a number from 0 up to, but not including, 1"),
    "optim.clip": _optional((lambda v: _number(v) and v > 0, "a number above 0")),
    "optim.betas": (_betas, "a list of two numbers from 0 up to, but not including, 1"),
    "precision": _one_of("fp32", "tf32", "bf16"),
    "processes": _optional(_whole(1)),
    "batch_norm_images": _optional(_whole(1)),
    "keep": _optional((_keep, "{metric: val/loss, mode: min}")),
    "keep.metric": METRIC,
    "keep.mode": _one_of("min", "max"),
    "evaluation.every_epochs": _optional(_whole(1)),
    "evaluation.every_steps": _optional(_whole(1)),
    "evaluation.train_pass_every": _optional(_whole(1)),
    "evaluation.batch_norm": _one_of(None, "kept", "reestimated"),
    "evaluation.splits": _names(1),
    "evaluation.final_splits": _names(0),
    "runtime.device": (lambda v: isinstance(v, str) and v != "meta", "auto, cpu, cuda, cuda:1 or the like"),
    "runtime.data_dir": (lambda v: isinstance(v, str) and v != "", "a folder"),
    "runtime.threads": _optional(_whole(1, MOST_THREADS)),
    "runtime.read_loss_every": _whole(1),
    "runtime.checkpoint_every_steps": _optional(_whole(1)),
    "runtime.checkpoint_every_s": _optional((lambda v: _number(v) and v >= 0, "a number of at least 0")),
    "runtime.micro_batches": _whole(1),
    "runtime.channels_last": _one_of(True, False),
    "runtime.keep_memory": _one_of(True, False),
    "runtime.compile": _one_of(None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    "runtime.compile_dynamic": _one_of(None, True, False),
    "runtime.cuda_graph": _one_of(True, False),
    "runtime.cudnn_benchmark": _one_of(True, False),
    "runtime.fused": _one_of(True, False),
    "runtime.evaluation_batch_size": _whole(1),
    "runtime.process_timeout_s": (lambda v: _number(v) and 0 < v <= 10**6, "a number above 0, at most 1000000"),
    "runtime.progress": _one_of("auto", "bar", "lines", "none"),
    "schedule.per": _one_of("epoch", "step"),
    "average.per": _one_of("epoch", "step"),
    "average.start": _whole(0),
    "average.n": _whole(0),
    "average.metric": METRIC,
    "average.buffers": _one_of(True, False),
    "tracker.mode": _one_of("offline", "online"),
    "tracker.project": (lambda v: isinstance(v, str) and v != "", "the name of a project"),
    "tracker.entity": _optional((lambda v: isinstance(v, str) and v != "", "the name of a user or team")),
    "schedule.milestones": (
        lambda v: isinstance(v, ListConfig) and all(_whole(1)[0](m) for m in v),
        "a list of whole numbers of at least 1",
    ),
    "schedule.gamma": (lambda v: _number(v) and v > 0, "a number above 0"),
    "schedule.delay": _whole(0),
    "schedule.metric": METRIC,
    "schedule.mode": _one_of("min", "max"),
    "schedule.factor": (lambda v: _number(v) and 0 < v < 1, "a number between 0 and 1"),
    "schedule.patience": _whole(0),
}


def _is_text_of_a_number(value: Any) -> bool:
    """Say whether a value is text that would be a number: so comes what `${oc.env:...}` takes from the environment."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def check(config: DictConfig) -> None:
    """Raise ConfigurationError for the first value that is missing or out of range, naming it and what is allowed."""
    for key, (holds, allowed) in RULES.items():
        value = _selected(config, key)
        if value is not ... and not holds(value):
            text = " (text; ${oc.decode:...} around it reads a number)" if _is_text_of_a_number(value) else ""
            shown = "null" if value is None else value
            raise ConfigurationError(f"{key}={shown}{text} is not possible; give {allowed}")
    if "epochs" in config and config.epochs is None and config.steps is None:
        raise ConfigurationError("epochs=null and steps=null: nothing ends the run; give one of them")
    every = _selected(config, "evaluation.train_pass_every")
    for key in ("keep.metric", "schedule.metric", "average.metric"):
        metric = _selected(config, key)
        if every not in (..., None, 1) and isinstance(metric, str) and metric.startswith("train/"):
            raise ConfigurationError(
                f"{key}={metric} is not possible with evaluation.train_pass_every={every}, at which it is not always "
                f"measured; give one of them"
            )
    images, micro = (_selected(config, key) for key in ("batch_norm_images", "runtime.micro_batches"))
    if images not in (..., None) and micro != 1:
        raise ConfigurationError(
            f"runtime.micro_batches={micro} is not possible with batch_norm_images={images}, which is the size of each "
            f"pass; give one of them"
        )


def check_share(config: DictConfig, ranks: int) -> None:
    """Raise ConfigurationError for a number of processes that is not asked for, or that leaves some without work."""
    asked = config.get("processes")
    if asked not in (None, ranks):
        raise ConfigurationError(
            f"processes={asked} asks for another number than the {ranks} that {'runs' if ranks == 1 else 'run'} here; "
            f"start each run by itself, with torchrun --nproc_per_node={asked} on one host, or Slurm (of an "
            f"experiment, scripts/status.py --commands prints the lines)"
        )
    images = config.batch_norm_images
    passes = -(-config.batch_size // images) if images is not None else ranks
    if passes < ranks:
        raise ConfigurationError(
            f"batch_norm_images={images} cuts batch_size={config.batch_size} into {passes}, too few for {ranks} "
            f"processes; give at most {config.batch_size // ranks or 1}, or start at most {passes}"
        )


def _selected(config: DictConfig, key: str) -> Any:
    """Return the value at a path, `...` where there is none, as below a list or a number that takes a node's place."""
    try:
        return OmegaConf.select(config, key, default=...)
    except (ConfigTypeError, KeyValidationError):
        return ...


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
        raise OfThisHost(f"runtime.device={name} cannot be used ({reason}){choices(name, known)}") from error
    return device


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
    except OmegaConfBaseException as error:  # as where a model refers to a key that the task does not have
        raise ConfigurationError(one_line(error)) from error
    except (ValueError, TypeError, LookupError, ArithmeticError, FileNotFoundError) as error:
        raise ConfigurationError(str(error)) from error


@contextlib.contextmanager
def enough_memory(config: DictConfig, path: str) -> Iterator[None]:
    """Turn what torch raises for a tensor that is too large into a ConfigurationError with the numbers of the node."""
    try:
        yield
    except Exception as error:
        cause = innermost(error)
        found = re.search("tried to allocate [^.]*|not enough memory|out of memory|overflow", str(cause))
        if not found and not isinstance(cause, MemoryError | OverflowError):
            raise
        node = OmegaConf.to_container(config[path], resolve=True)
        given = ", ".join(f"{path}.{key}={value}" for key, value in node.items() if _number(value))
        raise ConfigurationError(
            f"{path} does not fit into memory ({found[0] if found else cause}); {given}"
        ) from error
