"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def replace_file(path: Path, write: Callable[[Path], Any], name: Callable[[Path], str] | None = None) -> Path:
    """Write a file by `write(path)` so that it appears whole or not at all.

    `name(temporary path)`, where given, names the file once its content is known.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    target = path.with_name(name(temporary)) if name else path
    os.replace(temporary, target)
    return target
