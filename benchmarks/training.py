"""Images a second of this repository's training loop, against a plain faithful loop, in one run.

The plain loop is what public code of the paper's time does: torchvision transforms in a DataLoader, eager
float32, `.item()` of the loss on each update. Both train the same model on the same random uint8 images with the
same optimizer and batch size, in turns; evaluation is in neither. Run `python benchmarks/training.py` on an idle
machine (about 3 minutes on two cores). Writes results/benchmarks/training.{md,json}.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from benchmarks.input_pipeline import PilImages
from benchmarks.report import write_report
from experiments.engine.composition import composed
from experiments.engine.configuration import choose_device
from experiments.engine.interruption import Interruption
from experiments.engine.loop import Trainer
from experiments.engine.parts import build
from experiments.engine.records import peak_memory
from experiments.engine.tracker import NoTracker
from experiments.vision.datasets import synthetic

FAST = ("precision=bf16", "runtime.channels_last=true", "runtime.compile=reduce-overhead")


def configuration(options: argparse.Namespace, *overrides: str) -> DictConfig:
    config = composed(
        "train",
        [
            "task=cifar100",
            f"optim={options.optim}",
            f"model={options.model}",
            "scale=smoke",
            f"batch_size={options.batch_size}",
            f"task.dataset.train_subset={options.images}",
            "runtime.progress=none",
            "tracker=none",
            *overrides,
        ],
    )
    OmegaConf.resolve(config)
    return config


def our_epochs(config: DictConfig, device: torch.device, folder: Path) -> Callable[[], float]:
    """Return a function that trains one epoch by the engine's loop and returns its mean loss."""
    parts = build(config, device)
    trainer = Trainer(config, parts, device, folder, NoTracker(), Interruption())
    trainer.start_clock()
    parts.task.model.train()
    epoch = 0

    def one() -> float:
        nonlocal epoch
        trainer.updater.restart()
        for update in parts.task.updates(epoch, 0, trainer.share):
            trainer.update(update)
        epoch += 1
        trainer.read_loss()
        return trainer.running_loss

    return one


def plain_epochs(config: DictConfig, device: torch.device, workers: int) -> Callable[[], float]:
    """Return a function that trains one epoch by a plain loop and returns its mean loss."""
    config = OmegaConf.merge(config, {"optim": {"optimizer": {"fused": False}}})
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


def loops_of(options: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, Callable]:
    """Return, by name, a function that makes each loop: made one by one, so that memory can be told apart."""
    loops = {"ours, float32": lambda: our_epochs(configuration(options), device, folder)}
    if device.type == "cuda":
        loops["ours, bf16, channels_last, compiled"] = lambda: our_epochs(configuration(options, *FAST), device, folder)
    for workers in (options.workers, 0):
        name = f"plain, float32, workers: {workers}"
        loops[name] = lambda workers=workers: plain_epochs(configuration(options), device, workers)
    return loops


def measure(loops: dict[str, Callable[[], float]], options: argparse.Namespace, device: torch.device) -> tuple:
    """Run the loops in turns, an epoch each; return their rates (images/s) and mean losses, a number a round."""
    rates: dict[str, list[float]] = {name: [] for name in loops}
    losses: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(options.rounds + 1):  # round 0 warms up: threads, workers, compilation
        for name, one in loops.items():
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            begin = time.perf_counter()
            loss = one()  # reading the loss waits for the device
            rate = options.images / (time.perf_counter() - begin)
            print(f"round {number}: {name}: {rate:,.0f} images/s, loss {loss:.3f}", flush=True)
            losses[name].append(loss)
            if number > 0:
                rates[name].append(rate)
    return rates, losses


def memory_alone(name: str, arguments: list[str]) -> int:
    """Return the peak memory in bytes of one loop that runs two epochs in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--only", name]
    return int(subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    cuda = torch.cuda.is_available()
    parser.add_argument("--model", default="resnet18" if cuda else "resnet8")
    parser.add_argument("--images", type=int, default=50_000 if cuda else 5_120)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--optim", default="la_sgd")
    parser.add_argument("--only", metavar="LOOP", help="run two epochs of one loop and print its peak memory in bytes")
    options = parser.parse_args()

    load = os.getloadavg()[0]  # of others: nothing has run yet
    device = choose_device("auto")
    torch.backends.cudnn.benchmark = True  # as experiments.engine.run and the public code do
    with tempfile.TemporaryDirectory() as folder:
        makers = loops_of(options, device, Path(folder))
        if options.only:
            one = makers[options.only]()
            one(), one()
            print(peak_memory(device))
            return
        memory = {name: memory_alone(name, sys.argv[1:]) for name in makers}
        rates, losses = measure({name: make() for name, make in makers.items()}, options, device)
    report(rates, losses, memory, load, options)


def report(rates: dict, losses: dict, memory: dict, load: float, options: argparse.Namespace) -> None:
    """Write the medians, their spread, the memory, and the ratio to the faster plain loop's median."""
    medians = {name: statistics.median(values) for name, values in rates.items()}
    baseline = max(rate for name, rate in medians.items() if name.startswith("plain"))
    rows = [
        {
            "loop": name,
            "images/s (median)": medians[name],
            "lowest": min(values),
            "highest": max(values),
            "s an epoch of 50,000": 50_000 / medians[name],
            "peak memory (MiB)": memory[name] / 2**20,
            "ratio": medians[name] / baseline,
        }
        for name, values in rates.items()
    ]
    notes = (
        f"{options.model} on {options.images:,} synthetic images of 3x32x32, optim={options.optim}, batch "
        f"{options.batch_size}; a round is an epoch of each loop in turn, medians of {options.rounds} after one to "
        f"warm up. Ours: the updates of `Trainer.update`, fused inner optimizer; compiled rows: {FAST[2]}. Plain: "
        f"torch's default inner optimizer, persistent workers. No evaluation in either. Ratio to the faster plain "
        f"loop. Peak memory: the device's, or without one the process's (workers not counted), each loop in a process "
        f"of its own. Threads: {torch.get_num_threads()}. Load average of other programs at the start: {load:.2f}."
    )
    details = {"options": vars(options), "rates": rates, "losses": losses, "load_at_start": load}
    print(write_report("training", "Training loop", rows, notes, **details).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
