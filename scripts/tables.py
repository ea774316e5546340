"""Write tables from recorded runs:  python scripts/tables.py [name ...]        all where none is named

A name may be its beginning alone. A table stands between two comment lines of its document in docs/,
`<!-- <name>: begin -->` and `<!-- <name>: end -->`, and the words around it stay; or it is a page of its own in
results/tables/, whose name ends with the scale where that is not the paper's (table1@proxy.md). `python
scripts/figures.py --help` says which scales are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from experiments.engine.command_line import say
from experiments.engine.errors import one_line
from scripts.reporting.captions import provenance
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
from scripts.reporting.records import Run, file_name, load_if_run


def write(name: str, table: ModuleType, runs: Sequence[Run], out: Path) -> Path:
    """Write a table into its document, or as a page of its own below `out`; return the path."""
    if not hasattr(table, "DOCUMENT"):
        return write_text(out / f"{file_name(name, runs)}.md", table.page(runs))
    document = REPOSITORY / table.DOCUMENT
    text = f"{markdown_table(table.rows(runs))}\n\n{provenance(runs)}"
    return write_text(document, with_table(read_text(document), name, text))


def main(arguments: list[str] | None = None) -> int:
    options = arguments_for("tables", __doc__).parse_args(arguments)
    try:
        names, overrides = names_and_overrides(options.names)
        for name in full_names("tables", names):
            table = module("tables", name)
            each = load_if_run(name, table.DRAWS, roots(options.runs, bool(names)), overrides, named=bool(names))
            for runs in each[:1] if hasattr(table, "DOCUMENT") else each:  # a document has one place for it
                with made_of(name, [run.folder for run in runs]):
                    print(f"{name}: {short(write(name, table, runs, options.out))}")
    except MISTAKES as error:
        say(one_line(error))
        return 1
    return 0


if __name__ == "__main__":
    run_script(main)
