"""The published numbers as one table for each folder that has them, values.csv, with one row per number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.reporting.cells import Number, quoted
from scripts.reporting.markdown import write_text
from scripts.reporting.published import FOLDERS, published, published_number

COLUMNS = ("where", "task", "optim", "setting", "metric", "value", "deviation", "seeds", "note", "source", "address")
OPTIMIZERS = ("la_sgd", "sgd", "slrla")  # whose numbers may stand in one row, each under its name
# What a row has besides the values of its setting: of the numbers, and of how they were read.
NO_SETTING = {*COLUMNS, *OPTIMIZERS, "mean", "std", "train", "val", "test", "verified", "unverified", "sources", "read"}
NO_SETTING |= {"name", "how", "words", "of", "trained", "bleu"}
NOT_VERIFIED = "read in one source alone, a quotation"


def write() -> list[Path]:
    """Write values.csv into each folder of published numbers; return the paths."""
    return [write_text(folder / "values.csv", values_of(folder)) for folder in FOLDERS]


def values_of(folder: Path) -> str:
    """Return the CSV of all numbers in a folder's files, in the order of the files' names and of their rows.

    A value that is no number (around 27) stands in the note. The setting has what else is known of the number, in words
    that the configuration has where it knows them. Seeds, a deviation and a note may be missing.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for path in sorted(folder.glob("*.yaml")):
        writer.writerows(_rows_of(published(path.stem)))
    return text.getvalue()


def _rows_of(numbers: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the rows of a file's numbers; a grid that was searched has none."""
    shared = {key: value for key, value in numbers.items() if not isinstance(value, list | dict)}
    longer = [numbers["longer"]] if "longer" in numbers else []
    for row in [*numbers.get("rows", []), *longer, *numbers.get("further", [])]:
        row = {"optim": row.get("setting", ""), **shared, **row}
        setting = {key: value for key, value in row.items() if key not in NO_SETTING and value is not None}
        notes = [row.get("trained"), f"BLEU {row['bleu']}" if "bleu" in row else None]
        notes += [f"as quoted of {row['of']}" if "of" in row else None]
        notes += [NOT_VERIFIED if not row.get("verified", True) else None]
        for optimizer, metric, number in _numbers_of(row, numbers.get("metrics", {})):
            if number.value or number.words:
                yield row | {
                    "optim": optimizer,
                    "setting": ",".join(f"{key}={value}" for key, value in setting.items()),
                    "metric": metric,
                    "value": number.value,
                    "deviation": number.deviation,
                    "note": "; ".join(filter(None, [number.words, *notes])),
                }


def _numbers_of(row: Mapping[str, Any], metrics: Mapping[str, str]) -> Iterator[tuple[str, str, Number]]:
    """Return the optimizer, the metric and the number of each number in a row of a file."""
    if "mean" in row:
        yield row["optim"], row["metric"], published_number(row)
    elif "value" in row:
        yield row["optim"], row["metric"], quoted(row["value"])
    elif metrics:
        for split, metric in metrics.items():
            yield row["optim"], metric, quoted(row.get(split))
    else:
        for optimizer in OPTIMIZERS:
            value = row.get(optimizer)
            yield optimizer, row["metric"], quoted(f"{value:.2f}" if isinstance(value, float) else value)
