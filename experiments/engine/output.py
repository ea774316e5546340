"""Standard output and error that cannot stop a command: not by an encoding, a reader that went away or a full disk."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_lost = False  # whether a full disk took some of the standard output


def some_is_lost() -> bool:
    """Say whether something of the standard output found no space: the work is done, but the command has failed."""
    return _lost


class _Unstoppable(io.FileIO):
    """A descriptor that leads to nowhere once nobody reads it any more (`train.py | head -1`, a closed terminal).

    Likewise once its disk is full, which is said on standard error.
    """

    def write(self, data) -> int:
        global _lost
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO, *FULL):
                raise
            if error.errno in FULL and self.fileno() == 1:
                _lost = True
                with contextlib.suppress(OSError):
                    os.write(2, f"error: cannot write standard output: {error.strerror}\n".encode())
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)
        return len(data)


def flush() -> None:
    """Write what standard output holds back, where there is one."""
    if sys.stdout is not None:
        sys.stdout.flush()


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
