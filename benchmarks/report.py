"""Reports of benchmarks, as Markdown and JSON: their numbers, the machine, the versions and the commit."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from experiments.engine.files import replace_file
from experiments.engine.provenance import commit, device_name
from scripts.reporting.markdown import markdown_table, write_text

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "results" / "benchmarks"


def machine_facts() -> dict[str, Any]:
    """Return what a timing depends on: processor, usable cores, accelerator (or None), versions, commit."""
    return {
        "cpu": device_name(torch.device("cpu")),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit(),
    }


def write_report(
    name: str,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    notes: str,
    folder: Path = RESULTS,
    figure: Figure | None = None,
    **details: Any,
) -> Path:
    """Write `name`.md (title, table of `rows`, notes, machine) and `name`.json (all of it and `details`).

    A `figure` becomes `name`.png, shown above the table. Returns the path of the Markdown file.
    """
    facts = machine_facts()
    folder.mkdir(parents=True, exist_ok=True)
    machine = ", ".join(f"{key} {value}" for key, value in facts.items() if value is not None)
    picture = ""
    if figure is not None:
        replace_file(folder / f"{name}.png", lambda path: figure.savefig(path, format="png", dpi=150))
        picture = f"![{title}]({name}.png)\n\n"
    text = f"# {title}\n\n{picture}{markdown_table(rows)}\n\n{notes}\n\nMachine: {machine}.\n"
    write_text(folder / f"{name}.md", text)
    content = {"schema": 1, "title": title, "machine": facts, "rows": list(rows), "notes": notes} | details
    write_text(folder / f"{name}.json", json.dumps(content, indent=2) + "\n")
    return folder / f"{name}.md"


def show_report(
    name: str,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    notes: str,
    folder: Path | None,
    options: argparse.Namespace,
    load: float,
    cases: Sequence[Any],
    figure: Figure | None = None,
) -> None:
    """Print a report, and write it where there is a `folder`, with the options, the load at the start and the cases.

    The cases are dataclasses; a partial run has no folder, as it must not replace a full one's record.
    """
    if folder is None:
        print(f"{markdown_table(rows)}\n\n{notes}\n\nNot written: a partial run is, only with --out.")
        return
    details = {
        "options": {key: _as_recorded(value) for key, value in vars(options).items() if key != "out"},
        "load_at_start": load,
        "cases": [asdict(case) for case in cases],
    }
    print(write_report(name, title, rows, notes, folder, figure, **details).read_text(encoding="utf-8"))


def _as_recorded(value: Any) -> Any:
    """Return an option without the folders of this machine: a path within the repository, or its last name."""
    if isinstance(value, Path) or (isinstance(value, str) and Path(value).is_absolute()):
        path = Path(value)
        return str(path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else Path(path.name))
    return value


def met(reached: bool) -> str:
    """Return the word for a goal that was reached or not."""
    return "met" if reached else "missed"


def circumstances(options: argparse.Namespace, load: float) -> str:
    """Say on how many threads a benchmark ran, and how busy the machine was before."""
    return (
        f"Threads: {options.threads or torch.get_num_threads()}. "
        f"Load average of other programs at the start: {load:.2f}."
    )


def whole_number(text: str, least: int) -> int:
    """Return an argument as an integer of at least `least`, or end with a line that names it."""
    if not (text.isdecimal() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least {least}")
    return int(text)
