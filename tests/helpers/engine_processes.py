"""A task without batch norm for the engine's tests, and the runs that tests/engine/test_processes.py makes of it."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOOK_S = 0.1  # between two looks at processes that are waited for


def start(folder: Path, count: int, jobs: Sequence[dict[str, Any]], **environment: str) -> list[subprocess.Popen]:
    """Start `count` processes of this file, which do `jobs` one after the other; each writes facts-<rank>.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps(list(jobs)))
    processes = []
    for rank in range(count):
        own = {
            "RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": environment.get("MASTER_PORT", "0"),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        with (folder / f"log-{rank}.txt").open("w") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.helpers.engine_processes", str(folder)],
                    env={**os.environ, **own, **environment},
                    cwd=ROOT,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    return processes


def facts(folder: Path, processes: Sequence[subprocess.Popen], idle_s: float = 120) -> list[list[dict[str, Any]]]:
    """Wait for the processes; return what each of them found, job by job. Those that hang fail with all logs.

    They hang when together they have hardly used a processor for `idle_s` seconds: on a busy machine they are slow.
    """
    used, since = 0.0, time.monotonic()
    while any(process.poll() is None for process in processes) and time.monotonic() - since <= idle_s:
        now_used = sum(cpu_seconds(process.pid) for process in processes)
        if abs(now_used - used) >= 0.2:  # it is less than before where one of them has ended
            used, since = now_used, time.monotonic()
        time.sleep(LOOK_S)
    late = [rank for rank, process in enumerate(processes) if process.poll() is None]
    for rank in late:
        processes[rank].kill()
        processes[rank].wait()
    logs = "\n".join((folder / f"log-{rank}.txt").read_text()[-3000:] for rank in range(len(processes)))
    assert not late, f"{late} did not end:\n{logs}"
    found = [folder / f"facts-{rank}.json" for rank in range(len(processes))]
    assert all(path.exists() for path in found), logs
    return [json.loads(path.read_text()) for path in found]


def cpu_seconds(pid: int) -> float:
    """Return how long a process has used processors, in seconds; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def planted(job: dict[str, Any], rank: int) -> Iterator[None]:
    """Let something happen on one rank at its n-th update: a signal, an error, its end."""
    from experiments.engine.loop import Trainer

    plant = job.get("plant")
    original, calls = Trainer.update, 0

    def update(self, one):
        nonlocal calls
        calls += 1
        if plant is not None and rank == plant["rank"] and calls == plant["call"]:
            if plant["what"] == "error":
                raise ValueError("a sample is broken")
            os.kill(os.getpid(), getattr(signal, plant["what"]))
        original(self, one)

    Trainer.update = update
    try:
        yield
    finally:
        Trainer.update = original


def do(job: dict[str, Any], rank: int) -> dict[str, Any]:
    """Make one run; say how it ended, and which step its trainer came to."""
    from experiments.engine import loop
    from experiments.engine.errors import SaidByFirst, UserError
    from tests.helpers.running import run_in

    original = loop.Trainer.train

    # Nothing of a trainer is kept: torch's DDP must go before the processes part.
    def observed(self):
        try:
            return original(self)
        finally:
            found["step"] = self.position.step
            model, optimizer = self.parts.task.model, self.parts.optimizer
            found["weights"] = [p.double().sum().item() for p in model.parameters()]
            if hasattr(optimizer, "slow_weights"):
                with optimizer.slow_weights():
                    found["slow"] = [p.double().sum().item() for p in model.parameters()]

    loop.Trainer.train = observed
    seen = []
    if job.get("catch"):
        signal.signal(getattr(signal, job["catch"]), lambda *_: seen.append(1))
    found: dict[str, Any] = {}
    overrides = job["overrides"] + job.get("own", {}).get(str(rank), [])
    try:
        with planted(job, rank):
            summary = run_in(Path(job["folder"]), *overrides)
        found["status"] = "stopped" if summary is None else summary["status"]
    except SaidByFirst:
        found["status"] = "quiet"
    except (UserError, ValueError) as error:
        found |= {"status": type(error).__name__, "message": str(error)}
    finally:
        loop.Trainer.train = original
    return found


def main() -> None:
    import torch

    faulthandler.dump_traceback_later(60, repeat=True)  # into the log, before those who wait give up
    torch.set_num_threads(1)
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    found = []
    for job in json.loads((folder / "jobs.json").read_text()):
        # A port of its own for each run, as the one before may not be free yet.
        os.environ["MASTER_PORT"] = str(job["port"])
        found.append(do(job, rank))
        gc.collect()  # what a run leaves of torch's DDP goes now, in all processes, and not while one waits for another
        (folder / f"facts-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
