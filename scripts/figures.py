"""Draw figures from recorded runs:  python scripts/figures.py [name ...]        all of them where none is named

A name may be its beginning alone (fig05). Needs no accelerator, no account and no data: a figure follows from
results/runs/ alone.
"""

from __future__ import annotations

import os
import sys

from scripts.reporting.modules import arguments_for, full_names, module, names_and_overrides
from scripts.reporting.terminal import short, show


def main(arguments: list[str] | None = None) -> int:
    options = arguments_for("figures", __doc__).parse_args(arguments)
    os.environ["MPLBACKEND"] = "agg"  # before matplotlib's import: a notebook's own fails in a script
    from scripts.reporting.records import load
    from scripts.reporting.style import own_settings, save

    names, overrides = names_and_overrides(options.names)
    try:
        for name in full_names("figures", names):
            chosen = module("figures", name)
            runs = load(chosen.DRAWS, options.runs, overrides)
            with own_settings():
                for picture, (figure, table) in chosen.figures(runs).items():
                    path = save(figure, options.out / f"{picture}.png")
                    show(f"{table.to_string()}\n{short(path)}")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
