"""Downloads that bring what a test has, without a network; and the folders that they fill."""

from __future__ import annotations

import gzip
import socket
from pathlib import Path

from experiments.engine import downloads


def delivering(monkeypatch, contents: dict[str, bytes], packed: bool = False) -> list[str]:
    """Let downloads bring these files, as name.gz where `packed`; return the addresses asked for, as they are asked."""
    asked = []

    def deliver(url: str, root: str, filename: str) -> None:
        assert socket.getdefaulttimeout() == downloads.TIMEOUT_S
        asked.append(url)
        content = contents[filename.removesuffix(".gz") if packed else filename]
        (Path(root) / filename).write_bytes(gzip.compress(content) if packed else content)

    monkeypatch.setattr(downloads, "download_url", deliver)
    return asked


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def in_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name, without its folders."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
