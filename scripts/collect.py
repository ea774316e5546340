"""Bring finished runs from their folders into results/runs/: configuration, tables, arrays and summary, never weights.

python scripts/collect.py outputs/cifar100-sgd outputs/cifar100-la_sgd        all of outputs/ where none is named
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from experiments.engine.records import read_summary

RECORDS = ("config.yaml", "summary.json", "*.csv", "*.npz")


def run_folders(root: Path) -> list[Path]:
    """Return every folder at or below `root` that holds a run (a config.yaml)."""
    return sorted(path.parent for path in root.rglob("config.yaml"))


def refusal(folder: Path, accept_dirty: bool) -> str | None:
    """Return why a run cannot be collected, or None: beside a number in results/ stands the commit that made it."""
    summary = read_summary(folder)
    if summary is None:
        return "not finished"
    if not accept_dirty and (summary["commit"] == "unknown" or summary["commit"].endswith("-dirty")):
        return f"its commit is {summary['commit']}: run it from a clean checkout, or give --accept-dirty"
    if not accept_dirty and len(summary.get("commits", [])) > 1:
        return f"it ran under several commits ({', '.join(summary['commits'])}); give --accept-dirty to take it"
    return None


def collect(folder: Path, target: Path, replace: bool) -> str:
    """Copy a run's records to `target`; return what was done. Nothing is overwritten unless `replace`."""
    files = [path for pattern in RECORDS for path in sorted(folder.glob(pattern))]
    same = target.is_dir() and all(
        (target / path.name).exists() and (target / path.name).read_bytes() == path.read_bytes() for path in files
    )
    if same:
        return "there already"
    if target.exists() and not replace:
        return "refused: another record is there; give --replace"
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = Path(tempfile.mkdtemp(dir=target.parent, prefix=".collect-"))
    for path in files:
        shutil.copyfile(path, whole / path.name)
    if target.exists():
        shutil.rmtree(target)
    whole.chmod(0o755)
    whole.rename(target)  # a record appears whole or not at all
    return "collected"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folders", nargs="*", type=Path, default=[Path("outputs")], help="run folders, or folders above them"
    )
    parser.add_argument("--to", type=Path, default=Path("results/runs"))
    parser.add_argument("--replace", action="store_true", help="overwrite a record that is there already")
    parser.add_argument("--accept-dirty", action="store_true", help="take runs whose code was not a clean commit")
    options = parser.parse_args(arguments)
    refused = 0
    for root in options.folders:
        folders = run_folders(root)
        if not folders:
            print(f"error: no run at or below {root}: a run folder holds a config.yaml", file=sys.stderr)
            refused += 1
        for folder in folders:
            why = refusal(folder, options.accept_dirty)
            # <name>/seed-<n>, wherever the run folder itself lies
            target = options.to.joinpath(*folder.resolve().parts[-2:])
            outcome = f"refused: {why}" if why else collect(folder, target, options.replace)
            refused += outcome.startswith("refused") and why != "not finished"
            print(f"{folder}: {outcome}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
