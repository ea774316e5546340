"""The command line's manners: a mistake ends in one clear line and an exit code that is not 0.

With HYDRA_FULL_ERROR=1 the traceback is shown instead.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.engine.composition import CONFIGS, composed
from experiments.engine.errors import ConfigurationError, OfThisHost, SaidByFirst, UserError, one_line
from experiments.engine.identity import check_keys
from experiments.engine.launch import OWN, Launch, launch
from experiments.engine.output import flush, make_output_unstoppable, some_is_lost
from experiments.engine.overrides import check_arguments

TRACEBACK = "HYDRA_FULL_ERROR"
OPTIONS_WITH_A_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--config-name", "-cn"),
    *("--config-path", "-cp", "--config-dir", "-cd"),
}
PAUSE_S = 20.0  # at most, for the first process to speak before what started them ends them all
MODES = {"-m", "--multirun", "-r", "--run"}  # options with which a program runs something

# What follows from the command line alone, which all processes of a run share.
ALIKE = (ConfigurationError, HydraException, OmegaConfBaseException)

# Failed runs of this process. None where the traceback is wanted, and in a process that a launcher started: there
# a failure must end the job.
_failed: list[str] | None = None
_began = False


def say(line: str) -> None:
    print(f"error: {line}", file=sys.stderr, flush=True)


def explain(error: BaseException, line: str) -> None:
    """Say why this process ends. What all processes of a run find alike the first of them says alone.

    What concerns their host (folders, devices) the first of each host says; what one of them finds in its work it
    says itself. The others wait before they end: torchrun ends all with the first that does.
    """
    started = Launch()
    with contextlib.suppress(ConfigurationError):  # it is this very error then
        started = launch()
    if isinstance(error, OSError | OfThisHost):
        speaks = started.local_rank == 0
    else:
        speaks = started.rank == 0 or not isinstance(error, ALIKE)
    if speaks:
        say(line)
    else:
        time.sleep(PAUSE_S)
        own = tuple(f"runtime.{key}=" for key in OWN if key != "device")  # of which the first of each host speaks
        # The first process may have another value, and has another command line where torchrun let this one wait.
        if line.startswith(own) or "TORCHELASTIC_RUN_ID" in os.environ:
            say(line)


def in_a_job() -> bool:
    """Say whether submitit started this process, in a job of a cluster, and waits for what comes of it."""
    return _failed is None and "SUBMITIT_EXECUTOR" in os.environ


def run_or_explain(run: Callable[[], Any], config: DictConfig, folder: Path) -> None:
    """Check the configuration's keys and call `run`; a mistake of the user does not keep a sweep from its other runs.

    A folder that was made for a run that never began is removed again. In a job what is raised goes to the launcher,
    and a run that was stopped (None) leaves no result: with one, the launcher would wait no longer.
    """
    global _began
    _began = True
    try:
        _check_launcher()
        check_keys(config)
        stopped = run() is None
    except (UserError, OSError, HydraException, OmegaConfBaseException) as error:
        with contextlib.suppress(OSError):
            for path in (folder, *folder.parents[:2]):  # up to the output folder
                path.rmdir()  # only where it is empty
        if in_a_job():
            say(one_line(error))  # into its log
        elif isinstance(error, SaidByFirst):
            sys.exit(1)
        if _failed is None:
            raise
        explain(error, one_line(error))
        _failed.append(str(error))
    except Exception:
        if in_a_job():
            traceback.print_exc()  # which the launcher does not get
        raise
    else:
        if stopped and in_a_job():
            sys.exit(1 if launch().rank == 0 else 0)  # Slurm ends all processes with one that fails


def _check_launcher() -> None:
    choice = HydraConfig.get().runtime.choices.get("hydra/launcher") if HydraConfig.initialized() else None
    if choice not in (None, "basic") and HydraConfig.get().mode == RunMode.RUN:
        raise ConfigurationError(f"hydra/launcher={choice} submits what a command with -m asks for; add -m")


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
        check_arguments(root, sys.argv[1:])
        if root == "train" and launch().count > 1:
            # When one process ends, torch prints the others' C++ stack at each call; the line of the run says more.
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    except ConfigurationError as error:
        explain(error, str(error))
        sys.exit(1)
    if os.environ.get(TRACEBACK) == "1":
        hydra_main()
        return
    _failed, _began = [], False
    os.environ[TRACEBACK] = "1"  # hydra then raises what it would print over several lines
    try:
        hydra_main()
        here = not any("hydra/launcher" in argument for argument in sys.argv)  # another launcher runs elsewhere
        if here and not _began and MODES.issuperset(word for word in sys.argv[1:] if word.startswith("-")):
            raise ConfigurationError("nothing ran: the sweep has no values")
    except Exception as error:
        of_the_request = isinstance(error, HydraException | OmegaConfBaseException | UserError)
        if isinstance(error, OSError) and not of_the_request:
            advice = "choose another folder with runtime.output_dir=..."
            explain(error, f"cannot use {error.filename}: {error.strerror}; {advice}")
        elif _began and not of_the_request:
            raise  # of the code
        else:
            explain(ConfigurationError(), one_line(error, lambda path: _keys_at(path, root)))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    flush()
    sys.exit(1 if _failed or some_is_lost() else 0)


def _keys_at(path: str, root: str) -> list[str] | None:
    """Return the keys of a node ("" is the root) of the configuration that this command line chooses, slips left out.

    None where the node is a reference to another one, whose keys cannot be set through it.
    """
    groups = [a for a in sys.argv[1:] if "=" in a and (CONFIGS / re.split("[=@]", a)[0]).is_dir() and "," not in a]
    GlobalHydra.instance().clear()
    with contextlib.suppress(HydraException, OmegaConfBaseException):
        node = composed(root, groups, with_hydra=path.partition(".")[0] == "hydra")
        for key in path.split(".") if path else ():
            if OmegaConf.is_interpolation(node, key):
                return None
            node = node[key]
        return [str(key) for key in node if key != "_target_"] if isinstance(node, DictConfig) else []
    return []
