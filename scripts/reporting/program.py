"""The scripts as programs: their arguments, and an end in one line, whatever ends them."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from experiments.engine.command_line import say
from experiments.engine.output import flush, make_output_unstoppable, some_is_lost


class Arguments(argparse.ArgumentParser):
    """A parser whose description is printed as it is, and whose refusals are one line."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        say(f"{message}; {self.prog} --help says more")
        sys.exit(2)


def folder_argument(text: str) -> Path:
    """Return the path of a folder, which may be still to come; for an argument's `type`.

    Raises argparse.ArgumentTypeError where it, or what it would lie in, is something else.
    """
    path = Path(text).expanduser()
    for part in (path, *path.parents):
        if part.exists():
            if not part.is_dir():
                raise argparse.ArgumentTypeError(f"{part} is no folder")
            break
    return path


def run_script(main: Callable[[], int]) -> NoReturn:
    """Run a script and end the process, with one line where a signal stops it or the disk of its output is full.

    SIGTERM unwinds as SIGINT does, so that nothing half-written stays behind.
    """
    make_output_unstoppable()
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = main()
        flush()
        code = code or int(some_is_lost())
    except KeyboardInterrupt as error:
        signum = error.args[0] if error.args else signal.SIGINT
        say(f"stopped by {signal.Signals(signum).name}; what was finished before is kept")
        code = 128 + signum
    sys.exit(code)


def _stop(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt(signum)
