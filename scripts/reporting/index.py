"""results/runs/INDEX.csv: a row for each record, from the records alone."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from experiments.engine.files import replace_text
from experiments.engine.records import DamagedRecord, read_record, read_summary
from scripts.reporting.records import precision_of

NAME = "INDEX.csv"
METRICS = (
    *("train/loss", "val/loss", "val/accuracy", "val/top5_accuracy", "val/perplexity", "val/bleu"),
    *("test/loss", "test/accuracy", "test/perplexity", "test/bleu"),
)
COLUMNS = (
    *("folder", "task", "optim", "settings", "scale", "precision", "seed", "status", "reason", *METRICS),
    *("epochs", "steps", "samples", "wall_s", "device", "commit", "python", "torch"),
)


def rows(records: Path) -> list[dict[str, Any]]:
    """Return a row for each folder <name>/seed-<n> below `records`, sorted; COLUMNS that it lacks are left out.

    One that diverged, is not finished or is damaged has a row with that status and the reason.
    """
    found = [path for path in records.glob("*/*") if path.is_dir()]
    # Hidden ones are of a process that was killed while it collected.
    folders = [path for path in found if not any(name.startswith(".") for name in path.parts[-2:])]
    return [_row(folder, records) for folder in sorted(folders, key=_by_name_and_seed)]


def _by_name_and_seed(folder: Path) -> tuple[str, int, str]:
    seed = folder.name.removeprefix("seed-")
    return folder.parent.name, int(seed) if seed.isdecimal() else -1, folder.name


def _row(folder: Path, records: Path) -> dict[str, Any]:
    name = folder.parent.name
    row = {"folder": f"{name}/{folder.name}", "settings": name.partition("@")[0].partition(",")[2]}
    try:
        if read_summary(folder) is None:
            return {**row, "status": "not finished"}
        record = read_record(folder)
    except DamagedRecord as error:
        return {**row, "status": "damaged", "reason": str(error).replace(f"{records}/", "")}
    summary, final, versions = record.summary, record.summary["final"], record.summary.get("versions", {})
    not_finite = [key for key, value in final.items() if value is None]
    commits = summary.get("commits") or [summary["commit"]]
    return {
        **row,
        "task": summary.get("task", summary.get("analysis")),
        "optim": summary.get("optim"),
        "precision": precision_of(record.config),
        **{key: summary[key] for key in ("scale", "seed", "status", "reason") if key in summary},
        **({"reason": f"not finite: {', '.join(not_finite)}"} if not_finite and not summary.get("reason") else {}),
        **{key: "nan" if final[key] is None else final[key] for key in METRICS if key in final},
        **{key: summary[key] for key in ("epochs", "steps", "samples", "wall_s", "device") if key in summary},
        "commit": " ".join(map(str, commits)),
        **{key: versions[key] for key in ("python", "torch") if key in versions},
    }


def text(found: list[dict[str, Any]]) -> str:
    """Return rows as INDEX.csv has them: numbers with every digit, empty where there is nothing."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return file.getvalue()


def write(records: Path) -> list[str]:
    """Write INDEX.csv into `records`, where that is a folder; return its damaged records, each of which a line names.

    Raises OSError, NoSpaceLeft among them.
    """
    if not records.is_dir():
        return []
    found = rows(records)
    content, path = text(found), records / NAME
    if not path.exists() or path.read_bytes() != content.encode():
        replace_text(path, content)
    damaged = [row for row in found if row["status"] == "damaged"]
    for row in damaged:
        print(f"{records / row['folder']}: listed as damaged: {row['reason']}")
    return [row["folder"] for row in damaged]
