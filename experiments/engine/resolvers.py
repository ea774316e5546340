"""What configurations ask of code, known to OmegaConf as soon as this module is imported (in a job of a cluster too).

`${recipe:lr}`       the value of the optimizer's line in the task's recipes; after a comma what counts without one
`${preset:splits,[train]}`   the value in the task's preset; after the comma what counts without one
`${scaled:200}`      epochs, milestones or starts, times `scale_factor`; after a comma "up" rounds up
`${ending_after:${probe.start}}`   the epochs of a run that ends with that 0-based one; 2 after a comma: and the next
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
    if line is not None and not OmegaConf.is_dict(line):
        raise ConfigurationError(
            f"task.recipes.{optim}={line} is not possible; give values by name, such as {{lr: 0.1}}"
        )
    if line is not None and key in line:
        return line[key]
    if default is not _REQUIRED:
        return _node(default)
    if line is not None:
        raise ConfigurationError(f"no {key} in the recipe for optim={optim} on task={task}; give optim.{key}=...")
    known = ", ".join(map(str, OmegaConf.select(_root_, "task.recipes", default={}) or ()))
    others = f", or an optimizer that has one: {known}" if known else ""
    raise ConfigurationError(f"no recipe for optim={optim} on task={task}; give optim.{key}=...{others}")


def preset(key: str, default: Any, *, _root_: DictConfig) -> Any:
    """Return the value of `key` in the task's preset, else the default."""
    return _node(OmegaConf.select(_root_, f"task.preset.{key}", default=default))


def _node(value: Any) -> Any:
    # As a plain list it could not be resolved in place, as `--cfg job --resolve` does.
    return OmegaConf.create(value) if isinstance(value, list) else value


def scaled(value: Any, rounding: str = "down", *, _root_: DictConfig) -> Any:
    """Return a number of epochs (or a list of them, or None) times `scale_factor`, rounded down or "up", at least 1.

    What is no number of at least 1 is returned as it is, for the check of values. Raises ConfigurationError for a
    factor that is no number above 0.
    """
    factor = OmegaConf.select(_root_, "scale_factor", default=1)
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor < math.inf:
        raise ConfigurationError(f"scale_factor={factor} is not possible; give a number above 0")
    if OmegaConf.is_list(value):
        return OmegaConf.create([scaled(each, rounding, _root_=_root_) for each in value])
    if factor == 1 or not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value < math.inf:
        return value
    exact = value * factor
    return max(1, math.ceil(exact - 1e-3) if rounding == "up" else math.floor(exact + 1e-3))


def ending_after(epoch: Any, count: int = 1) -> int:
    """Return how many epochs a run has that ends with `count` epochs, of which this 0-based one is the first.

    It is 1 for what is no epoch, which whoever reads that very value refuses by its own name.
    """
    return epoch + count if type(epoch) is int and epoch >= 0 else 1


def expanded(folder: Any) -> str:
    """Return runtime.output_dir with the user's home. Raises ConfigurationError for what is no folder's name."""
    if isinstance(folder, bool) or not isinstance(folder, str | int) or folder == "":
        shown = "null" if folder is None else folder
        raise ConfigurationError(f"runtime.output_dir={shown} is not possible; give a folder")
    try:
        return str(Path(str(folder)).expanduser())
    except RuntimeError as error:  # there is no such user, or no home
        raise ConfigurationError(f"runtime.output_dir={folder} is not possible: {error}") from error


def run_folder(*, _root_: DictConfig) -> str:
    from experiments.engine.identity import run_name

    return f"{run_name(_root_)}/seed-{_root_.seed}"


for _function in (recipe, preset, scaled, ending_after, expanded, run_folder):
    OmegaConf.register_new_resolver(_function.__name__, _function, replace=True)
