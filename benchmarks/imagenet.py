"""Images a second of training ResNet-50 on ImageNet, against the plain recipe, and Lookahead's share of an update.

The plain recipe is pytorch/examples' (benchmarks/plain_imagenet.py). Loader alone, update alone (on batches in memory)
and both together are measured in turns, each candidate in a process of its own. Photographs are taken where they are,
else images made in code; labels are made up, 1,000 classes of them. What is Lookahead's own in an update is timed in
the updates themselves, in one process and in two. Run `make bench-imagenet` on an idle machine (about 7 minutes on two
cores). Writes results/benchmarks/imagenet.{md,json}; a partial run only prints its table, unless given --out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from benchmarks.imagenet_results import (
    CLASSES,
    FAST,
    GPU,
    HARDWARE,
    LOADER,
    LOOP,
    OURS,
    PLAIN,
    STEP,
    TITLE,
    Case,
    Share,
    findings,
    method,
    rows_of,
)
from benchmarks.own_work import own_work
from benchmarks.pictures import MADE, lay_out, photographs, write_made
from benchmarks.plain_imagenet import PlainImageNet
from benchmarks.ports import free_port
from benchmarks.report import REPOSITORY, RESULTS, show_report, whole_number
from benchmarks.trainers import Worker, imagenet_configuration, serve, started
from benchmarks.turns import measured
from experiments.engine.launch import launch
from experiments.engine.processes import joined
from experiments.engine.provenance import peak_memory
from experiments.vision.image_loading import usual_workers

SHARE = "Lookahead's share"
HELD = 2  # batches in memory, for updates alone
ON_CPU = {"batch_size": 8, "updates": 3, "loader_batch_size": 64, "loader_batches": 8, "share_loops": 2}
ON_GPU = {"batch_size": 256, "updates": 80, "loader_batch_size": 256, "loader_batches": 80, "share_loops": 20}


class Plain:
    """The plain recipe."""

    def __init__(self, options: argparse.Namespace, batch_size: int) -> None:
        device = torch.device("cuda", 0) if GPU else torch.device("cpu")
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self.training = PlainImageNet(
            options.model, options.root, device, batch_size, options.workers, options.size, rate_for(batch_size)
        )

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.training.restart()
        return self.training.batches()

    def update(self, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.training.update(*batch)

    def size(self, batch: tuple[torch.Tensor, torch.Tensor]) -> int:
        return len(batch[1])

    def finish(self) -> float:
        """Wait for the device; return the mean loss of what was trained, 0 where nothing was."""
        if GPU:
            torch.cuda.synchronize()
        return float(self.training.losses.avg)


class Ours:
    """The engine's updates of the task imagenet."""

    def __init__(self, config: DictConfig, folder: Path) -> None:
        self.trainer = started(config, folder)
        self.epoch = 0

    def batches(self) -> Iterator[Any]:
        self.trainer.updater.restart()
        self.epoch += 1
        return self.trainer.parts.task.updates(self.epoch - 1, 0, self.trainer.share)

    def update(self, batch: Any) -> None:
        self.trainer.update(batch)

    def size(self, batch: Any) -> int:
        return batch.size

    def finish(self) -> float:
        if GPU:
            torch.cuda.synchronize()
        self.trainer.read_loss()
        return self.trainer.running_loss if self.trainer.updater.weight_sum else 0.0


def configuration(
    options: argparse.Namespace, batch_size: int, *overrides: str, model: str | None = None
) -> DictConfig:
    """Return the configuration of ours; `hardware` is among the overrides where it is wanted."""
    given = [f"runtime.workers={options.workers}", "optim=la_sgd", f"task.size={options.size}"]
    given += [f"task.resize={max(options.size, 256)}", f"runtime.device={HARDWARE}"]
    given += [f"optim.lr={rate_for(batch_size)}"]
    given += [] if options.threads is None else [f"runtime.threads={options.threads}"]
    return imagenet_configuration(model or options.model, options.root, batch_size, *given, *overrides)


def rate_for(batch_size: int) -> float:
    """Return the learning rate of both: the recipe's in proportion, so that a small batch does not diverge."""
    return 0.1 * batch_size / 256


def candidate(name: str, options: argparse.Namespace, batch_size: int, folder: Path) -> Plain | Ours:
    if name == PLAIN:
        return Plain(options, batch_size)
    fast = [f"hardware={HARDWARE}"] if name == FAST else []
    return Ours(configuration(options, batch_size, *fast), folder)


def turn_of(part: str, side: Plain | Ours, options: argparse.Namespace) -> Callable[[Any], tuple[float, float, int]]:
    """Return what a process does in its turn: it says its images/s, mean loss and peak memory.

    Of a loader, the time until its first batch counts; how its workers end does not.
    """
    held = list(islice(side.batches(), HELD)) if part == STEP else []
    count = options.loader_batches if part == LOADER else options.updates
    take = (lambda batch: None) if part == LOADER else side.update

    def turn(_: Any) -> tuple[float, float, int]:
        images, batches = 0, side.batches()
        begin = time.perf_counter()
        for batch in islice(cycle(held) if held else batches, count):
            take(batch)
            images += side.size(batch)
        loss = side.finish()
        rate = images / (time.perf_counter() - begin)
        del batches  # and with it the workers
        return rate, loss, peak_memory(torch.device(HARDWARE))

    return turn


def share_of(options: argparse.Namespace, folder: Path) -> Callable[[Any], dict[str, float]]:
    """Return what a process does to find Lookahead's own work in an update of a model, alone or with others."""
    overrides = [f"hardware={options.device}", f"runtime.device={options.device}"]
    config = configuration(options, options.batch_size, *overrides, model=options.only)
    trainer = started(config, folder, options.processes)
    held = list(islice(trainer.parts.task.updates(0, 0, trainer.share), HELD))

    def answer(loops: int) -> dict[str, float]:
        return vars(own_work(trainer, cycle(held), loops))

    return answer


def work(options: argparse.Namespace) -> None:
    """Do what the parent asks of one process."""
    with tempfile.TemporaryDirectory() as folder:
        if options.part == SHARE:
            with joined(launch(), torch.device(options.device), 600.0) as options.processes:
                serve(share_of(options, Path(folder)))
            return
        batch_size = options.loader_batch_size if options.part == LOADER else options.batch_size
        serve(turn_of(options.part, candidate(options.only, options, batch_size, Path(folder)), options))


def measure(part: str, pictures: str, names: tuple[str, ...], arguments: list[str], rounds: int) -> list[Case]:
    """Measure candidates in turns; the first round warms up."""
    cases = [Case(part, pictures, name) for name in names]
    return measured(
        __file__,
        [*arguments, "--part", part],
        cases,
        rounds,
        lambda n, case, rate: f"{part}, {pictures}, round {n}: {case.name}: {rate:,.1f} images/s",
    )


def measure_share(model: str, count: int, options: argparse.Namespace, arguments: list[str]) -> Share:
    """Find Lookahead's own work in an update of `count` processes, of which the slowest counts.

    Where there are fewer GPUs they are processes on the CPU, with batches for it.
    """
    device, batch_size, loops = HARDWARE, options.batch_size, options.share_loops
    if device == "cuda" and count > torch.cuda.device_count():
        device = "cpu"
        batch_size, loops = min(batch_size, ON_CPU["batch_size"]), min(loops, ON_CPU["share_loops"])
    threads = max(1, (options.threads or torch.get_num_threads()) // count)
    command = [*arguments, "--part", SHARE, "--only", model, "--device", device]
    command += ["--threads", str(threads), "--batch-size", str(batch_size)]
    port = str(free_port())
    with contextlib.ExitStack() as stack:
        workers = []
        for rank in range(count):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment = {**os.environ, **meeting, **{key: str(value) for key, value in place.items()}}
            workers.append(stack.enter_context(Worker(__file__, command, environment)))
        for worker in workers:
            worker.ask(loops)
        case = {"model": model, "processes": count, "device": device, "batch_size": batch_size}
        found = [Share(**case, **worker.answer()) for worker in workers]
    slowest = max(found, key=lambda share: share.percent)
    print(slowest.sentence(), flush=True)
    return slowest


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = partial(whole_number, least=1)
    found.add_argument("--model", default="resnet50", choices=["resnet50", "resnet152"])
    found.add_argument("--size", type=number, default=224, help="pixels of a crop")
    usual = ON_GPU if GPU else ON_CPU
    found.add_argument("--batch-size", type=number, default=usual["batch_size"], help="of an update")
    found.add_argument("--updates", type=number, default=usual["updates"], help="in a turn")
    found.add_argument("--loader-batch-size", type=number, default=usual["loader_batch_size"])
    found.add_argument("--loader-batches", type=number, default=usual["loader_batches"], help="in a turn")
    found.add_argument("--share-loops", type=number, default=usual["share_loops"], help="of k updates")
    found.add_argument("--rounds", type=number, default=5)
    found.add_argument("--workers", type=partial(whole_number, least=0), default=usual_workers())
    found.add_argument("--threads", type=number, help="of torch on the CPU")
    found.add_argument("--data-dir", default=str(REPOSITORY / "data"), help="where photographs may be")
    found.add_argument("--out", type=Path, help=f"folder of the report; {RESULTS} for a full run, else none")
    for name in ("--part", "--only", "--device"):
        found.add_argument(name, help=argparse.SUPPRESS)
    found.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    return found


def main(given: list[str]) -> None:
    load = os.getloadavg()[0]  # of others: nothing has run yet
    options = parser().parse_args(given)
    if options.part:
        work(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        cases, shares = measure_all(options, given, Path(folder))
    folder = options.out or (RESULTS if options == parser().parse_args([]) else None)
    notes = "\n".join([f"{method(options, load)}\n", *(f"- {line}" for line in findings(cases, shares))])
    show_report("imagenet", TITLE, rows_of(cases), notes, folder, options, load, [*cases, *shares])


def measure_all(options: argparse.Namespace, given: list[str], folder: Path) -> tuple[list[Case], list[Share]]:
    """Measure every part on every kind of pictures that there is; what trains, on the first kind."""
    pictures = photographs(Path(options.data_dir)) or {MADE: write_made(folder / "made")}
    most = max(options.loader_batch_size * options.loader_batches, options.batch_size * options.updates)
    cases, commands = [], []
    for number, (name, files) in enumerate(pictures.items()):
        root = lay_out(folder / f"images{number}", files, max(most, HELD * options.batch_size, CLASSES), CLASSES)
        commands.append([*given, "--root", str(root)])
        cases += measure(LOADER, name, (PLAIN, FAST), commands[-1], options.rounds)
    first = next(iter(pictures))
    cases += measure(STEP, first, (PLAIN, OURS, FAST), commands[0], options.rounds)
    cases += measure(LOOP, first, (PLAIN, FAST), commands[0], options.rounds)
    models = [options.model, *(["resnet152"] if GPU and options.model != "resnet152" else [])]
    alone = [measure_share(model, 1, options, commands[0]) for model in models]
    return cases, [*alone, measure_share(options.model, 2, options, commands[0])]


if __name__ == "__main__":
    main(sys.argv[1:])
