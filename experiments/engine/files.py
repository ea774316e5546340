"""Files that appear whole or not at all, in UTF-8 whatever the locale, with the mode that the umask gives."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from experiments.engine.errors import RunFolderError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoSpaceLeft(RunFolderError, OSError):
    """The disk, or the user's share of it, is full."""


def replace_file(path: Path, write: Callable[[Path], Any], name: Callable[[Path], str] | None = None) -> Path:
    """Write a file by `write(path)` so that it appears whole or not at all; a link stays one, its file is replaced.

    `name(temporary path)`, where given, names the file once its content is known. Whatever fails, nothing is left
    behind. Raises NoSpaceLeft where the disk is full, also where `write` raises something else for it.
    """
    if path.is_symlink():
        path = path.resolve()
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with named_errors(path):
            temporary.unlink(missing_ok=True)
            temporary.touch()
            mode = stat.S_IMODE(temporary.stat().st_mode)  # by the umask, which a library's own temporary files are not
            write(temporary)
            temporary.chmod(mode)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            target = path.with_name(name(temporary)) if name else path
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return target


def replace_text(path: Path, text: str) -> Path:
    """Write a text file in UTF-8 so that it appears whole or not at all."""
    return replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def content_of(path: Path) -> bytes:
    """Return a file's content. Raises ValueError, naming the file, where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or type(error).__name__})") from error


def digest(path: Path) -> str:
    """Return the first 16 hex digits of a file's sha256."""
    with path.open("rb") as file:
        return _digest(file)


def digest_of(content: bytes) -> str:
    """Return what `digest` returns of a file with this content."""
    return _digest(io.BytesIO(content))


def _digest(file: IO[bytes]) -> str:
    sha = hashlib.sha256()
    while chunk := file.read(1 << 22):
        sha.update(chunk)
    return sha.hexdigest()[:16]


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Name the file in errors of the operating system, also where a library hides them behind errors of its own.

    Raises NoSpaceLeft for a full disk, else an OSError with the file's name.
    """
    try:
        yield
    except Exception as error:
        cause = _system_error(error)
        if cause is None:
            raise
        if cause.errno in FULL:
            raise NoSpaceLeft(f"no space left to write {path}; make room, then the same command goes on") from error
        if cause is error and cause.filename is not None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error


def _system_error(error: BaseException) -> OSError | None:
    """Return the error of the operating system that an error is, came from, or (safetensors) only quotes."""
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause
        quoted = re.search(r"\(os error (\d+)\)", str(cause))
        if quoted:
            return OSError(int(quoted[1]), os.strerror(int(quoted[1])))
    return None
