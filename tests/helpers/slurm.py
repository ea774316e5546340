"""Commands on the local Slurm of scripts/slurm/local.sh, launchers and batch jobs, and waiting for what they do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "scripts" / "slurm" / "local.sh"
LIMIT_S = 1700.0  # for jobs on a machine that does other work as well; they take seconds on one that does not
DIGITS = (
    *("task=digits", "tracker=none", "runtime.device=cpu", "runtime.threads=1", "runtime.process_timeout_s=600"),
    "runtime.output_dir={outputs}",
)
LAUNCHER = ("-m", "hydra/launcher=slurm_cpu", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=60")

Found = TypeVar("Found")


def wait_for(look: Callable[[], Found]) -> Found:
    """Return what `look` finds, once that is something: what other processes write gives no event to wait for."""
    end = time.monotonic() + LIMIT_S
    while not (found := look()):
        assert time.monotonic() < end, f"nothing came in {LIMIT_S} s"
        time.sleep(0.1)
    return found


def rows(folder: Path) -> int:
    """Return how many rows a run's history has by now."""
    path = folder / "history.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


@dataclass
class Command:
    """A command of this checkout, and the folder that its runs go to."""

    outputs: Path
    process: subprocess.Popen[str]
    log: Path

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return the exit code and all that it said."""
        return self.process.wait(LIMIT_S), self.log.read_text()

    def array(self) -> str:
        """Return the id of the one array that a launcher submitted."""
        (array,) = {path.name.partition("_")[0] for path in (self.outputs / "slurm").glob("[0-9]*_*")}
        return array

    def logs(self) -> str:
        """Return what the jobs of a launcher wrote, both streams."""
        return "\n".join(path.read_text() for path in sorted((self.outputs / "slurm").glob("*/*_log.*")))


@dataclass
class Slurm:
    """The environment of a running Slurm, and the folder of a test session for what its commands write."""

    environment: dict[str, str]
    folder: Path

    def start(self, name: str, *arguments: str) -> Command:
        """Start `arguments` in the checkout; `{outputs}` in them is this command's output folder."""
        outputs = self.folder / name
        log = self.folder / f"{name}.log"
        words = [argument.replace("{outputs}", str(outputs)) for argument in arguments]
        with log.open("w") as file:
            process = subprocess.Popen(words, cwd=ROOT, env=self.environment, stdout=file, stderr=subprocess.STDOUT)
        return Command(outputs, process, log)

    def train(self, name: str, *arguments: str) -> Command:
        """Start train.py on digits, alone or with LAUNCHER."""
        return self.start(name, sys.executable, "train.py", *DIGITS, *arguments)

    def command(self, *arguments: str) -> str:
        """Carry out a command of Slurm; return what it prints."""
        return subprocess.run(
            arguments, env=self.environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout.strip()


def started(folder: Path) -> Slurm:
    """Start a Slurm of its own in a folder, and return its environment."""
    # Without what an outer job, or torchrun, says of itself.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
    environment |= {"SLURM_LOCAL": str(folder / "slurm"), "PYTHONPATH": str(ROOT), "HYDRA_FULL_ERROR": "0"}
    environment |= {"SLURM_LOCAL_CPUS": "8"}  # jobs wait for Slurm, and import, more than they compute
    printed = subprocess.run(
        [LOCAL, "start"], env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert printed.returncode == 0, printed.stderr
    found = subprocess.run(
        ["bash", "-c", f"{printed.stdout}\nenv -0"], env=environment, capture_output=True, text=True, check=True
    )
    environment |= dict(pair.split("=", 1) for pair in found.stdout.split("\0") if "=" in pair)
    return Slurm(environment, folder)


def stop(slurm: Slurm) -> None:
    subprocess.run([LOCAL, "stop"], env=slurm.environment, check=True, timeout=120)


def missing(needed: Sequence[str] = ("slurmctld", "slurmd", "munged", "sbatch")) -> list[str]:
    """Return which programs of Slurm are not installed."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    return [name for name in needed if shutil.which(name, path=path) is None]
