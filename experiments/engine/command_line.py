"""The command line's manners: a mistake ends in one clear line and an exit code that is not 0.

With HYDRA_FULL_ERROR=1 the traceback is shown instead.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.engine.errors import ConfigurationError, UserError, choices, one_line

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TRACEBACK = "HYDRA_FULL_ERROR"

# Failed runs of this process. None where the traceback is wanted, and in a process that a launcher started: there
# a failure must end the job.
_failed: list[str] | None = None
_began = False


def say(line: str) -> None:
    print(f"error: {line}", file=sys.stderr, flush=True)


def run_or_explain(run: Callable[[], Any], folder: Path) -> None:
    """Call `run`; a mistake of the user is said at once, and does not keep a sweep from its other runs.

    A folder that was made for a run that never began is removed again.
    """
    global _began
    _began = True
    try:
        run()
    except (UserError, OSError) as error:
        if _failed is None:
            raise
        say(one_line(error))
        _failed.append(str(error))
        with contextlib.suppress(OSError):
            for path in (folder, *folder.parents[:3]):  # up to the output folder
                path.rmdir()  # only where it is empty


def root(arguments: Sequence[str]) -> str:
    """Return the name of the root configuration that a command line asks for: `train`, or `analyze` without training.

    Raises a ConfigurationError where it names experiments of both, or a group of the other one.
    """
    chosen = _overrides(arguments)
    roots = {name: root_of(name) for name in chosen.get("experiment", [])}
    if len(set(roots.values())) > 1:
        computed, trained = (next(n for n in roots if roots[n] == kind) for kind in ("analyze", "train"))
        raise ConfigurationError(f"{computed} is computed and {trained} is trained; give each a command of its own")
    if roots:
        name = next(iter(roots.values()))
    else:
        name = "analyze" if any(re.match(r"(analysis|quadratic)\b|sensitivity$", key) for key in chosen) else "train"
    possible = _groups(name)
    for key in sorted({path.name for path in CONFIGS.iterdir() if path.is_dir()} & chosen.keys()):
        if key not in possible:
            kind = "an analysis: nothing is trained" if name == "analyze" else "training"
            # The other two follow from these.
            listed = [group for group in possible if group not in ("recipe", "task_scale")]
            raise ConfigurationError(f"{key}=... is not for {kind}{choices(key, listed)}")
    return name


def _overrides(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Return the choices of each key, group@package among them, by hydra's grammar; none where that finds a mistake."""
    try:
        overrides = OverridesParser.create().parse_overrides([a for a in arguments if "=" in a and a[0] != "-"])
    except HydraException:
        return {}  # which hydra will say
    return {override.get_key_element().lstrip("+~"): _names(override) for override in overrides}


def _names(override: Override) -> list[str]:
    value = override.value()
    if isinstance(value, Glob):
        return value.filter(sorted(path.stem for path in (CONFIGS / override.key_or_group).glob("*.yaml")))
    if isinstance(value, ChoiceSweep):
        value = value.list
    names = value if isinstance(value, list) else [value]
    return [str(getattr(name, "text", name)) for name in names if name not in (None, "")]


def _groups(name: str) -> list[str]:
    """Return the groups that a root configuration chooses from, in its order."""
    entries = OmegaConf.load(CONFIGS / f"{name}.yaml").defaults
    groups = [str(key).removeprefix("optional ") for entry in entries if isinstance(entry, DictConfig) for key in entry]
    return groups + ["quadratic@analysis.model"] * (name == "analyze")


def root_of(experiment: str) -> str:
    """Return the root configuration of an experiment: `analyze` where it overrides the group `analysis`."""
    path = CONFIGS / "experiment" / f"{experiment}.yaml"
    defaults = OmegaConf.load(path).get("defaults", []) if path.is_file() else []
    return "analyze" if any("override /analysis" in entry for entry in defaults) else "train"


def main(hydra_main: Callable[[], Any]) -> None:
    """Run a function decorated with `hydra.main`, and end the process with 1 where anything failed."""
    global _failed, _began
    try:
        sys.argv.insert(1, f"--config-name={root(sys.argv[1:])}")
    except ConfigurationError as error:
        say(str(error))
        sys.exit(1)
    if os.environ.get(TRACEBACK) == "1":
        hydra_main()
        return
    _failed, _began = [], False
    os.environ[TRACEBACK] = "1"  # hydra then raises what it would print over several lines
    try:
        hydra_main()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if _began and not isinstance(error, HydraException | OmegaConfBaseException):
            raise  # of the code, not of the request
        say(one_line(error, _keys_at))
        sys.exit(1)
    except OSError as error:
        say(f"cannot use {error.filename}: {error.strerror}; choose another folder with runtime.output_dir=...")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if _failed else 0)


def _keys_at(path: str) -> list[str] | None:
    """Return the keys of a node ("" is the root) of the configuration that this command line chooses, slips left out.

    None where the node is a reference to another one, whose keys cannot be set through it.
    """
    groups = [a for a in sys.argv[1:] if "=" in a and (CONFIGS / re.split("[=@]", a)[0]).is_dir() and "," not in a]
    GlobalHydra.instance().clear()
    with (
        contextlib.suppress(HydraException, OmegaConfBaseException),
        initialize_config_dir(str(CONFIGS), version_base="1.3"),
    ):
        node = compose(root(sys.argv[1:]), overrides=groups)
        for key in path.split(".") if path else ():
            if OmegaConf.is_interpolation(node, key):
                return None
            node = node[key]
        return [str(key) for key in node if key != "_target_"] if isinstance(node, DictConfig) else []
    return []
