"""Archives of texts: downloaded in pieces that a stop does not lose, told by their checksums, and read by member."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import ssl
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from experiments.engine.files import named_errors, replace_file

PIECE = 1 << 20  # bytes that are read at a time
TIMEOUT_S = 60.0
LOST = (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError, urllib.error.URLError)
CUT = (EOFError, tarfile.TarError, zlib.error)
Tick = Callable[[int], object]


@dataclass(frozen=True)
class Archive:
    """A tar archive on the web: `size` in bytes, where it is published, and `checksum` as "sha256:..." or "md5:..."."""

    url: str
    checksum: str
    size: int | None = None

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


def provide(archive: Archive, folder: Path, tick: Tick = lambda size: None) -> Path:
    """Return the path of an archive in `folder`, downloaded first where it is not there.

    A download that is stopped leaves what it has in <name>.part, and goes on from there. `tick(bytes)` is told how many
    there are of it, now and then. Raises ValueError for a file of another size or checksum (one of the user's is never
    replaced), ConnectionError where a download fails, NoSpaceLeft, and OSError.
    """
    path = folder / archive.name
    if path.exists():
        problem = _problem(archive, path)
        if problem:
            raise ValueError(f"{path} {problem}; move it away, to have it downloaded from {archive.url}")
        return path
    part = folder / f"{archive.name}.part"
    with named_errors(part):
        folder.mkdir(parents=True, exist_ok=True)
    _download(archive, part, tick)
    problem = _problem(archive, part)
    if problem:
        part.unlink()
        raise ValueError(
            f"the download of {archive.url} {problem}, and was deleted; start again, or put the archive into {folder}"
        )
    with named_errors(path):
        os.replace(part, path)
    return path


def extract(path: Path, members: Mapping[str, Path]) -> None:
    """Write members of a tar archive, by their names in it, to these paths, each whole or not at all.

    Nothing else is written, whatever names are in the archive. Raises ValueError for an archive that is truncated or
    none, and for a member that is missing or no file; NoSpaceLeft and OSError.
    """
    wanted = dict(members)
    try:
        with tarfile.open(path, "r|*", bufsize=PIECE) as archive:
            for member in archive:
                target = wanted.pop(os.path.normpath(member.name), None)
                if target is None:
                    continue
                file = archive.extractfile(member) if member.isreg() else None
                if file is None:
                    raise ValueError(f"{path} has {member.name}, which is no file")
                replace_file(target, lambda temporary, file=file: _copy(file, temporary, path))
                if not wanted:
                    return
    except _Truncated as error:
        raise ValueError(str(error)) from error
    except CUT as error:
        raise ValueError(_truncated(path, error)) from error
    raise ValueError(f"{path} has no {', '.join(wanted)}")


class _Truncated(Exception):
    """What was read of an archive ended early: an error of reading it, not of writing a file."""


def _copy(file: IO[bytes], target: Path, archive: Path) -> None:
    with target.open("wb") as written:
        while True:
            try:
                piece = file.read(PIECE)
            except CUT as error:
                raise _Truncated(_truncated(archive, error)) from error
            if not piece:
                return
            written.write(piece)


def _truncated(path: Path, error: Exception) -> str:
    return f"{path} cannot be unpacked ({' '.join(str(error).split())}): it is truncated, or no tar archive"


def _problem(archive: Archive, path: Path) -> str | None:
    """Return how a file differs from the archive, or None where it does not."""
    size = path.stat().st_size
    if archive.size not in (None, size):
        return f"has {size:,} bytes in place of {archive.size:,}"
    algorithm, _, expected = archive.checksum.partition(":")
    found = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                found.update(piece)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or type(error).__name__})") from error
    return None if found.hexdigest() == expected else f"has another {algorithm.upper()} than is published"


def _download(archive: Archive, part: Path, tick: Tick) -> None:
    """Bring the rest of an archive into its .part, as long as each try brings more of it."""
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _rest(archive.url, part, tick):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            raise ConnectionError(f"{archive.url}: the server answers {error.code} {error.reason}") from error
        except LOST as error:
            reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        size = part.stat().st_size if part.exists() else 0
        if size <= before:
            raise ConnectionError(
                f"the download of {archive.url} failed ({reason}); {size:,} bytes are kept in {part}: start again and "
                f"it goes on, or put the archive into {part.parent}"
            )


def _rest(url: str, part: Path, tick: Tick) -> bool:
    """Read what a .part lacks, from its end on where the server can; return whether all came."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing lies behind the end: the checksum decides whether it is all
            tick(start)
            return True
        raise
    with response:
        ranged = re.match(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        goes_on = response.status == 206 and ranged is not None and int(ranged[1]) == start
        length = response.headers.get("Content-Length")
        came = start if goes_on else 0
        total = None if length is None else came + int(length)
        with named_errors(part):
            file = part.open("ab" if goes_on else "wb", buffering=0)
        with file:
            tick(came)
            while piece := response.read(PIECE):
                came += len(piece)
                with named_errors(part):
                    while piece:
                        piece = piece[file.write(piece) :]
                tick(came)
    return total is None or came == total
