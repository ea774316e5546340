"""Tables in LaTeX, ruled as the package booktabs does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.reporting.cells import NONE, Number, Table

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"<": "$<$", ">": "$>$", "|": "$|$"},
    **{"±": r"$\pm$", "α": r"$\alpha$", "β": r"$\beta$", "μ": r"$\mu$", "√": r"$\surd$", "†": r"$\dagger$"},
    **{"‡": r"$\ddagger$", '"': "''", "[": "{[}", "*": "{*}"},
}
MARKS = {"†": r"\dagger", "‡": r"\ddagger", "*": "*"}


def escaped(text: str) -> str:
    """Return text for LaTeX, in which no character is a command. Raises ValueError for one that is not known."""
    unknown = [character for character in text if not character.isascii() and character not in LATEX]
    if unknown:
        raise ValueError(f"{unknown[0]!r} in {text!r} has no LaTeX in scripts/reporting/latex.py")
    return "".join(LATEX.get(character, character) for character in text)


def latex_text(title: str, sections: Sequence[tuple[str, Table]]) -> str:
    """Return tables for a document to input, each below its heading if it has one, and the title in a comment."""
    tables = [_table(heading, rows) for heading, rows in sections]
    return "\n\n".join([f"% {title}\n% Needs \\usepackage{{booktabs}}.", *tables]) + "\n"


def _table(heading: str, rows: Table) -> str:
    columns = list(rows[0])
    numeric = [any(isinstance(row[column], Number | int | float) for row in rows) for column in columns]
    above = [rf"\multicolumn{{{len(columns)}}}{{l}}{{{escaped(heading)}}} \\", r"\midrule"] if heading else []
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numeric)}}}",
            r"\toprule",
            *above,
            _line([escaped(column) for column in columns]),
            r"\midrule",
            *(_line([_cell(cell) for cell in row.values()]) for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _cell(cell: Any) -> str:
    if not isinstance(cell, Number):
        return escaped(str(cell))
    mark = f"^{{{''.join(MARKS[mark] for mark in cell.mark)}}}" if cell.mark else ""
    if not cell.value:
        return escaped(cell.words or NONE) + (f"${mark}$" if mark else "")
    value = r" \pm ".join(filter(None, (cell.value, cell.deviation)))
    return rf"$\mathbf{{{value}}}{mark}$" if cell.bold else f"${value}{mark}$"
