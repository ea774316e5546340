"""Cells of tables that hold numbers, each one object that Markdown, CSV and LaTeX print in their own ways; and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.reporting.series import Spread

NONE = "-"
Table = Sequence[Mapping[str, Any]]  # rows, which have the same keys


@dataclass(frozen=True)
class Number:
    """A number as it was rounded, and its deviation if it has one; or the words that stand in its place.

    Without either it is "-". A mark refers to what is said below the table. As text it is Markdown.
    """

    value: str = ""
    deviation: str = ""
    words: str = ""
    mark: str = ""
    bold: bool = False

    def __str__(self) -> str:
        text = " ± ".join(filter(None, (self.value, self.deviation))) or self.words or NONE
        marks = self.mark.replace("*", r"\*")
        return " ".join(filter(None, (f"**{text}**" if self.bold else text, marks)))


def digits_of(metric: str) -> int:
    """Return with how many digits behind the point a metric is told: losses have one more."""
    return 3 if metric.endswith("loss") else 2


def measured(found: Spread, digits: int = 2) -> Number:
    """Return a value over seeds, with its deviation where there are several; or that runs diverged."""
    if found.diverged or not math.isfinite(found.mean):
        return Number(words=found.text())
    return Number(f"{found.mean:.{digits}f}", "" if found.std is None else f"{found.std:.{digits}f}")


def quoted(text: str | None, mark: str = "") -> Number:
    """Return a number as it was printed, or the words that were printed in its place (around 27)."""
    try:
        float(text or "")
    except ValueError:
        return Number(words=text or "", mark=mark)
    return Number(text, mark=mark)


def csv_text(rows: Table) -> str:
    """Return rows as CSV, in which numbers are numbers, without thousands' separators, and a cell without one is empty.

    A column of numbers may have two more behind it: their deviations, and notes, which are marks and the words in the
    place of a number.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [_csv_columns(column, [row[column] for row in rows]) for column in rows[0]]
    writer.writerows(zip(*(column for group in columns for column in group), strict=True))
    return text.getvalue()


def _csv_columns(name: str, cells: Sequence[Any]) -> list[list[str]]:
    """Return one column of rows as one to three columns of a CSV file, each with its heading."""
    if not any(isinstance(cell, Number) for cell in cells):
        return [[name, *("" if cell == NONE else str(cell) for cell in cells)]]
    cells = [cell if isinstance(cell, Number) else quoted(str(cell)) for cell in cells]
    parts = {
        name: [cell.value.lstrip("+") for cell in cells],
        f"{name}, deviation": [cell.deviation for cell in cells],
        f"{name}, note": [" ".join(filter(None, (cell.words, cell.mark))) for cell in cells],
    }
    return [[heading, *values] for heading, values in parts.items() if heading == name or any(values)]
