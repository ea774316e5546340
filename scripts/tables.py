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
and results/independent/values.csv. A table that cannot be made ends in one line, and the others are still written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from experiments.engine.command_line import say
from experiments.engine.errors import one_line
from scripts.reporting import pages, values
from scripts.reporting.captions import provenance
from scripts.reporting.loading import load_if_run
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
from scripts.reporting.records import Run, file_name


def write(name: str, table: ModuleType, runs: Sequence[Run], out: Path) -> Path:
    """Write a table into its document, or as a page of its own below `out`; return the path of the Markdown."""
    if not hasattr(table, "DOCUMENT"):
        return pages.write(table.page(runs), out, file_name(name, runs))
    document = REPOSITORY / table.DOCUMENT
    text = f"{markdown_table(table.rows(runs))}\n\n{provenance(runs)}"
    return write_text(document, with_table(read_text(document), name, text))


def write_all(name: str, folders: Sequence[Path], overrides: Sequence[str], named: bool, out: Path) -> list[Path]:
    """Write a table for each scale that has runs, or that nothing has run; return the paths. Raises what MISTAKES are.

    A `named` one is written at its largest scale, and is a mistake where nothing has run.
    """
    table = module("tables", name)
    each = load_if_run(name, table.DRAWS, folders, overrides, named)
    if hasattr(table, "DOCUMENT"):
        each = each[:1]  # a document has one place for it
    elif each:
        pages.remove_not_run(out, name)
    else:
        return [pages.write(pages.not_run(table.page([]), table.DRAWS), out, f"{name}{pages.NOT_RUN_END}")]
    written = []
    for runs in each:
        with made_of(name, [run.folder for run in runs]):
            written.append(write(name, table, runs, out))
    return written


def main(arguments: list[str] | None = None) -> int:
    parser = arguments_for("tables", __doc__)
    options = parser.parse_args(arguments)
    mistakes: dict[str, list[str]] = {}  # what is wrong, and with which tables: a record may have its part in several
    try:
        names, overrides = names_and_overrides(options.names)
        chosen, folders = full_names("tables", names), roots(options.runs, bool(names))
    except MISTAKES as error:
        say(one_line(error))
        return 1
    for name in chosen:
        try:
            for path in write_all(name, folders, overrides, bool(names), options.out):
                print(f"{name}: {short(path)}")
        except MISTAKES as error:
            mistakes.setdefault(one_line(error), []).append(name)
    if not names and options.out == parser.get_default("out"):
        for path in values.write():
            print(f"published numbers: {short(path)}")
    for mistake, concerned in mistakes.items():
        say(mistake if names and len(chosen) == 1 else f"not written: {', '.join(concerned)}; {mistake}")
    return int(bool(mistakes))


if __name__ == "__main__":
    run_script(main)
