"""What a run writes: append-only tables that can be cut back, and summary.json.

The run folder: config.yaml, history.csv, summary.json, weights.safetensors, checkpoints/, lock while it runs.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.engine.errors import RunFolderError
from experiments.engine.files import replace_file

if TYPE_CHECKING:  # scripts read records without torch, whose import takes longer than a figure
    import torch

SCHEMA = 1


class Table:
    """A CSV file that rows are appended to; its state is its length, to which a resumed run cuts it back.

    The columns are those of the first row. Floats are written with every digit (`repr`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] | None = None

    def append(self, row: dict[str, Any]) -> None:
        """Add a row and flush it to the disk. Raises ValueError where its keys are not the columns."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=self.columns or list(row), lineterminator="\n")
        if self.columns is None:
            self.columns = list(row)
            writer.writeheader()
        if list(row) != self.columns:
            raise ValueError(f"{self.path.name} has the columns {self.columns}, not {list(row)}")
        writer.writerow({key: repr(value) if isinstance(value, float) else value for key, value in row.items()})
        with self.path.open("a") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())

    def state_dict(self) -> dict[str, int]:
        return {"bytes": self.path.stat().st_size if self.path.exists() else 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Cut the file back to where it was. Raises RunFolderError where it is shorter than that."""
        length = self.path.stat().st_size if self.path.exists() else 0
        if length < state["bytes"]:
            raise RunFolderError(
                f"{self.path} is damaged: {length} bytes, the checkpoint knows "
                f"{state['bytes']}; put the file back or move the folder away"
            )
        self.columns = None
        if state["bytes"] == 0:
            self.path.unlink(missing_ok=True)
            return
        os.truncate(self.path, state["bytes"])
        with self.path.open() as file:
            self.columns = next(csv.reader(file))


def commit() -> str:
    """Return git's commit of this code, "-dirty" behind it where tracked files differ, or "unknown"."""
    root = Path(__file__).resolve().parents[2]
    try:
        found = [
            subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
            ).stdout.strip()
            # results/ is made by the code, not part of it: drawing a figure makes no commit dirty.
            for arguments in (
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no", "--", ".", ":!results"],
            )
        ]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found[0] + ("-dirty" if found[1] else "")


def device_name(device: torch.device) -> str:
    """Return the name of the accelerator, or of the processor and its number of cores."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    # Fewer than the machine has under Slurm or in a container.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name} ({cores} cores)"


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "hydra-core", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def peak_memory(device: torch.device) -> int:
    """Return the most memory used so far, in bytes: the device's, or on the CPU the process's."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write summary.json, the mark of a run that is over: nothing is written after it."""
    final = {key: value if math.isfinite(value) else None for key, value in summary["final"].items()}
    text = json.dumps({"schema": SCHEMA, **summary, "final": final}, indent=2, allow_nan=False) + "\n"
    replace_file(folder / "summary.json", lambda path: path.write_text(text))


def read_summary(folder: Path) -> dict[str, Any] | None:
    path = folder / "summary.json"
    return json.loads(path.read_text()) if path.exists() else None


def final(summary: dict[str, Any]) -> str:
    """Return the final validation metrics in a few words; one that was not finite is `null` in the record."""
    metrics = {key: value for key, value in summary["final"].items() if key.startswith("val/")}
    return ", ".join(f"{key} {'not finite' if value is None else f'{value:.4g}'}" for key, value in metrics.items())
