"""What configurations ask of code, known to OmegaConf as soon as this module is imported (in a job of a cluster too).

`${recipe:lr}`       the value of the optimizer's line in the task's recipes; after a comma what counts without one
`${scaled:200}`      epochs, milestones or starts, times `scale_factor`
`${expanded:~/x}`    a folder, with the user's home
`${run_folder:}`     the run's folder, which follows from its configuration
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.engine.errors import ConfigurationError

_REQUIRED = object()


def recipe(key: str, default: Any = _REQUIRED, *, _root_: DictConfig) -> Any:
    """Return the value of `key` in the line of the task's recipes for this optimizer, else the default.

    Raises ConfigurationError where there is neither.
    """
    optim, task = _root_.optim.name, _root_.task.name
    line = OmegaConf.select(_root_, f"task.recipes.{optim}")
    if line is not None and key in line:
        return line[key]
    if default is not _REQUIRED:
        return default
    what = f"recipe for optim={optim}" if line is None else f"{key} in the recipe for optim={optim}"
    raise ConfigurationError(f"no {what} on task={task}; give optim.{key}=...")


def scaled(value: Any, *, _root_: DictConfig) -> Any:
    """Return a number of epochs (or a list of them, or None) times `scale_factor`, rounded down, at least 1."""
    factor = OmegaConf.select(_root_, "scale_factor", default=1)
    if OmegaConf.is_list(value):
        return OmegaConf.create([scaled(each, _root_=_root_) for each in value])
    if factor == 1 or not isinstance(value, int | float) or isinstance(value, bool):
        return value
    return max(1, math.floor(value * factor + 1e-3))


def expanded(folder: Any) -> str:
    return str(Path(str(folder)).expanduser())


def run_folder(*, _root_: DictConfig) -> str:
    from experiments.engine.identity import run_name

    return f"{run_name(_root_)}/seed-{_root_.seed}"


for _function in (recipe, scaled, expanded, run_folder):
    OmegaConf.register_new_resolver(_function.__name__, _function, replace=True)
