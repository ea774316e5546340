"""Figures and tables by name: each is a module of figures/ or tables/, and nothing lists them but the folder.

A module declares `DRAWS`, the runs that it is made of. A figure's `figures(runs)` gives for each picture its figure and
the table printed beside it; its `PANELS` are those of an empty figure, where nothing has run. A table has `rows(runs)`
and the `DOCUMENT` in whose markers they stand, or `page(runs)`, a document of its own in results/tables/.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.engine.errors import ConfigurationError, UserError, choices
from experiments.engine.overrides import check_values
from scripts.reporting.program import Arguments, folder_argument

MISTAKES = (OSError, ValueError, HydraException, OmegaConfBaseException, UserError)  # each is one line for the user
FOLDER = Path(__file__).resolve().parent
REPOSITORY = FOLDER.parents[1]
RECORDS = REPOSITORY / "results" / "runs"


def names(kind: str) -> list[str]:
    """Return the names of all "figures" or "tables"."""
    return sorted(module.name for module in pkgutil.iter_modules([str(FOLDER / kind)]))


def full_names(kind: str, beginnings: Sequence[str]) -> list[str]:
    """Return the full name for each beginning of one (fig05, table1), all names where none is given.

    Raises ValueError for one with which no name begins, or several do.
    """
    return [_full_name(kind, beginning) for beginning in beginnings] or names(kind)


def _full_name(kind: str, beginning: str) -> str:
    known = names(kind)
    found = [name for name in known if name.startswith(beginning)] if beginning not in known else [beginning]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{beginning!r} begins several {kind}: {', '.join(found)}")
    raise ValueError(f"there is no {kind.removesuffix('s')} {beginning}{choices(beginning, known)}")


def names_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of a command line, and its values of one's own. Raises ConfigurationError for a bad value."""
    overrides = [word for word in words if "=" in word]
    check_values(overrides)
    return [word for word in words if "=" not in word], overrides


def roots(given: Sequence[Path] | None, named: bool) -> list[Path]:
    """Return the folders that runs are read from.

    Raises ConfigurationError where none of the given ones exists; where something is `named`, what is missing is said
    of that.
    """
    if given and not named and not any(root.is_dir() for root in given):
        raise ConfigurationError(f"--runs: there is no folder {' or '.join(map(str, given))}")
    return list(given or [RECORDS])


def module(kind: str, name: str) -> ModuleType:
    """Return the module of that full name."""
    return importlib.import_module(f"scripts.reporting.{kind}.{name}")


def arguments_for(kind: str, description: str | None) -> argparse.ArgumentParser:
    """Return the command line that figures and tables share: names of what to make, where from and where to."""
    parser = Arguments(description)
    text = f"names or their beginnings: {', '.join(names(kind))}; and key=value for runs with values of one's own"
    parser.add_argument("names", nargs="*", help=text)
    text = "results/runs, or outputs for runs not collected; given twice, the first folder that has a run counts"
    parser.add_argument("--runs", type=folder_argument, action="append", metavar="FOLDER", help=text)
    parser.add_argument("--out", type=folder_argument, default=REPOSITORY / "results" / kind, help=f"results/{kind}")
    return parser


@contextlib.contextmanager
def made_of(name: str, folders: Iterable[object]) -> Iterator[None]:
    """Turn what a table with other columns or rows than expected raises into a ValueError that names the folders."""
    try:
        yield
    except (LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        where = ", ".join(dict.fromkeys(map(str, folders)))
        raise ValueError(
            f"{name} cannot be made of {where}: a table there is damaged, or of other code ({reason})"
        ) from error


def short(path: Path) -> Path:
    """Return a path as it is read best: relative where it lies below the working directory."""
    absolute = Path(os.path.abspath(path))
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else path
