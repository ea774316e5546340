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

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.engine.composition import CONFIGS, ROOTS, composed, experiments, root_of
from experiments.engine.errors import ConfigurationError, UserError, choices, one_line
from experiments.engine.identity import check_keys
from experiments.engine.output import make_output_unstoppable

TRACEBACK = "HYDRA_FULL_ERROR"
OPTIONS_WITH_A_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--config-name", "-cn"),
    *("--config-path", "-cp", "--config-dir", "-cd"),
}
KINDS = {"train": "trained", "analyze": "computed"}

# Failed runs of this process. None where the traceback is wanted, and in a process that a launcher started: there
# a failure must end the job.
_failed: list[str] | None = None
_began = False


def say(line: str) -> None:
    print(f"error: {line}", file=sys.stderr, flush=True)


def run_or_explain(run: Callable[[], Any], config: DictConfig, folder: Path) -> None:
    """Check the configuration's keys and call `run`; a mistake of the user does not keep a sweep from its other runs.

    A folder that was made for a run that never began is removed again.
    """
    global _began
    _began = True
    try:
        check_keys(config)
        run()
    except (UserError, OSError, HydraException, OmegaConfBaseException) as error:
        if _failed is None:
            raise
        say(one_line(error))
        _failed.append(str(error))
        with contextlib.suppress(OSError):
            for path in (folder, *folder.parents[:2]):  # up to the output folder
                path.rmdir()  # only where it is empty


def check_root(root: str, arguments: Sequence[str]) -> None:
    """Raise a ConfigurationError where a command line asks `root` for what the other root configuration has."""
    chosen = _overrides(arguments)
    names = chosen.get("experiment", [])
    for name in names:
        other = root_of(name)
        if other != root and name in experiments():
            command = f"python {ROOTS[other]} experiment={name}"
            raise ConfigurationError(f"experiment={name} is {KINDS[other]}, not {KINDS[root]}: {command}")
    possible = groups_of(root)
    for group in possible:
        if {f"{group}=", f"{group}=null"} & set(arguments):
            known = sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))
            raise ConfigurationError(f"{group}= chooses nothing{choices(group, known)}; leave it out for its default")
    for key in sorted({path.name for path in CONFIGS.iterdir() if path.is_dir()} & chosen.keys()):
        if key not in possible:
            other = next(name for name in ROOTS if name != root)
            listed = [group for group in possible if group != "task_scale"]  # which follows from the others
            where = f", but for {ROOTS[other]}" if key in groups_of(other) else ""
            raise ConfigurationError(f"{key}=... is not for {ROOTS[root]}{where}{choices(key, listed)}")


def _overrides(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Return the choices of each key, group@package among them, by hydra's grammar; none where that finds a mistake."""
    try:
        overrides = OverridesParser.create().parse_overrides([a for a in arguments if "=" in a and a[0] != "-"])
    except HydraException:
        return {}  # which hydra will say
    return {override.get_key_element().lstrip("+~").partition("@")[0]: _names(override) for override in overrides}


def _names(override: Override) -> list[str]:
    value = override.value()
    if isinstance(value, Glob):
        return value.filter(sorted(path.stem for path in (CONFIGS / override.key_or_group).glob("*.yaml")))
    if isinstance(value, ChoiceSweep):
        value = value.list
    names = value if isinstance(value, list) else [value]
    return [str(getattr(name, "text", name)) for name in names if name not in (None, "")]


def groups_of(root: str) -> list[str]:
    """Return the groups that a root configuration chooses from, in its order."""
    entries = OmegaConf.load(CONFIGS / f"{root}.yaml").defaults
    groups = [str(key).removeprefix("optional ") for entry in entries if isinstance(entry, DictConfig) for key in entry]
    return groups + ["quadratic"] * (root == "analyze")


def readable_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line as hydra reads it: its options behind the overrides, and `key=~/x` with the user's home."""
    options = [argument for argument in arguments if argument.startswith("-")]
    if any(option in OPTIONS_WITH_A_VALUE or option.startswith("--info") for option in options):
        options, others = [], list(arguments)  # what follows them belongs to them
    else:
        others = [argument for argument in arguments if argument not in options]
    home = re.compile(r"([\w.]+)=(~(?:/.*)?)")
    read = [
        f"{found[1]}={quoted(os.path.expanduser(found[2]))}" if (found := home.fullmatch(argument)) else argument
        for argument in others
    ]
    return read + options


def quoted(value: str) -> str:
    """Return a text as hydra's grammar takes it for a value, whatever is in it."""
    if "/" in value and re.fullmatch(r"[\w./+-]+", value, re.ASCII):  # a path; a word could be a number, or null
        return value
    escaped = re.sub(r"(\\*)'", lambda found: 2 * found[1] + "\\'", value)
    trailing = re.search(r"\\*$", escaped)[0]  # a backslash before the closing quote would take it for its own
    return f"'{escaped}{trailing}'"


def main(hydra_main: Callable[[], Any], root: str) -> None:
    """Run a function decorated with `hydra.main`, and end the process with 1 where anything failed."""
    global _failed, _began
    make_output_unstoppable()
    sys.argv[1:] = readable_arguments(sys.argv[1:])
    try:
        check_root(root, sys.argv[1:])
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
        say(one_line(error, lambda path: _keys_at(path, root)))
        sys.exit(1)
    except UserError as error:  # before a run began, in a resolver say
        say(one_line(error))
        sys.exit(1)
    except OSError as error:
        say(f"cannot use {error.filename}: {error.strerror}; choose another folder with runtime.output_dir=...")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if _failed else 0)


def _keys_at(path: str, root: str) -> list[str] | None:
    """Return the keys of a node ("" is the root) of the configuration that this command line chooses, slips left out.

    None where the node is a reference to another one, whose keys cannot be set through it.
    """
    groups = [a for a in sys.argv[1:] if "=" in a and (CONFIGS / re.split("[=@]", a)[0]).is_dir() and "," not in a]
    GlobalHydra.instance().clear()
    with contextlib.suppress(HydraException, OmegaConfBaseException):
        node = composed(root, groups)
        for key in path.split(".") if path else ():
            if OmegaConf.is_interpolation(node, key):
                return None
            node = node[key]
        return [str(key) for key in node if key != "_target_"] if isinstance(node, DictConfig) else []
    return []
