"""Bring finished runs from their folders into results/runs/: configuration, tables, arrays and summary, never weights.

python scripts/collect.py                                        every finished run below outputs/
python scripts/collect.py outputs/cifar100-la_sgd outputs/cifar100-sgd
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from experiments.engine.command_line import say
from experiments.engine.composition import CONFIGS
from experiments.engine.errors import UserError, one_line
from experiments.engine.files import named_errors
from experiments.engine.records import read_record, read_summary, tables_and_arrays
from scripts.reporting.neutral import holds, neutral
from scripts.reporting.program import Arguments, folder_argument, run_script

ROOT = CONFIGS.parent
LARGEST = 20 * 2**20  # bytes of one file: results/ lies in the repository


def run_folders(root: Path) -> list[Path]:
    """Return every folder at or below `root` that holds a run (a config.yaml), links followed, named as `root` is."""
    found, seen = [], set()
    for name, folders, files in os.walk(root, followlinks=True):
        folder = Path(name)
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:  # a link back to where we come from, or a second way to the same run
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        if "config.yaml" in files:
            found.append(folder)
            folders.clear()  # what lies in a run folder, as W&B's files do, is no run
    return sorted(found)


def refusal(folder: Path, accept_dirty: bool) -> str | None:
    """Return why a finished run cannot be collected, or None: beside a number in results/ stands its commit.

    Raises DamagedRecord.
    """
    record = read_record(folder)
    commit, commits = str(record.summary["commit"]), record.summary.get("commits", [])
    if not accept_dirty and (commit == "unknown" or commit.endswith("-dirty")):
        return f"its commit is {commit}: run it from a clean checkout, or give --accept-dirty"
    if not accept_dirty and len(commits) > 1:
        return f"it ran under several commits ({', '.join(map(str, commits))}); give --accept-dirty to take it"
    name = f"seed-{record.config.seed}"
    if _own_names(folder)[-1] != name:  # a copy would be counted as one more seed
        return f"the folder of a run with this seed is named {name}"
    for path in tables_and_arrays(folder):
        size = path.stat().st_size
        if size > LARGEST:
            return f"{path.name} has {size / 2**20:.0f} MB, more than the {LARGEST >> 20} MB of a file in results/"
    return None


def _own_names(folder: Path) -> tuple[str, ...]:
    """Return a run folder's last two names, <name> and seed-<n>, as they were given: links are not resolved."""
    return Path(os.path.abspath(folder)).parts[-2:]


def collect(folder: Path, target: Path, replace: bool) -> str:
    """Copy a run's records to `target`; return what was done. Nothing is overwritten unless `replace`.

    The copy names no folder of the machine. Raises OSError, NoSpaceLeft among them, and leaves nothing behind then.
    """
    files = [folder / "config.yaml", folder / "summary.json", *tables_and_arrays(folder)]
    changed = neutral(folder)
    if holds(target, files, changed):
        return "collected before"
    if target.exists() and not replace:
        return f"refused: {target} holds another record; give --replace"
    # A record appears whole or not at all, and the one that it replaces stays until then.
    whole, replaced = (target.with_name(f".{word}-{target.name}") for word in ("collect", "replaced"))
    try:
        with named_errors(target):
            shutil.rmtree(whole, ignore_errors=True)  # of a process that was killed
            whole.mkdir(parents=True)
            for path in files:
                shutil.copyfile(path, whole / path.name)
            for name, content in changed.items():
                (whole / name).write_bytes(content)
            if target.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                target.rename(replaced)
            whole.rename(target)
    finally:
        shutil.rmtree(whole, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
    return "collected"


def _outcome(folder: Path, options: argparse.Namespace) -> str:
    if read_summary(folder) is None:
        return "not finished"
    why = refusal(folder, options.accept_dirty)
    return f"refused: {why}" if why else collect(folder, options.to.joinpath(*_own_names(folder)), options.replace)


def main(arguments: list[str] | None = None) -> int:
    parser = Arguments(__doc__)
    parser.add_argument(
        "folders", nargs="*", type=folder_argument, default=[Path("outputs")], help="run folders, or folders above them"
    )
    parser.add_argument("--to", type=folder_argument, default=ROOT / "results" / "runs")
    parser.add_argument("--replace", action="store_true", help="overwrite a record that was collected before")
    parser.add_argument("--accept-dirty", action="store_true", help="take runs whose code was not a clean commit")
    options = parser.parse_args(arguments)
    failed = False
    for root in options.folders:
        folders = run_folders(root)
        if not folders:
            say(f"no run at or below {root}: a run folder holds a config.yaml")
            failed = True
        for folder in folders:
            try:
                outcome = _outcome(folder, options)
            except OSError as error:  # the next one would not fare better
                say(one_line(error))
                return 1
            except UserError as error:
                outcome = f"refused: {one_line(error)}"
            failed |= outcome.startswith("refused")
            print(f"{folder}: {outcome}")
    return 1 if failed else 0


if __name__ == "__main__":
    run_script(main)
