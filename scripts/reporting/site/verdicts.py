"""Verdicts on a page: a badge for each, never by colour alone, and how many claims have it, which filters them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

from markdown_it.token import Token

from experiments.engine.errors import choices
from scripts.reporting.report.verdicts import UNREADABLE, VERDICTS
from scripts.reporting.site.tokens import Heading, Table, html, words

MARKS = dict(zip(VERDICTS, "✓◐✗?–!", strict=True))  # noqa: RUF001
SECTION, COLUMN, WHERE = "Verdicts", "verdict", "where"


def name_of(verdict: str) -> str:
    """Return a verdict as page.css calls it."""
    return verdict.replace(" ", "-")


def badge(verdict: str) -> Token:
    """Return a verdict's mark and words in its colour."""
    return html(f'<span class="badge {name_of(verdict)}">{_marked(verdict)}</span>')


def _marked(verdict: str) -> str:
    return f'<span class="mark" aria-hidden="true">{MARKS[verdict]}</span> {verdict}'


def set_badges(tokens: Sequence[Token], tables: Sequence[Table]) -> None:
    """Set a badge where a cell of a column `verdict`, or what is in bold, is a verdict and nothing else."""
    for table in tables:
        for _, cells in table.rows[1:]:
            for column, cell in zip(table.columns, cells, strict=True):
                if column == COLUMN and words(cell) in MARKS:
                    cell.children = [badge(words(cell))]
    for token in tokens:
        token.children = token.children and list(_bold_replaced(token.children))


def _bold_replaced(children: Sequence[Token]) -> Iterator[Token]:
    index = 0
    while index < len(children):
        kinds = [child.type for child in children[index : index + 3]]
        if kinds == ["strong_open", "text", "strong_close"] and children[index + 1].content in MARKS:
            yield badge(children[index + 1].content)
            index += 3
        else:
            yield children[index]
            index += 1


def claims(tokens: Sequence[Token], tables: Sequence[Table]) -> Table:
    """Return the table of the section Verdicts.

    Raises ValueError where there is none, or something in its column `verdict` is no verdict.
    """
    inside = [
        table for table in tables if _section(tokens, table.first) == SECTION and {COLUMN, WHERE} <= set(table.columns)
    ]
    if not inside:
        raise ValueError(f'there is no table with the columns {WHERE} and {COLUMN} in a section "## {SECTION}"')
    for verdict in of_rows(inside[0]):
        if verdict not in MARKS:
            raise ValueError(f'"{verdict}" in the section {SECTION} is no verdict{choices(verdict, MARKS)}')
    return inside[0]


def _section(tokens: Sequence[Token], index: int) -> str | None:
    """Return the words of the last heading of the second level before a token."""
    before = [at for at, token in enumerate(tokens[:index]) if token.type == "heading_open" and token.tag == "h2"]
    return words(tokens[before[-1] + 1]) if before else None


def of_rows(claims: Table) -> list[str]:
    """Return the verdict of each claim, in order."""
    column = claims.columns.index(COLUMN)
    return [words(cells[column]) for _, cells in claims.rows[1:]]


def choice(verdicts: Sequence[str]) -> str:
    """Return how many claims have each verdict, as a choice of those that are shown, which needs no script."""
    counts = Counter(verdicts)
    found = [_option("all", f"<b>{len(verdicts)}</b> all", " checked")]
    told = [verdict for verdict in MARKS if counts[verdict] or verdict != UNREADABLE]
    found += [_option(name_of(each), f"<b>{counts[each]}</b> {_marked(each)}") for each in told]
    return f'<fieldset class="choice">\n<legend>Claims shown</legend>\n{"".join(found)}</fieldset>\n'


def _option(name: str, label: str, checked: str = "") -> str:
    field = f'<input type="radio" name="only" id="page-only-{name}"{checked}>'
    return f'{field}<label class="badge {name}" for="page-only-{name}">{label}</label>\n'


def prepare_claims(claims: Table, verdicts: Sequence[str], headings: Sequence[Heading]) -> None:
    """Name each claim's row by its verdict and each cell by its column, and link Figure 5 to the part that shows it."""
    columns = claims.columns
    for verdict, (row, cells) in zip(verdicts, claims.rows[1:], strict=True):
        row.attrSet("class", f"is-{name_of(verdict)}")
        for column, cell in zip(columns, cells, strict=True):
            kind = "cell none" if words(cell) == "-" else "cell"
            before = f'<span class="{kind}" data-column="{escape(column)}">'
            children = cell.children or []
            inner = list(_linked(children, headings)) if column == WHERE else children
            cell.children = [html(before), *inner, html("</span>")]


def _linked(children: Sequence[Token], headings: Sequence[Heading]) -> Iterator[Token]:
    for child in children:
        if child.type != "text":
            yield child
            continue
        for part in re.split(r"((?:Figure|Table) \d+[a-z]?)", child.content):
            anchor = _anchor(part, headings)
            text = Token("text", "", 0, content=part)
            yield from [html(f'<a href="#{escape(anchor)}">'), text, html("</a>")] if anchor else [text]


def _anchor(part: str, headings: Sequence[Heading]) -> str | None:
    """Return the anchor of "Figure 7a: ..." for Figure 7a, or of "Figure 7: ..." where there is no such one."""
    if not re.fullmatch(r"(Figure|Table) \d+[a-z]?", part):
        return None
    for name in (part, part.rstrip("abcdefghijklmnopqrstuvwxyz")):
        for heading in headings:
            if re.match(rf"{name}\b", heading.words):
                return heading.anchor
    return None
