"""Images a second of this repository's CIFAR input pipeline, against torchvision transforms in a DataLoader.

Both crop, flip and normalize the same random uint8 images of CIFAR's shape into float32 batches, in turns, in
one process. Run `python benchmarks/input_pipeline.py`; about a minute on two idle cores. Writes
results/benchmarks/input_pipeline.{md,json}.

Run it on an idle machine. The threads of one operation wait for each other, so where other programs hold the
cores, two threads are far slower than one: at a load average of 2 on two cores they gave 7,000 to 90,000 images
a second, against 240,000 to 420,000 with one thread (and 2,000 to 4,000 with torchvision).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from benchmarks.report import write_report
from experiments.vision.augment import RandomCropFlip, draw_epoch
from experiments.vision.datasets import CIFAR_MEAN, CIFAR_STD

PADDING = 4


class PilImages(Dataset):
    """Images uint8 [N, H, W, C] with labels, served one by one as torchvision's CIFAR10 does."""

    def __init__(self, images: np.ndarray, labels: list[int]) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[1], padding=PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(CIFAR_MEAN, CIFAR_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class Batched:
    """One epoch of our pipeline each time it is iterated: the draws of the epoch are part of the work."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int) -> None:
        self.augment = RandomCropFlip(images, PADDING, True, CIFAR_MEAN, CIFAR_STD)
        self.labels, self.batch_size, self.epoch = labels, batch_size, 0

    def __iter__(self):
        draws = draw_epoch(0, self.epoch, len(self.labels), PADDING, True)
        self.epoch += 1
        starts, labels = self.augment.starts(draws), self.labels[draws.order]
        for part, targets in zip(starts.split(self.batch_size), labels.split(self.batch_size), strict=True):
            yield self.augment(part), targets


def images_per_second(epochs: int, pipeline: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the rate over `epochs` passes, their starts included; workers outlive a pass."""
    count, begin = 0, time.perf_counter()
    for _ in range(epochs):
        for inputs, _ in pipeline:
            assert inputs.dtype == torch.float32
            count += len(inputs)
    return count / (time.perf_counter() - begin)


def pipelines(options: argparse.Namespace) -> tuple[Batched, DataLoader]:
    """Return our pipeline and torchvision's over the same random images and labels."""
    generator = torch.Generator().manual_seed(0)
    shape = (options.images, 3, 32, 32)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 100, (options.images,), generator=generator)
    theirs = DataLoader(
        PilImages(images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()),
        batch_size=options.batch_size,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    return Batched(images, labels, options.batch_size), theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--our-epochs", type=int, default=5, help="epochs a round; torchvision's does one")
    options = parser.parse_args()

    load = os.getloadavg()[0]  # of others: nothing has run yet
    ours, theirs = pipelines(options)
    threads = torch.get_num_threads()
    turns = {f"batched crop and flip, threads: {n}": (n, options.our_epochs, ours) for n in {1, threads}}
    baseline = f"torchvision transforms in a DataLoader, workers: {options.workers}"
    turns[baseline] = (threads, 1, theirs)
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(options.rounds + 1):  # round 0 warms up
        for name, (count, epochs, pipeline) in turns.items():
            torch.set_num_threads(count)
            rate = images_per_second(epochs, pipeline)
            print(f"round {number}: {name}: {rate:,.0f} images/s", flush=True)
            if number > 0:
                rates[name].append(rate)
    report(rates, baseline, load, options)


def report(rates: dict[str, list[float]], baseline: str, load: float, options: argparse.Namespace) -> None:
    """Write the medians, their spread, and their ratio to the baseline's median."""
    medians = {name: statistics.median(values) for name, values in rates.items()}
    rows = [
        {
            "pipeline": name,
            "images/s (median)": medians[name],
            "lowest": min(values),
            "highest": max(values),
            "ratio": medians[name] / medians[baseline],
        }
        for name, values in rates.items()
    ]
    notes = (
        f"RandomCrop(32, padding={PADDING}), RandomHorizontalFlip, ToTensor and Normalize on "
        f"{options.images:,} random images of 3x32x32 in memory, float32 batches of {options.batch_size}, "
        f"on the CPU; medians of {options.rounds} rounds in turns after one to warm up. "
        f"torchvision {torchvision.__version__}. Load average of other programs at the start: {load:.2f}."
    )
    details = {"rates": rates, "options": vars(options), "load_at_start": load}
    print(write_report("input_pipeline", "Input pipeline", rows, notes, **details).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
