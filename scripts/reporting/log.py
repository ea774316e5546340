"""What drawing figures says: of those that were named their values, else a line for each picture that changed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scripts.reporting.modules import short
from scripts.reporting.style import FORMATS

Contents = list[bytes | None]


def contents(path: Path) -> Contents:
    """Return what the files of a picture hold, its caption's too; None of one that is not there."""
    files = [path.with_name(f"{path.name}.{ending}") for ending in (*FORMATS, "md")]
    return [file.read_bytes() if file.is_file() else None for file in files]


class Log:
    """The lines of one command: `values` says whether the tables of values are printed."""

    def __init__(self, values: bool) -> None:
        self.values = values
        self._unchanged = self._incomplete = 0

    def picture(
        self, path: Path, before: Contents, runs: str, missing: bool, table: pd.DataFrame | None = None
    ) -> None:
        """Say that a picture was drawn: `runs` of how many it is made, and whether any are missing."""
        png = short(path.with_name(f"{path.name}.png"))
        if self.values and table is not None:
            print(f"{table.to_string()}\n{png}")
        elif contents(path) != before:
            print(f"{png} ({runs})")
        else:
            self._unchanged += 1
            self._incomplete += missing

    def end(self) -> None:
        """Say how many pictures were left as they were."""
        if self._unchanged:
            some = f", {self._incomplete} of them with runs missing" if self._incomplete else ""
            print(f"unchanged pictures: {self._unchanged}{some}")
