"""Images a second of this repository's training loop, against a plain faithful loop, in one run.

The plain loop is what public code of the paper's time does: torchvision transforms in a DataLoader, eager
float32, `.item()` of the loss on each update. Both train the same model on the same random uint8 images with the
same optimizer and batch size, in turns, each in a process of its own; evaluation is in neither. The digits, whose
network is tiny, are measured too: what is fast for CIFAR must not be slow there. So are four runs at once. Run
`python benchmarks/training.py` on an idle machine (about 5 minutes on two cores). Writes
results/benchmarks/training.{md,json}.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from benchmarks.input_pipeline import PilImages
from benchmarks.report import RESULTS, circumstances, write_report
from benchmarks.trainers import Worker, cifar_configuration, quiet, serve, started
from experiments.engine.launch import launch
from experiments.engine.parts import build
from experiments.engine.provenance import peak_memory
from experiments.engine.run import prepare
from experiments.vision.datasets import synthetic

HARDWARE = "cuda" if torch.cuda.is_available() else "cpu"
OURS, FAST = "ours, float32", f"ours, hardware={HARDWARE}"
DIGITS, FAST_DIGITS = f"digits: {OURS}", f"digits: {FAST}"
DIGITS_IMAGES = 1437
COUNT = 4
AT_ONCE = f"{FAST}, {COUNT} runs at once"


def configuration(options: argparse.Namespace, *overrides: str) -> DictConfig:
    sizes = [f"batch_size={options.batch_size}", f"optim={options.optim}"]
    threads = [] if options.threads is None else [f"runtime.threads={options.threads}"]
    return cifar_configuration(options.model, options.images, *sizes, *threads, *overrides)


def digits_configuration(options: argparse.Namespace, *overrides: str) -> DictConfig:
    threads = [] if options.threads is None else [f"runtime.threads={options.threads}"]
    return quiet("task=digits", f"optim={options.optim}", *threads, *overrides)


def our_epochs(config: DictConfig, folder: Path) -> Callable[[], float]:
    """Return a function that trains one epoch by the engine's loop and returns its mean loss."""
    trainer = started(config, folder)
    epoch = 0

    def one() -> float:
        nonlocal epoch
        trainer.updater.restart()
        for update in trainer.parts.task.updates(epoch, 0, trainer.share):
            trainer.update(update)
        epoch += 1
        trainer.read_loss()
        return trainer.running_loss

    return one


def plain_epochs(config: DictConfig, workers: int) -> Callable[[], float]:
    """Return a function that trains one epoch by a plain loop and returns its mean loss."""
    config = OmegaConf.merge(config, {"optim": {"optimizer": {"fused": False}}})
    device = prepare(config, launch())
    parts = build(config, device)  # the model and the optimizer; its data are not used
    model, optimizer = parts.task.model, parts.optimizer
    data = synthetic(None, config.task.dataset.train_subset, 1, classes=config.task.num_classes)
    images = data.train_images.permute(0, 2, 3, 1).contiguous().numpy()
    loader = DataLoader(
        PilImages(images, data.train_labels.tolist()),
        batch_size=config.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )

    def one() -> float:
        total = 0.0
        model.train()
        for inputs, targets in loader:
            inputs, targets = inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(targets)
        return total / len(data.train_labels)

    return one


def loops_of(options: argparse.Namespace, folder: Path) -> dict[str, Callable[[], Callable[[], float]]]:
    """Return, by name, a function that makes each loop."""
    fast = f"hardware={HARDWARE}"
    loops = {
        OURS: lambda: our_epochs(configuration(options), folder),
        FAST: lambda: our_epochs(configuration(options, fast), folder),
    }
    for workers in (options.workers, 0):
        name = f"plain, float32, workers: {workers}"
        loops[name] = lambda workers=workers: plain_epochs(configuration(options), workers)
    # Each has its share of the cores: with more threads than cores they would wait for each other.
    share = f"runtime.threads={options.threads or max(1, torch.get_num_threads() // COUNT)}"
    loops[AT_ONCE] = lambda: our_epochs(configuration(options, fast, share), folder)
    loops[DIGITS] = lambda: our_epochs(digits_configuration(options), folder)
    loops[FAST_DIGITS] = lambda: our_epochs(digits_configuration(options, fast), folder)
    return loops


def processes_of(name: str) -> int:
    return COUNT if name == AT_ONCE else 1


def images_of(name: str, options: argparse.Namespace) -> int:
    return DIGITS_IMAGES if name in (DIGITS, FAST_DIGITS) else options.images


def answer_with_epoch(
    name: str, options: argparse.Namespace, folder: Path
) -> Callable[[Any], tuple[float, float, int]]:
    """Return what a process of a loop does: it trains an epoch and says its images/s, mean loss and peak memory."""
    one = loops_of(options, folder)[name]()

    def answer(_: Any) -> tuple[float, float, int]:
        begin = time.perf_counter()
        loss = one()  # reading the loss waits for the device
        return images_of(name, options) / (time.perf_counter() - begin), loss, peak_memory(torch.device(HARDWARE))

    return answer


def measure(names: list[str], arguments: list[str], rounds: int) -> tuple[dict, dict, dict]:
    """Run the loops in turns, an epoch each; return rates (images/s) and mean losses of each round, and memory.

    Rates and memory of runs at once are those of all of them together, losses those of the first.
    """
    rates: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        workers = {
            name: [
                stack.enter_context(Worker(__file__, [*arguments, "--only", name])) for _ in range(processes_of(name))
            ]
            for name in names
        }
        for number in range(rounds + 1):  # round 0 warms up: threads, workers, compilation
            for name in names:
                for worker in workers[name]:
                    worker.ask()
                found = [worker.answer() for worker in workers[name]]
                rate, memory[name] = sum(one[0] for one in found), sum(one[2] for one in found)
                print(f"round {number}: {name}: {rate:,.0f} images/s, loss {found[0][1]:.3f}", flush=True)
                losses[name].append(found[0][1])
                if number > 0:
                    rates[name].append(rate)
    return rates, losses, memory


def parsed(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    cuda = HARDWARE == "cuda"
    parser.add_argument("--model", default="resnet18" if cuda else "resnet8")
    parser.add_argument("--images", type=int, default=50_000 if cuda else 5_120)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--optim", default="la_sgd")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the report")
    parser.add_argument("--only", metavar="LOOP", help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main(given: list[str]) -> None:
    options = parsed(given)
    load = os.getloadavg()[0]  # of others: nothing has run yet
    with tempfile.TemporaryDirectory() as folder:
        if options.only:
            serve(answer_with_epoch(options.only, options, Path(folder)))
            return
        names = list(loops_of(options, Path(folder)))
        rates, losses, memory = measure(names, given, options.rounds)
    report(rates, losses, memory, load, options)


def report(rates: dict, losses: dict, memory: dict, load: float, options: argparse.Namespace) -> None:
    """Write the medians, their spread, the memory, and the ratios to the faster plain loop and to ours in float32."""
    medians = {name: statistics.median(values) for name, values in rates.items()}
    plain = max(rate for name, rate in medians.items() if name.startswith("plain"))
    rows = []
    for name, values in rates.items():
        digits = name.startswith("digits")
        rows.append(
            {
                "loop": name,
                "images/s (median)": medians[name],
                "lowest": min(values),
                "highest": max(values),
                "s per epoch": (DIGITS_IMAGES if digits else 50_000) / medians[name],
                "peak memory (MiB)": memory[name] / 2**20,
                "times plain": "" if digits else f"{medians[name] / plain:.2f}",
                "times ours, float32 (of the highest)": f"{max(values) / max(rates[DIGITS if digits else OURS]):.2f}",
            }
        )
    notes = (
        f"{options.model} on {options.images:,} synthetic images of 3x32x32, optim={options.optim}, batch "
        f"{options.batch_size}; digits: its own network, all {DIGITS_IMAGES:,} images of 1x8x8, batch 32. A round is "
        f"an epoch of each loop in turn, each in a process of its own, medians of {options.rounds} after one to warm "
        f"up. Ours: the updates of `Trainer.update`, fused inner optimizer; configs/hardware/{HARDWARE}.yaml says "
        f"what hardware={HARDWARE} sets. Runs at once are {COUNT} such processes, on a CPU with a share of its cores "
        f"each; their rates and memory are added up. Plain: torch's default inner optimizer, persistent workers. No "
        f"evaluation in any. An epoch is 50,000 images, of the digits {DIGITS_IMAGES:,}. Times plain: to the faster "
        "plain loop. Peak memory: the device's, or without one the process's (workers not counted). "
        f"{circumstances(options, load)}"
    )
    details = {"options": {**vars(options), "out": None}, "rates": rates, "losses": losses, "load_at_start": load}
    print(write_report("training", "Training loop", rows, notes, options.out, **details).read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
