"""A table that rows are appended to while a run goes on, and that a resumed run cuts back."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

from experiments.engine.errors import RunFolderError
from experiments.engine.files import named_errors


class Table:
    """A CSV file that rows are appended to; its state is its length, to which a resumed run cuts it back.

    The columns are those of the first row. Floats are written with every digit (`repr`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] | None = None

    def append(self, row: dict[str, Any]) -> None:
        """Add a row and flush it to the disk. Raises ValueError where its keys are not the columns."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=self.columns or list(row), lineterminator="\n")
        if self.columns is None:
            self.columns = list(row)
            writer.writeheader()
        if list(row) != self.columns:
            raise ValueError(f"{self.path.name} has the columns {self.columns}, not {list(row)}")
        writer.writerow({key: repr(value) if isinstance(value, float) else value for key, value in row.items()})
        with named_errors(self.path), self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())

    def state_dict(self) -> dict[str, int]:
        return {"bytes": self.path.stat().st_size if self.path.exists() else 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Cut the file back to where it was. Raises RunFolderError where it is shorter than that."""
        length = self.path.stat().st_size if self.path.exists() else 0
        if length < state["bytes"]:
            raise RunFolderError(
                f"{self.path} is damaged: {length} bytes, the checkpoint knows "
                f"{state['bytes']}; put the file back or move the folder away"
            )
        self.columns = None
        if state["bytes"] == 0:
            self.path.unlink(missing_ok=True)
            return
        os.truncate(self.path, state["bytes"])
        with self.path.open(encoding="utf-8", newline="") as file:
            self.columns = next(csv.reader(file))
