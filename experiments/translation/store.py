"""Pairs of sentences as numbers in a folder that runs map into memory: millions of them need little of it.

A store is written piece by piece, beside the place where it appears whole or not at all. Its store.json, written last,
has the size of every other file and a digest of the subwords; subwords.model lies with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from experiments.engine.files import named_errors
from experiments.translation.subwords import Subwords

FORMAT = 1
SPLITS = ("train", "val", "test")
SIDES = ("source", "target")
MODEL, CONTENTS = "subwords.model", "store.json"
STARTS = np.dtype("<i8")
KEPT_S = 24 * 3600.0  # more than writing any store takes


class DamagedStore(ValueError):
    """A store is half-written, its files were cut, or its format is another."""


@dataclass(frozen=True, eq=False)
class TokenPairs:
    """N pairs of sentences, one after the other: each side's numbers in a row, EOS after each sentence.

    `source` and `target` are flat, uint16, or uint32 above 65,536 subwords; `source_starts` and `target_starts`, int64
    [N + 1], say where each sentence begins and the last one ends.
    """

    source: np.ndarray
    target: np.ndarray
    source_starts: np.ndarray
    target_starts: np.ndarray

    def __len__(self) -> int:
        return len(self.source_starts) - 1

    @classmethod
    def of(cls, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> TokenPairs:
        """Return pairs in memory. Raises ValueError where there are not as many targets as sources."""
        if len(sources) != len(targets):
            raise ValueError(f"{len(sources)} sources cannot be paired with {len(targets)} targets")
        largest = max((max(row, default=0) for row in [*sources, *targets]), default=0)
        dtype = token_dtype(largest + 1)
        return cls(_flat(sources, dtype), _flat(targets, dtype), _starts(sources), _starts(targets))

    def lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lengths of all sources and all targets, EOS counted, int32 [N] each."""
        return np.diff(self.source_starts).astype(np.int32), np.diff(self.target_starts).astype(np.int32)

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of one pair's source and target, EOS included: views, not copies."""
        return (
            self.source[self.source_starts[number] : self.source_starts[number + 1]],
            self.target[self.target_starts[number] : self.target_starts[number + 1]],
        )

    def first(self, count: int) -> TokenPairs:
        """Return the first `count` pairs."""
        source_starts, target_starts = self.source_starts[: count + 1], self.target_starts[: count + 1]
        return TokenPairs(
            self.source[: source_starts[-1]], self.target[: target_starts[-1]], source_starts, target_starts
        )

    def digest(self) -> str:
        """Return 8 hex digits of SHA-256 of all numbers and starts."""
        found = hashlib.sha256()
        for array in (self.source, self.target, self.source_starts, self.target_starts):
            found.update(memoryview(np.ascontiguousarray(array)).cast("B") if array.size else b"")
        return found.hexdigest()[:8]


def token_dtype(vocabulary: int) -> np.dtype:
    """Return the type that holds the numbers of `vocabulary` subwords. Raises ValueError above 2^32."""
    for name in ("<u2", "<u4"):
        if vocabulary - 1 <= np.iinfo(name).max:
            return np.dtype(name)
    raise ValueError(f"vocabulary={vocabulary} is not possible; a store holds at most {1 << 32} subwords")


def _flat(rows: Sequence[Sequence[int]], dtype: np.dtype) -> np.ndarray:
    return np.fromiter(itertools.chain.from_iterable(rows), dtype, sum(map(len, rows)))


def _starts(rows: Sequence[Sequence[int]], first: int = 0) -> np.ndarray:
    return np.cumsum([first, *map(len, rows)], dtype=STARTS)


@dataclass(frozen=True)
class Store:
    """What a store holds: `lines` are (split, side) -> all lines of val and test, `made_of` is what it was made of."""

    subwords: Subwords
    pairs: dict[str, TokenPairs]
    lines: dict[tuple[str, str], list[str]]
    counts: dict[str, int]
    made_of: dict[str, Any]


class StoreWriter:
    """Writes a store into a folder, a piece at a time; errors of the system name the place where it will lie.

    Raises NoSpaceLeft, and OSError.
    """

    def __init__(self, folder: Path, subwords: Subwords, place: Path | None = None) -> None:
        self.folder, self.subwords, self.place = folder, subwords, place or folder
        self._dtype = token_dtype(subwords.size)
        self._files: dict[str, IO[bytes]] = {}
        self._tokens: dict[tuple[str, str], int] = {}
        self._pairs = dict.fromkeys(SPLITS, 0)

    def add(self, split: str, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> None:
        """Write the next pairs of a split, each sentence with its EOS."""
        for side, rows in zip(SIDES, (sources, targets), strict=True):
            before = self._tokens.get((split, side))
            starts = _starts(rows, before or 0)
            self._write(_starts_name(split, side), starts if before is None else starts[1:])
            self._write(_tokens_name(split, side), _flat(rows, self._dtype))
            self._tokens[split, side] = int(starts[-1])
        self._pairs[split] += len(sources)

    def lines(self, split: str, sources: Sequence[str], targets: Sequence[str]) -> None:
        """Write the next lines of a split as text; a line holds no line feed."""
        for side, lines in zip(SIDES, (sources, targets), strict=True):
            self._write(_lines_name(split, side), "".join(f"{line}\n" for line in lines).encode())

    def finish(self, counts: Mapping[str, int], made_of: Mapping[str, Any]) -> None:
        """Write what is left, and store.json as the last."""
        with named_errors(self.place):
            self.close()
            self.subwords.save(self.folder / MODEL)
            contents = {
                "format": FORMAT,
                "subwords": self.subwords.digest,
                "vocabulary": self.subwords.size,
                "dtype": self._dtype.str,
                "pairs": self._pairs,
                "counts": dict(counts),
                "made_of": dict(made_of),
                "files": {path.name: path.stat().st_size for path in sorted(self.folder.iterdir())},
            }
            (self.folder / CONTENTS).write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")

    def close(self) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def _write(self, name: str, content: np.ndarray | bytes) -> None:
        with named_errors(self.place):
            if name not in self._files:
                self._files[name] = (self.folder / name).open("wb")
            if len(content):
                self._files[name].write(memoryview(content).cast("B"))


def _tokens_name(split: str, side: str) -> str:
    return f"{split}.{side}.tokens"


def _starts_name(split: str, side: str) -> str:
    return f"{split}.{side}.starts"


def _lines_name(split: str, side: str) -> str:
    return f"{split}.{side}.txt"


@contextlib.contextmanager
def writing(folder: Path, subwords: Subwords) -> Iterator[StoreWriter]:
    """Give a writer whose store is at `folder` once the context ends, whole; one that lies there goes.

    Whatever fails, `folder` stays as it was and nothing is left behind; what a process that was killed has left goes
    after a day. Raises NoSpaceLeft, and OSError.
    """
    _remove_old(folder)
    with named_errors(folder):
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        written, replaced = temporary / "new", temporary / "old"
    try:
        with named_errors(folder):
            written.mkdir()  # with the mode that the umask gives, which a temporary folder's is not
        writer = StoreWriter(written, subwords, folder)
        try:
            yield writer
        finally:
            writer.close()
        with named_errors(folder):
            if folder.exists():
                folder.rename(replaced)
            written.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_old(folder: Path) -> None:
    """Remove what processes that were killed while they wrote this store have left, but nothing that may be in work."""
    for path in folder.parent.glob(f".{glob.escape(folder.name)}-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_S:
                shutil.rmtree(path)


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process at a time make what is missing in a folder, where the file system has a flock for folders."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which gives the flock back


def read_store(folder: Path) -> Store:
    """Return a store, its numbers mapped into memory.

    Raises FileNotFoundError where there is none, DamagedStore for one that is not whole or of another format, and
    ValueError for one of other subwords than its model has.
    """
    contents = _contents(folder)
    if contents["format"] != FORMAT:
        raise DamagedStore(f"{folder} is a store of format {contents['format']}, not {FORMAT}")
    for name, size in contents["files"].items():
        path = folder / name
        if not path.is_file():
            raise DamagedStore(f"{path} is missing")
        if path.stat().st_size != size:
            raise DamagedStore(f"{path} has {path.stat().st_size} bytes in place of {size}")
    subwords = Subwords.load(folder / MODEL)
    if subwords.digest != contents["subwords"]:
        raise ValueError(
            f"{folder} is a store of other subwords ({contents['subwords']}) than its {MODEL} has "
            f"({subwords.digest}); put that one back, or delete the folder and make it anew"
        )
    dtype = np.dtype(contents["dtype"])
    pairs = {split: _mapped(folder, split, dtype) for split in SPLITS if contents["pairs"][split]}
    lines = {
        (split, side): (folder / _lines_name(split, side)).read_bytes().decode().split("\n")[:-1]
        for split in SPLITS
        for side in SIDES
        if _lines_name(split, side) in contents["files"]
    }
    return Store(subwords, pairs, lines, contents["counts"], contents["made_of"])


def _contents(folder: Path) -> dict[str, Any]:
    path = folder / CONTENTS
    if not folder.exists():
        raise FileNotFoundError(f"{folder} is missing")
    try:
        contents = json.loads(path.read_bytes())
        for key in ("format", "subwords", "dtype", "pairs", "counts", "made_of", "files"):
            contents[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedStore(f"{path} is missing, or not whole") from error
    return contents


def _mapped(folder: Path, split: str, dtype: np.dtype) -> TokenPairs:
    tokens = [np.memmap(folder / _tokens_name(split, side), dtype, "r") for side in SIDES]
    starts = [np.memmap(folder / _starts_name(split, side), STARTS, "r") for side in SIDES]
    return TokenPairs(*(np.asarray(array) for array in tokens + starts))
