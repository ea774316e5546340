"""Bring finished runs from their folders into results/runs/: configuration, tables, arrays and summary, never weights.

python scripts/collect.py                                        every finished run below outputs/
python scripts/collect.py outputs/cifar100-la_sgd outputs/cifar100-sgd
python scripts/collect.py --wandb ENTITY/PROJECT --tags short    what runners logged on Weights & Biases
python scripts/collect.py --index                                only write results/runs/INDEX.csv anew
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from experiments.engine.command_line import say
from experiments.engine.composition import CONFIGS
from experiments.engine.errors import ConfigurationError, UserError, one_line
from experiments.engine.files import named_errors
from experiments.engine.records import read_record, read_summary, tables_and_arrays
from scripts.reporting import index, wandb_project
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
    summary = read_summary(folder)
    if summary is None:
        return "not finished"
    why = refusal(folder, options.accept_dirty)
    if why:
        return f"refused: {why}"
    done = collect(folder, options.to.joinpath(*_own_names(folder)), options.replace)
    mark = f" (it diverged: {summary.get('reason')})" if summary["status"] == "diverged" else ""
    return done + mark


def _asked_for(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], str] | None]]:
    """Yield the name of each run that is asked for with what collects it; None where a folder has no run.

    Raises ConfigurationError where a project on W&B cannot be read.
    """
    for root in options.folders if options.wandb is None else ():
        folders = run_folders(root)
        if not folders:
            yield f"no run at or below {root}: a run folder holds a config.yaml", None
        for folder in folders:
            yield str(folder), partial(_outcome, folder, options)
    if options.wandb is not None:
        outcome = partial(_outcome, options=options)
        for run in wandb_project.runs_of(options.wandb, options.tags, options.group):
            yield f"{options.wandb}/{run.name}", partial(wandb_project.collected, run, options.to, outcome)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = Arguments(__doc__)
    parser.add_argument("folders", nargs="*", type=folder_argument, help="run folders, or folders above them")
    parser.add_argument("--to", type=folder_argument, default=ROOT / "results" / "runs")
    parser.add_argument("--replace", action="store_true", help="overwrite a record that was collected before")
    parser.add_argument("--accept-dirty", action="store_true", help="take runs whose code was not a clean commit")
    parser.add_argument("--wandb", type=wandb_project.project_argument, metavar="ENTITY/PROJECT", help="runs on W&B")
    parser.add_argument(
        "--tags", type=wandb_project.tags_argument, default=[], help="with --wandb: runs that have one of them"
    )
    parser.add_argument("--group", help="with --wandb: runs of that group, which is the folder's name (digits-sgd)")
    parser.add_argument("--index", action="store_true", help="only write INDEX.csv anew, from the records there")
    options = parser.parse_args(arguments)
    if options.wandb is None and (options.tags or options.group):
        parser.error("--tags and --group choose runs on W&B; give --wandb ENTITY/PROJECT as well")
    if options.folders and (options.wandb is not None or options.index):
        parser.error(f"{options.folders[0]} is not read with {'--index' if options.index else '--wandb'}; leave it out")
    if options.index and options.wandb is not None:
        parser.error("--index collects nothing; leave --wandb out")
    options.folders = options.folders or [Path("outputs")]
    return options


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    if options.index:
        return 1 if index.write(options.to) else 0
    failed, counts = False, Counter()
    try:
        for name, outcome_of in _asked_for(options):
            if outcome_of is None:
                say(name)
                failed = True
                continue
            try:
                outcome = outcome_of()
            except OSError:  # the next one would not fare better
                raise
            except UserError as error:
                outcome = f"refused: {one_line(error)}"
            failed |= outcome.startswith("refused")
            counts[re.split(r":| \(", outcome)[0]] += 1
            print(f"{name}: {outcome}")
        index.write(options.to)
    except (OSError, ConfigurationError) as error:
        say(one_line(error))
        failed = True
    if counts:
        print(_in_words(counts))
    return 1 if failed else 0


def _in_words(counts: Counter[str]) -> str:
    """Return how many runs were collected and how many not; skipped ones with why they were."""
    ends = ("collected", "collected before", "refused")
    skipped = {why: count for why, count in counts.items() if why not in ends}
    why = f" ({', '.join(f'{count} {why}' for why, count in sorted(skipped.items()))})" if skipped else ""
    shown = {end: counts[end] for end in ends}
    return (
        f"{shown['collected']} collected, {shown['collected before']} collected before, "
        f"{sum(skipped.values())} skipped{why}, {shown['refused']} refused"
    )


if __name__ == "__main__":
    run_script(main)
