"""Markdown: tables, tables inside documents, and documents replaced whole, in UTF-8 whatever the locale says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.engine.files import replace_file


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return `rows`, which have the same keys, as a Markdown table; numbers are aligned to the right."""
    columns = list(rows[0])
    numeric = [isinstance(rows[0][column], int | float) for column in columns]
    lines = [columns, ["---:" if number else "---" for number in numeric]]
    lines += [[_cell(row[column]) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def with_table(text: str, name: str, table: str) -> str:
    """Return a document with a table replaced; a ValueError where the two lines around it do not stand once each."""
    begin, end = (f"<!-- {name}: {side} -->" for side in ("begin", "end"))
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"the document must have {begin} and {end} once each, in this order")
    head, rest = text.split(begin)
    return f"{head}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def read_text(path: Path) -> str:
    """Return a document; a ValueError that names it where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from error


def write_text(path: Path, text: str) -> Path:
    """Replace a document whole: what was there stays until all of the new text is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
