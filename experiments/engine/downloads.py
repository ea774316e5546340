"""Files of the web in a folder: known by their checksums, and downloaded apart until all are whole."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import os
import socket
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from torchvision.datasets.utils import download_url

from experiments.engine.files import content_of

TIMEOUT_S = 30.0  # without one, a firewall that drops packets would hold a run for minutes
ERRORS = (OSError, RuntimeError, EOFError, http.client.HTTPException, zlib.error)  # of a download or of unpacking it


@contextlib.contextmanager
def staging(root: Path) -> Iterator[Path]:
    """Make a folder in `root` for what is downloaded, which is removed afterwards with what is left in it.

    Inside the context a connection on which nothing comes for TIMEOUT_S ends with an error.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
            yield Path(folder)
    finally:
        socket.setdefaulttimeout(before)


def provide(
    root: Path, url: str, checksums: Mapping[str, str], otherwise: str, by_hand: str, packed: bool = False
) -> None:
    """See that files lie in `root`, whose SHA-256 `checksums` has by name; download the missing ones from `url`/name.

    They appear once all are whole. `packed` ones are at `url`/name.gz. Raises ValueError for a file with another
    checksum, which is never replaced, and says what can be done `otherwise`; FileNotFoundError where a download fails,
    and says what to do `by_hand`.
    """
    missing = {}
    for name, checksum in checksums.items():
        if not (root / name).exists():
            missing[name] = checksum
        elif _sha256(content_of(root / name)) != checksum:
            raise ValueError(
                f"{root / name} is not the usual file (its checksum differs); move it away, to have it downloaded, or "
                f"{otherwise}"
            )
    if not missing:
        return
    made_here = not root.exists()
    try:
        _download(root, url, missing, packed)
    except ERRORS as error:
        if made_here:
            with contextlib.suppress(OSError):
                root.rmdir()
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileNotFoundError(
            f"{root / next(iter(missing))} is missing, and the download failed ({reason}); {by_hand}"
        ) from error


def _download(root: Path, url: str, checksums: Mapping[str, str], packed: bool) -> None:
    """Raise one of ERRORS, with `root` as it was, unless all files can be had with their checksums."""
    with staging(root) as folder:
        for name, checksum in checksums.items():
            there = f"{name}.gz" if packed else name
            download_url(f"{url}/{there}", str(folder), there)
            content = (folder / there).read_bytes()
            if packed:
                content = gzip.decompress(content)
                (folder / name).write_bytes(content)
            if _sha256(content) != checksum:
                raise RuntimeError(f"{url}/{there} is not the usual file any more: its checksum differs")
        for name in checksums:
            os.replace(folder / name, root / name)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
