"""Arguments of classes that are not ours, checked before data are loaded: by their kinds, and by a trial step.

torch's optimizers and schedulers take many a wrong value when they are made, and fail at the first step.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from experiments.engine.average import Average
from experiments.engine.errors import ConfigurationError, UserError, innermost
from experiments.engine.schedule import Schedule

COMPLETED = ("optim.optimizer", "optim.lookahead", "schedule.scheduler", "average.mean", "tracker")  # by the engine
OURS = ("experiments", "lookahead")  # packages whose classes check their arguments themselves
NODES = ("model", "task", "probe", *COMPLETED)


def check_targets(config: DictConfig) -> None:
    """Raise ConfigurationError for a class that cannot be imported, or an argument of another kind than its default.

    A default that is a switch takes no number, and one that is a number no text.
    """
    for path in NODES:
        node = OmegaConf.select(config, path)
        if not isinstance(node, DictConfig) or "_target_" not in node:
            continue
        OmegaConf.to_container(node, resolve=True)  # what it refers to is there; what raises here names its key
        target = node["_target_"]
        if path in COMPLETED and node.get("_partial_") is not True:
            raise ConfigurationError(f"{path} needs _partial_: true beside _target_: {target}")
        for key, parameter in _parameters(path, target).items():
            if key in node and target.partition(".")[0] not in OURS:
                _check_kind(f"{path}.{key}", node[key], parameter)


def _parameters(path: str, target: Any) -> Mapping[str, inspect.Parameter]:
    try:
        made = get_object(target)
    except Exception as error:  # whatever an import may raise
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{path}._target_={target} cannot be imported ({reason})") from error
    if not callable(made):
        raise ConfigurationError(f"{path}._target_={target} is no class or function")
    try:
        return inspect.signature(made).parameters
    except (ValueError, TypeError):  # a class of C
        return {}


def _check_kind(path: str, value: Any, parameter: inspect.Parameter) -> None:
    default, annotation = parameter.default, str(parameter.annotation)
    shown = "null" if value is None else value
    if isinstance(default, bool) or (default is None and "bool" in annotation and "str" not in annotation):
        if not isinstance(value, bool) and value is not default:
            also = "null, " if default is None else ""
            raise ConfigurationError(f"{path}={shown} is not possible; give {also}true or false")
    elif isinstance(default, int | float) and "str" not in annotation and isinstance(value, str | bool):
        raise ConfigurationError(f"{path}={shown} is not possible; give a number, such as {default}")


def try_steps(config: DictConfig, device: torch.device) -> None:
    """Take a step of the inner optimizer, the schedule and the average on a tiny model; the random state is not kept.

    Raises ConfigurationError, which names what could not.
    """
    model = nn.Linear(2, 2, device=device)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    with _named(config, "optim.optimizer"):
        optimizer = instantiate(config.optim.optimizer)(model.parameters())
    with _named(config, "schedule.scheduler"):
        schedule = Schedule(optimizer, **instantiate(config.schedule))
    with _named(config, "optim.optimizer"):
        optimizer.step()
    with _named(config, "schedule.scheduler"):
        schedule.after(schedule.per, {schedule.metric: 1.0})
    if config.average is not None:
        with _named(config, "average.mean"):
            Average(model, optimizer, **instantiate(config.average)).mean.update()


@contextlib.contextmanager
def _named(config: DictConfig, path: str) -> Iterator[None]:
    """Turn whatever is raised into a ConfigurationError; what our own code says of a value stays as it is."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = innermost(error)
        if isinstance(error, HydraException) or isinstance(cause, ValueError):
            raise
        node = OmegaConf.to_container(OmegaConf.select(config, path), resolve=True)
        given = ", ".join(f"{key}={value}" for key, value in node.items() if not key.startswith("_"))
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise ConfigurationError(f"{path} cannot be used with {given or 'these values'}: {reason}") from error
