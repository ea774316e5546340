"""Write tables from recorded runs:  python scripts/tables.py [name ...]        all where none is named

A name may be its beginning alone. A table stands between two comment lines of its document in docs/,
`<!-- <name>: begin -->` and `<!-- <name>: end -->`, and the words around it stay; or it is a page of its own in
results/tables/, whose name ends with the scale where that is not the paper's (table1@proxy.md). `python
scripts/figures.py --help` says which scales are written.

Beside a page are the tables that it is about as CSV and as LaTeX (table1@proxy.csv, .tex), one file each: of several
tables, as those of a search, the first column of the CSV says which. Small tables among the words of a page, and tables
in docs/, are there alone. In the CSV a number is a number; its deviation, and its marks or the words in its place,
have columns of their own.

Where none is named, what has no runs at all is written too (table4@not_run.md), with the published numbers, the
command and the cost, until there are some; and so are the published numbers as one table each, results/paper/values.csv
and results/independent/values.csv. A record that cannot be used is named in one line and left out; a table that cannot
be made ends in one line, and the others are still written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from experiments.engine.command_line import say
from experiments.engine.errors import one_line
from scripts.reporting import pages, published_values
from scripts.reporting.captions import provenance
from scripts.reporting.loading import Recorded, alone, load_each, not_run_yet
from scripts.reporting.markdown import markdown_table, read_text, with_table, write_text
from scripts.reporting.modules import (
    MISTAKES,
    REPOSITORY,
    arguments_for,
    full_names,
    made_of,
    module,
    names_and_overrides,
    roots,
    short,
)
from scripts.reporting.program import run_script
from scripts.reporting.records import UnusableRecord, file_name


def write(name: str, table: ModuleType, found: Recorded, out: Path) -> tuple[Path, Recorded]:
    """Write a table into its document, or as a page of its own below `out`.

    Returns the path of the Markdown, and the runs that it is made of.
    """
    if not hasattr(table, "DOCUMENT"):
        page, used = found.made_into(table.page)
        pages.remove_not_run(out, name)
        return pages.write(pages.without(page, used.left_out), out, file_name(name, used.runs)), used
    rows, used = found.made_into(table.rows)
    document = REPOSITORY / table.DOCUMENT
    text = "\n\n".join([markdown_table(rows), provenance(used.runs), *pages.left_out_in_words(used.left_out)])
    return write_text(document, with_table(read_text(document), name, text)), used


def write_all(
    name: str, folders: Sequence[Path], overrides: Sequence[str], named: bool, out: Path
) -> Iterator[Path | Exception]:
    """Write a table for each scale that has runs, or that nothing has run; yield the paths, and what is wrong.

    An UnusableRecord is left out of what is written. A `named` table is written at its largest scale, and is a mistake
    where nothing has run. Raises what MISTAKES are.
    """
    table = module("tables", name)
    each = load_each(name, table.DRAWS, folders, overrides, named)
    in_document = hasattr(table, "DOCUMENT")
    if not each:
        print(f"{name}: not run yet ({not_run_yet(table.DRAWS, folders, overrides, name)})")
        if not in_document:
            yield pages.write(pages.not_run(table.page([]), table.DRAWS), out, f"{name}{pages.NOT_RUN_END}")
    usable = [found for found in each if found.runs]
    for found in alone(usable[0], each) if usable and in_document else each:  # a document has one place for it
        yield from found.mistakes
        if not found.runs:
            continue
        found.say_what_is_missing(table.DRAWS, name)
        try:
            with made_of(name, [run.folder for run in found.runs]):
                path, used = write(name, table, found, out)
            yield path
            yield from used.mistakes[len(found.mistakes) :]
        except MISTAKES as error:
            yield error


def main(arguments: list[str] | None = None) -> int:
    parser = arguments_for("tables", __doc__)
    options = parser.parse_args(arguments)
    try:
        names, overrides = names_and_overrides(options.names)
        chosen, folders = full_names("tables", names), roots(options.runs, bool(names))
    except MISTAKES as error:
        say(one_line(error))
        return 1
    mistakes: dict[tuple[str, str], list[str]] = {}  # what is wrong, and with which tables: it may be so in several
    for name in chosen:
        try:
            for found in write_all(name, folders, overrides, bool(names), options.out):
                if isinstance(found, Path):
                    print(f"{name}: {short(found)}")
                else:
                    what = "left out of" if isinstance(found, UnusableRecord) else "not written:"
                    mistakes.setdefault((what, one_line(found)), []).append(name)
        except MISTAKES as error:
            mistakes.setdefault(("not written:", one_line(error)), []).append(name)
    if not names and options.out == parser.get_default("out"):
        for path in published_values.write():
            print(f"published numbers: {short(path)}")
    for (what, mistake), concerned in mistakes.items():
        say(mistake if names and len(chosen) == 1 else f"{what} {', '.join(concerned)}; {mistake}")
    return int(bool(mistakes))


if __name__ == "__main__":
    run_script(main)
