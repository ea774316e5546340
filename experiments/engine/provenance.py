"""Where a record comes from: the commit of the code, the device, the versions, the memory that it took."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.engine.errors import ConfigurationError

if TYPE_CHECKING:  # scripts read records without torch, whose import takes longer than a figure
    import torch


def commit(given: str | None = None) -> str:
    """Return `given` (runtime.commit), or git's commit of this code, with "-dirty" where tracked files differ.

    "unknown" where this code is not in a checkout. Raises ConfigurationError where `given` was read as a number.
    """
    if given is not None and not isinstance(given, str):
        raise ConfigurationError(
            f"runtime.commit={given} was read as a {type(given).__name__}, not as text; quote it twice: "
            """'runtime.commit="..."'"""
        )
    if given:
        return given
    try:
        # A checkout may contain this code without tracking it: its commit says nothing then.
        _git("ls-files", "--error-unmatch", "--", str(Path(__file__).resolve()))
        head = _git("rev-parse", "HEAD")
        # results/ is made by the code, not part of it: drawing a figure makes no commit dirty.
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    """Return what git says of this checkout: GIT_DIR and its kin, which a hook sets, would point to another one."""
    root = Path(__file__).resolve().parents[2]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(root), *arguments],
        env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
        capture_output=True,
        check=True,
    )
    return done.stdout.decode("utf-8", errors="replace").strip()


def device_name(device: torch.device) -> str:
    """Return the name of the accelerator, or of the processor and its number of cores."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.startswith("model name")
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
