"""Markdown as tokens: parts of them found, and HTML of our own set between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.gfm_autolink import gfm_autolink_plugin


@dataclass(frozen=True)
class Heading:
    """A heading: its level (1 is the title), the name of its anchor, and its words without markup."""

    level: int
    anchor: str
    words: str


def markdown() -> MarkdownIt:
    """Return the reader of GitHub's Markdown; its HTML is shown as it stands, headings have GitHub's anchors."""
    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return reader.use(gfm_autolink_plugin).use(anchors_plugin, max_level=6)


def html(content: str) -> Token:
    """Return HTML of our own, as a token."""
    return Token("html_inline", "", 0, content=content)


def words(inline: Token) -> str:
    """Return what an inline token says, without markup."""
    return "".join(
        child.content if child.type in ("text", "code_inline") else " " * child.type.endswith("break")
        for child in inline.children or ()
    )


def headings(tokens: Sequence[Token]) -> list[Heading]:
    """Return all headings, in order."""
    return [
        Heading(int(token.tag[1]), str(token.attrs["id"]), words(tokens[index + 1]))
        for index, token in enumerate(tokens)
        if token.type == "heading_open"
    ]


@dataclass(frozen=True)
class Table:
    """A table: where it begins and ends in the tokens, and each row's own token with the inline ones of its cells."""

    first: int
    last: int
    rows: tuple[tuple[Token, tuple[Token, ...]], ...]

    @property
    def columns(self) -> list[str]:
        """Return the columns' names."""
        return [words(cell) for cell in self.rows[0][1]]


def tables(tokens: Sequence[Token]) -> Iterator[Table]:
    """Yield each table, in order."""
    first, rows = 0, []
    for index, token in enumerate(tokens):
        if token.type == "table_open":
            first, rows = index, []
        elif token.type == "tr_open":
            rows.append((token, []))
        elif token.type in ("th_open", "td_open"):
            rows[-1][1].append(tokens[index + 1])
        elif token.type == "table_close":
            yield Table(first, index, tuple((row, tuple(cells)) for row, cells in rows))


def inlines(tokens: Sequence[Token], kind: str) -> Iterator[Token]:
    """Yield the tokens of a kind that stand inside lines: links and pictures."""
    for token in tokens:
        yield from (child for child in token.children or () if child.type == kind)
