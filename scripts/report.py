"""Write the report from recorded runs:  python scripts/report.py        results/REPORT.md

Judges the claims of results/paper/claims.yaml and the values of the paper's tables by the runs in results/runs/, and
sets them beside the pictures and pages in results/figures/ and results/tables/, which `make figures` makes first. Needs
no accelerator, no account and no data. A record that cannot be read is left out, and named.
"""

from __future__ import annotations

from experiments.engine.command_line import say
from experiments.engine.errors import ConfigurationError, one_line
from scripts.reporting.markdown import write_text
from scripts.reporting.modules import MISTAKES, RECORDS, made_of, roots, short
from scripts.reporting.program import Arguments, folder_argument, run_script


def main(arguments: list[str] | None = None) -> int:
    parser = Arguments(__doc__)
    text = "results/runs, or outputs for runs not collected; given twice, the first folder that has a run counts"
    parser.add_argument("--runs", type=folder_argument, action="append", metavar="FOLDER", help=text)
    text = "the folder of figures/ and tables/, in which the report is written"
    parser.add_argument("--results", type=folder_argument, default=RECORDS.parent, help=text)
    options = parser.parse_args(arguments)
    try:
        folders = roots(options.runs, named=False)
    except ConfigurationError as error:
        say(one_line(error))
        return 1
    from scripts.reporting.report.evidence import Evidence, said_of
    from scripts.reporting.report.judging import claims, judge
    from scripts.reporting.report.page import page
    from scripts.reporting.report.values import compare, tables

    evidence = Evidence(folders)
    judgements = [judge(claim, evidence) for claim in claims()]
    values, mistakes = {}, [judgement.mistake for judgement in judgements if judgement.mistake]
    for table in tables():
        try:
            with made_of(table, [table]):
                values[table] = compare(table, evidence)
        except MISTAKES as error:
            values[table] = []
            mistakes.append(said_of(error))
    unreadable = list(dict.fromkeys(evidence.mistakes))
    mistakes = list(dict.fromkeys([*unreadable, *mistakes]))
    for mistake in mistakes:
        say(f"{mistake}; the report is written without it")
    path = write_text(options.results / "REPORT.md", page(judgements, values, options.results, unreadable))
    print(short(path))
    return 1 if mistakes else 0


if __name__ == "__main__":
    run_script(main)
