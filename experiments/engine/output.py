"""Standard output and error that cannot stop a command: not by their encoding, not by a reader that went away."""

from __future__ import annotations

import errno
import io
import os
import sys


class _Unstoppable(io.FileIO):
    """A descriptor that leads to nowhere once nobody reads it any more (`train.py | head -1`, a closed terminal)."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)
        return len(data)


def make_output_unstoppable() -> None:
    """Replace the process's own standard output and error, before anything keeps them; call it first in a program.

    Characters that the encoding does not have are written as escapes. Streams that somebody replaced before (pytest,
    a notebook) stay as they are.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            continue
        stream.flush()
        raw = _Unstoppable(stream.fileno(), "w", closefd=False)
        replaced = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, replaced)
        setattr(sys, f"__{name}__", replaced)
