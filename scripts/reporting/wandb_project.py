"""Run folders from a project on Weights & Biases, by its public API: the files that the tracker saved with each run."""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.engine.errors import ConfigurationError, UserError, one_line
from experiments.engine.records import is_table_or_array, read_summary

FILE = re.compile(r"((?!\.)[^/]+/(?!\.)[^/]+)/((?!\.)[^/]+)")  # <name>/seed-<n> and the file's name in it
ALWAYS = ("config.yaml", "summary.json")


def project_argument(text: str) -> str:
    """Return ENTITY/PROJECT; for an argument's `type`. Raises argparse.ArgumentTypeError for anything else."""
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no ENTITY/PROJECT: a user or team on W&B and its project")
    return text


def tags_argument(text: str) -> list[str]:
    """Return the tags of a list with commas; for an argument's `type`. Raises argparse.ArgumentTypeError for none."""
    tags = [tag.strip() for tag in text.split(",")]
    if not all(tags):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty tag; give --tags one,other")
    return tags


def runs_of(project: str, tags: Sequence[str], group: str | None) -> list[Any]:
    """Return the runs of a project that have one of the tags and are of the group, where these are given.

    Raises ConfigurationError where W&B cannot be asked, and where there are none.
    """
    try:
        import wandb
    except ImportError:
        raise ConfigurationError("--wandb needs the package wandb, which is not installed") from None
    wanted = {**({"tags": {"$in": list(tags)}} if tags else {}), **({"group": group} if group else {})}
    try:
        found = list(wandb.Api().runs(project, filters=wanted))
    except wandb.errors.UsageError as error:
        raise ConfigurationError(f"W&B knows no account ({_said(error)}); wandb login makes it known") from error
    except Exception as error:  # whatever W&B and the network raise
        if "Could not find project" in str(error):
            advice = "ENTITY is a user or team, and the account must be allowed to read it"
            raise ConfigurationError(f"W&B has no project {project} for this account; {advice}") from error
        advice = "check the network and the account (wandb login)"
        raise ConfigurationError(f"{project} cannot be read from W&B ({_said(error)}); {advice}") from error
    if not found:
        chosen = [f"with a tag of {', '.join(tags)}"] * bool(tags) + [f"of the group {group}"] * bool(group)
        raise ConfigurationError(" ".join([f"W&B has no run in {project}", *chosen]))
    return found


def collected(run: Any, records: Path, collect: Callable[[Path], str]) -> str:
    """Return what `collect(run folder)` does with the record of a run, whose files are brought from W&B.

    What lies the same below `records` is not brought again. Raises OSError of this machine alone.
    """
    if run.state != "finished":
        return f"not finished: W&B says that it is {run.state}"
    with tempfile.TemporaryDirectory() as root:
        try:
            with _of_wandb():
                folder, files = _record_files(run)
                missing = [name for name in ALWAYS if name not in files]
                if "summary.json" in missing and run.summary.get("status") is None:
                    return "not finished: it was stopped early; the same command goes on from there"
            if missing:
                return (
                    f"no record: W&B has no {' and no '.join(missing)} of it, as of a run from before these were "
                    "saved there; collect its folder, or run it again"
                )
            return collect(_fetched(files, records / folder, Path(root) / folder))
        except UserError as error:
            return "refused: " + one_line(error).replace(f"{root}/", "")


def _record_files(run: Any) -> tuple[str, dict[str, Any]]:
    """Return <name>/seed-<n> and what W&B has of the record's files there, by name."""
    found: dict[str, dict[str, Any]] = {}
    for file in run.files():
        parts = FILE.fullmatch(file.name)
        if parts and (parts[2] in ALWAYS or is_table_or_array(parts[2])):
            found.setdefault(parts[1], {})[parts[2]] = file
    return max(found.items(), key=lambda item: "summary.json" in item[1], default=("", {}))


def _fetched(files: dict[str, Any], recorded: Path, folder: Path) -> Path:
    """Write the files of a record to `folder`, those that `recorded` has the same from there; return `folder`.

    A file that summary.json does not know is of an earlier run of that name, and stays where it is.
    """
    folder.mkdir(parents=True)
    _fetch(files["summary.json"], recorded, folder)
    known = (read_summary(folder) or {}).get("files", files)
    for name, file in files.items():
        if name != "summary.json" and name in known:
            _fetch(file, recorded, folder)
    return folder


def _fetch(file: Any, recorded: Path, folder: Path) -> None:
    there = recorded / Path(file.name).name
    if there.is_file() and _md5(there) == file.md5:
        shutil.copyfile(there, folder / there.name)
        return
    with _of_wandb():
        file.download(root=str(folder.parents[1]), replace=True).close()


def _md5(path: Path) -> str:
    """Return a file's md5 as W&B tells it of its own."""
    return base64.b64encode(hashlib.md5(path.read_bytes(), usedforsecurity=False).digest()).decode()


@contextlib.contextmanager
def _of_wandb() -> Iterator[None]:
    """Turn whatever W&B and the network raise into a ConfigurationError of one line."""
    try:
        yield
    except Exception as error:
        raise ConfigurationError(f"W&B did not give its files ({_said(error)}); the same command goes on") from error


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
