"""Pages of results/tables/: a title, the tables that a page is about, and what is said of them; in three formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.reporting.cells import Table, csv_text
from scripts.reporting.draws import Draws
from scripts.reporting.headers import header
from scripts.reporting.latex import latex_text
from scripts.reporting.markdown import markdown_table, write_text

NOT_RUN_END = "@not_run"  # of the name of a page of which nothing has run


@dataclass(frozen=True)
class Page:
    """The parts of a page; a table stands below a heading where there are several. As text it is Markdown.

    A paragraph may have a table of its own, for reading alone; an empty one is left out.
    """

    title: str
    sections: Sequence[tuple[str, Table]]
    paragraphs: Sequence[str]

    def __str__(self) -> str:
        tables = [
            f"## {heading}\n\n{markdown_table(rows)}" if heading else markdown_table(rows)
            for heading, rows in self.sections
        ]
        return "\n\n".join([f"# {self.title}", *tables, *filter(None, self.paragraphs)]) + "\n"

    def csv(self) -> str:
        """Return the tables as one CSV file: of several, the first column says which, and a row has its own's cells."""
        if len(self.sections) == 1:
            return csv_text(self.sections[0][1])
        columns = list(dict.fromkeys(column for _, rows in self.sections for column in rows[0]))
        return csv_text(
            [
                {"table": heading, **{column: row.get(column, "") for column in columns}}
                for heading, rows in self.sections
                for row in rows
            ]
        )

    def latex(self) -> str:
        """Return the tables in LaTeX."""
        return latex_text(self.title, self.sections)


def page_of(title: str, rows: Table, *paragraphs: str) -> Page:
    """Return a page with one table, and what is said below it."""
    return Page(title, [("", rows)], paragraphs)


def not_run(page: Page, draws: Sequence[Draws]) -> Page:
    """Return a page of which nothing has run, with the commands that run it and what they cost."""
    lines = []
    for experiment in dict.fromkeys(wanted.experiment for wanted in draws):
        found = header(experiment)
        lines += [f"- command: `{found.command}`", f"- cost: {found.cost}"]
    return replace(page, paragraphs=["\n".join(["Nothing of this has run yet.", "", *lines]), *page.paragraphs])


def without(page: Page, left_out: Sequence[str]) -> Page:
    """Return the page with a paragraph on the records that are left out, by their folders; none of none."""
    return replace(page, paragraphs=[*page.paragraphs, *left_out_in_words(left_out)])


def left_out_in_words(folders: Sequence[str]) -> list[str]:
    """Return the sentence on records that are left out; none of none."""
    return [f"Left out, as they cannot be used: {', '.join(f'`{folder}`' for folder in folders)}."] if folders else []


def write(page: Page, folder: Path, name: str) -> Path:
    """Write a page as Markdown, CSV and LaTeX; return the path of the first."""
    for suffix, text in ((".csv", page.csv()), (".tex", page.latex())):
        write_text(folder / f"{name}{suffix}", text)
    return write_text(folder / f"{name}.md", str(page))


def remove_not_run(folder: Path, name: str) -> None:
    """Take away the page that says that nothing has run."""
    for path in folder.glob(f"{name}{NOT_RUN_END}.*"):
        path.unlink()
