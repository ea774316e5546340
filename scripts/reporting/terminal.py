"""What a command shows on the terminal, which never stops what the command makes."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def show(text: str) -> None:
    """Print a text; what the terminal's encoding lacks is "?", and a terminal that is gone is no error."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except BrokenPipeError:  # `| head -1`: Python would complain again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def short(path: Path) -> Path:
    """Return a path as it is read best: relative where it lies below the working directory."""
    absolute = Path(os.path.abspath(path))
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else path
