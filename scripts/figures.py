"""Draw figures from recorded runs:  python scripts/figures.py [name ...]        all of them where none is named

A name may be its beginning alone (fig05). Of a named figure the runs at the largest scale are drawn, or those at the
scale that is given (fig05 scale=proxy). Where none is named, every figure is drawn once for each scale that has runs,
and a note says what has not been run yet. A file's name ends with the scale where that is not the paper's
(fig05_cifar_curves@proxy.png). Needs no accelerator, no account and no data: a figure follows from results/runs/ alone.
"""

from __future__ import annotations

import os

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
    short,
)
from scripts.reporting.program import run_script


def main(arguments: list[str] | None = None) -> int:
    options = arguments_for("figures", __doc__).parse_args(arguments)
    os.environ["MPLBACKEND"] = "agg"  # before matplotlib's import: a notebook's own fails in a script
    from scripts.reporting.records import file_name, load_if_run
    from scripts.reporting.style import own_settings, save

    try:
        names, overrides = names_and_overrides(options.names)
        for name in full_names("figures", names):
            chosen = module("figures", name)
            for runs in load_if_run(name, chosen.DRAWS, roots(options.runs, bool(names)), overrides, named=bool(names)):
                with own_settings(), made_of(name, [run.folder for run in runs]):
                    for picture, (figure, table) in chosen.figures(runs).items():
                        path = save(figure, options.out / f"{file_name(picture, runs)}.png")
                        print(f"{table.to_string()}\n{short(path)}")
    except MISTAKES as error:
        say(one_line(error))
        return 1
    return 0


if __name__ == "__main__":
    run_script(main)
