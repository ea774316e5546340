"""Draw figures from recorded runs:  python scripts/figures.py [name ...]        all of them where none is named

A name may be its beginning alone (fig05). Of a named figure the runs at the largest scale are drawn, or those at the
scale that is given (fig05 scale=proxy). Where none is named, every figure is drawn once for each scale that has runs;
what has none at all is drawn with empty panels that say how to run it (fig15_swa_start@not_run.png). A record that
cannot be used is named in one line and left out, and stops neither the others of its figure nor the other figures. A
file's name ends with the scale where that is not the paper's (fig05_cifar_curves@proxy.png); beside the PNG are a PDF
and the caption, which says of what the figure is made. Needs no accelerator, no account and no data: a figure follows
from results/runs/ alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from experiments.engine.command_line import say
from experiments.engine.errors import one_line
from scripts.reporting.modules import (
    MISTAKES,
    arguments_for,
    full_names,
    made_of,
    module,
    names_and_overrides,
    roots,
)
from scripts.reporting.program import run_script

if TYPE_CHECKING:  # what imports matplotlib waits until its backend is chosen
    from scripts.reporting.loading import Recorded
    from scripts.reporting.log import Log
    from scripts.reporting.records import UnusableRecord

NOT_RUN_END = "@not_run"  # of the names of files of a figure of which nothing has been run


def main(arguments: list[str] | None = None) -> int:
    options = arguments_for("figures", __doc__).parse_args(arguments)
    os.environ["MPLBACKEND"] = "agg"  # before matplotlib's import: a notebook's own fails in a script
    try:
        names, overrides = names_and_overrides(options.names)
        chosen, folders = full_names("figures", names), roots(options.runs, bool(names))
    except MISTAKES as error:
        say(one_line(error))
        return 1
    from scripts.reporting.log import Log

    log = Log(values=bool(names))
    mistakes: dict[str, None] = {}  # a record may be wrong in several figures
    for name in chosen:
        try:
            for mistake in draw_each(name, folders, overrides, bool(names), options.out, log):
                mistakes[one_line(mistake)] = None
        except MISTAKES as error:
            mistakes[one_line(error)] = None
    log.end()
    for mistake in mistakes:
        say(mistake)
    return int(bool(mistakes))


def draw_each(
    name: str, folders: Sequence[Path], overrides: Sequence[str], named: bool, out: Path, log: Log
) -> Iterator[Exception]:
    """Draw a figure at each scale that has runs, or that nothing has run; yield what is wrong and was left out.

    A `named` one is drawn at its largest scale, and is a mistake where nothing has run. Raises what MISTAKES are.
    """
    from scripts.reporting.loading import load_each

    its = module("figures", name)
    found = load_each(name, its.DRAWS, folders, overrides, named)
    if not found:
        draw_not_run(name, its, out, log)
    for one in found:
        yield from one.mistakes
        if not one.runs:
            continue
        if named:
            one.say_what_is_missing(its.DRAWS, name)
        try:
            yield from draw(name, one, out, log)
        except MISTAKES as error:
            yield error


def draw(name: str, found: Recorded, out: Path, log: Log) -> list[UnusableRecord]:
    """Draw a figure from runs, with its caption, and say so; return what is left out."""
    from scripts.reporting.captions import caption_file, origin_of
    from scripts.reporting.log import contents
    from scripts.reporting.markdown import write_text
    from scripts.reporting.records import file_name
    from scripts.reporting.style import own_settings, save

    its = module("figures", name)
    with own_settings(), made_of(name, [run.folder for run in found.runs]):
        pictures, drawn = found.made_into(its.figures)
        for picture, (figure, table) in pictures.items():
            path = out / file_name(picture, drawn.runs)
            before = contents(path)
            save(figure, path)
            details = {key: [value] for key, value in origin_of(drawn.runs).items()}
            details["runs"] = [f"{len(drawn.runs)} of {drawn.expected}"]
            details["left out"] = [f"`{folder}`, which cannot be used" for folder in drawn.left_out]
            if drawn.missing:
                details |= how_to_run(its)
                if name.startswith("fig"):  # which has a target of its own, that runs what is missing alone
                    details["command"] = [f'`make {name} ARGS="{drawn.choice}"`']
            write_text(path.with_name(f"{path.name}.md"), caption_file(figure, details, table))
            for old in out.glob(f"{picture}{NOT_RUN_END}.*"):
                old.unlink()
            log.picture(path, before, f"{details['runs'][0]} runs", drawn.missing > 0, table)
    return drawn.mistakes[len(found.mistakes) :]


def draw_not_run(name: str, its: ModuleType, out: Path, log: Log) -> None:
    """Draw a figure of which nothing has been run: empty panels, with the command and the cost."""
    from scripts.reporting.captions import caption_file
    from scripts.reporting.loading import declared
    from scripts.reporting.log import contents
    from scripts.reporting.markdown import write_text
    from scripts.reporting.panels import not_run
    from scripts.reporting.style import own_settings, save

    path = out / f"{name}{NOT_RUN_END}"
    before = contents(path)
    with own_settings():
        figure = not_run(its)
        save(figure, path)
    details = {"runs": [f"0 of {len(declared(its.DRAWS))}"], **how_to_run(its)}
    write_text(path.with_name(f"{path.name}.md"), caption_file(figure, details))
    log.picture(path, before, f"not run yet: {details['command'][0].strip('`')}", missing=True)


def how_to_run(its: ModuleType) -> dict[str, list[str]]:
    """Return the commands of a figure's experiments, and what each costs."""
    from scripts.reporting.headers import costs, header

    experiments = list(dict.fromkeys(draws.experiment for draws in its.DRAWS))
    return {"command": [f"`{header(experiment).command}`" for experiment in experiments], "cost": costs(experiments)}


if __name__ == "__main__":
    run_script(main)
