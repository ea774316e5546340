"""A stand-in for W&B's public API that knows what `wandb sync` would upload of offline runs: their logs and files."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

BLOCK, HEADER, MAGIC = 32768, 7, 7  # bytes, of the log of LevelDB in which W&B writes


def logged(part: Path) -> Iterator[Any]:
    """Yield the records that an offline part's log holds."""
    from wandb.proto.wandb_internal_pb2 import Record

    (log,) = part.glob("*.wandb")
    content, position, record = log.read_bytes(), MAGIC, b""
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        _, length, kind = struct.unpack("<IHB", content[position : position + HEADER])
        if left < HEADER or kind == 0:
            position += left
            continue
        record += content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(record)
            record = b""


class UploadedFile:
    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path, self.downloads = name, path, 0

    @property
    def md5(self) -> str:
        return base64.b64encode(hashlib.md5(self.path.read_bytes()).digest()).decode()

    def download(self, root: str, replace: bool = False) -> IO[str]:
        target = Path(root, self.name)
        assert replace or not target.exists()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path, target)
        self.downloads += 1
        return target.open()


class UploadedRun:
    """A run as the offline parts of its folder make it, in the order in which `make sync` uploads them."""

    def __init__(self, folder: Path) -> None:
        self.state, self.config, self.summary, self.found = "running", {}, {}, {}
        for part in sorted((folder / "wandb").glob("offline-run-*")):
            self.state = "crashed"
            for record in logged(part):
                self._take(record, part)

    def _take(self, record: Any, part: Path) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            self.id, self.name, self.group = record.run.run_id, record.run.display_name, record.run.run_group
            self.tags = list(record.run.tags)
            self.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "summary":
            self.summary |= {item.key: json.loads(item.value_json) for item in record.summary.update if item.key}
        elif kind == "files":
            for file in record.files.files:
                self.found[file.path] = UploadedFile(file.path, part / "files" / file.path)
        elif kind == "exit":
            self.state = "failed" if record.exit.exit_code else "finished"

    def files(self) -> list[UploadedFile]:
        return list(self.found.values())


class Api:
    """The part of `wandb.Api` that is used, with projects as they were given; `asked` are the filters of each call."""

    def __init__(self, **projects: list[UploadedRun]) -> None:
        self.projects = {name.replace("__", "/"): runs for name, runs in projects.items()}
        self.asked: list[dict[str, Any]] = []

    def runs(self, path: str, filters: dict[str, Any]) -> Iterator[UploadedRun]:
        self.asked.append(filters)
        if path not in self.projects:
            raise ValueError(f"Could not find project {path.partition('/')[2]}")
        for run in self.projects[path]:
            tags, group = filters.get("tags", {"$in": run.tags or [None]})["$in"], filters.get("group", run.group)
            if set(tags) & set(run.tags or [None]) and group == run.group:
                yield run
