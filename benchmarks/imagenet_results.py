"""From the rates of benchmarks/imagenet.py to its table and to what is said of its goals."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.own_work import GOAL as SHARE_GOAL
from benchmarks.own_work import OwnWork
from benchmarks.report import circumstances, met
from benchmarks.turns import Turns

CLASSES = 1000
GPU = torch.cuda.is_available()
HARDWARE = "cuda" if GPU else "cpu"
TITLE = "Training on ImageNet"
PLAIN, OURS, FAST = "plain", "ours, float32", f"ours, hardware={HARDWARE}"
LOADER, STEP, LOOP = "loader alone", "update alone", "loader and update"
GOAL = 1.3 if GPU else 1.0  # times the plain update; on a CPU it must not be slower


@dataclass
class Case(Turns):
    """Images/s of one candidate in one part, one rate per round, and the peak memory in bytes."""

    part: str
    pictures: str
    name: str
    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    memory: int = 0


@dataclass(frozen=True)
class Share(OwnWork):
    """Lookahead's own work in an update of a model, in so many processes; `batch_size` is that of all of them."""

    model: str
    processes: int
    device: str
    batch_size: int

    def sentence(self) -> str:
        ways = "in one process" if self.processes == 1 else f"in {self.processes} processes"
        device = self.device.replace("cpu", "CPU")
        return (
            f"Lookahead's share of an update of {self.model}, {ways} on the {device}, batch of "
            f"{self.batch_size}: {self.percent:.2f} % ({1000 * self.seconds:.2f} ms of {1000 * self.update:,.0f}; "
            f"a synchronization takes {1000 * self.synchronizing:.1f}). The goal of under {SHARE_GOAL:.0f} % is "
            f"{met(self.percent < SHARE_GOAL)}."
        )


def plain_of(case: Case, cases: Sequence[Case]) -> Case:
    return next(one for one in cases if (one.part, one.pictures, one.name) == (case.part, case.pictures, PLAIN))


def rows_of(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Return the rows of the table, one per candidate in each part."""
    return [
        {
            "part": case.part,
            "images": case.pictures,
            "candidate": case.name,
            "images/s (median)": statistics.median(case.rates),
            "lowest": min(case.rates),
            "highest": max(case.rates),
            "times plain": f"{statistics.median(case.ratios(plain_of(case, cases))):.2f}",
            "peak memory (MiB)": case.memory / 2**20,
        }
        for case in cases
    ]


def findings(cases: Sequence[Case], shares: Sequence[Share]) -> list[str]:
    """Say whether the goals are met, one sentence each."""
    found = []
    for case in cases:
        if case.name != PLAIN:
            goal = GOAL if case.part == STEP and case.name == FAST else 1.0
            against = case.against(plain_of(case, cases), goal)
            found.append(f"{case.part} ({case.pictures}), {case.name}: {against}")
    return found + [share.sentence() for share in shares]


def method(options: argparse.Namespace, load: float) -> str:
    """Say how the numbers were made."""
    return (
        f"{options.model} with {CLASSES:,} outputs, crops of {options.size} px; batches of {options.batch_size}, of "
        f"the loader alone {options.loader_batch_size}; {options.workers} workers in all. A turn is "
        f"{options.loader_batches} batches of the loader alone, or {options.updates} updates; medians of "
        f"{options.rounds} rounds after one to warm up, each candidate in a process of its own. Times plain: the "
        f"median of the rounds' ratios. Files are in the page cache. Plain: ImageFolder, torchvision's transforms and "
        f"a DataLoader, eager float32 (on a GPU with TF32 in convolutions, as torch's default), torch's default SGD, "
        f"meters of loss and accuracies that read the loss at every update, as pytorch/examples does it. Ours: the "
        f"engine's updates with optim=la_sgd; configs/hardware/{HARDWARE}.yaml says what hardware={HARDWARE} sets. An "
        f"update alone is on batches in memory. Peak memory: the device's, or without one the process's (workers not "
        f"counted). Lookahead's share: what its step does beside the inner optimizer's, a synchronization shared out "
        f"over its k updates, as medians over some inner loops. {circumstances(options, load)}"
    )
