"""Turn the report into one page that needs nothing else:  python scripts/site.py        results/report.html

The page holds the pictures, asks nothing of a server or of another site, and has no script. Its links to files of the
repository lead to the web where CITATION.cff has a repository-code, else to the files themselves. Needs no accelerator,
no account and no data: the page follows from results/REPORT.md and its pictures, which `make report` writes.
"""

from __future__ import annotations

from pathlib import Path

from experiments.engine.command_line import say
from experiments.engine.errors import ConfigurationError, one_line
from experiments.engine.files import replace_text
from scripts.reporting.markdown import read_text
from scripts.reporting.modules import MISTAKES, RECORDS, short
from scripts.reporting.program import Arguments, run_script

RESULTS = RECORDS.parent


def checked(report: Path, out: Path) -> None:
    """Raise ConfigurationError where there is no report, or its page cannot be written."""
    if not report.is_file():
        raise ConfigurationError(f"there is no report {short(report)}; make report writes results/REPORT.md")
    if not out.parent.is_dir():
        raise ConfigurationError(f"--out {out}: there is no folder {out.parent}")
    if out.is_dir():
        raise ConfigurationError(f"--out {out} is a folder; name a file, such as {out / 'report.html'}")
    if out.exists() and out.samefile(report):
        raise ConfigurationError(f"--out {out} is the report itself; name another file")


def main(arguments: list[str] | None = None) -> int:
    parser = Arguments(__doc__)
    for name, file, text in (
        ("--report", "REPORT.md", "the report in Markdown, its pictures beside it"),
        ("--out", "report.html", "the page"),
    ):
        parser.add_argument(name, type=Path, default=RESULTS / file, metavar="FILE", help=f"{text}: results/{file}")
    options = parser.parse_args(arguments)
    from scripts.reporting.site.page import page

    try:
        checked(options.report, options.out)
        print(short(replace_text(options.out, page(read_text(options.report), options.report, options.out))))
    except MISTAKES as error:
        say(one_line(error))
        return 1
    return 0


if __name__ == "__main__":
    run_script(main)
