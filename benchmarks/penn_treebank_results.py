"""From the rates of benchmarks/penn_treebank.py to its table and to what is said of its goals."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.report import circumstances, met
from benchmarks.turns import Turns, peer_of

GPU = torch.cuda.is_available()
HARDWARE = "cuda" if GPU else "cpu"
TITLE = "Training AWD-LSTM on Penn Treebank"
PLAIN, OURS, FAST = "plain, float32", "ours, float32", f"ours, hardware={HARDWARE}"
PLAIN_TF32, TF32 = "plain, TF32", "ours, TF32"
CANDIDATES = (PLAIN, OURS, FAST, *((PLAIN_TF32, TF32) if GPU else ()))
PEERS = {OURS: PLAIN, FAST: PLAIN, TF32: PLAIN_TF32}  # what each of ours is compared with
GOALS = {OURS: 1.5, TF32: 1.5, FAST: 2.0} if GPU else {OURS: 1.0, FAST: 1.0}  # on a CPU the layers' own kernel decides
EPOCH_TOKENS = (929_589 // 80 - 1) * 80  # that are predicted in an epoch of Penn Treebank in 80 columns
EPOCH_GOAL = 4.0  # seconds on one H100


@dataclass
class Case(Turns):
    """Tokens/s of one candidate, one rate per round, the losses of its turns, and its peak memory in bytes."""

    name: str
    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    memory: int = 0


@dataclass(frozen=True)
class Agreement:
    """Losses of updates from the same weights, without dropout."""

    plain: list[float]
    ours: list[float]

    @property
    def apart(self) -> float:
        """Return the largest relative difference; infinite where a loss is not a number."""
        distances = [abs(a - b) / abs(a) for a, b in zip(self.plain, self.ours, strict=True)]
        return max(d if d == d else float("inf") for d in distances)


def rows_of(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Return the rows of the table, one per candidate."""
    return [
        {
            "candidate": case.name,
            "tokens/s (median)": statistics.median(case.rates),
            "lowest": min(case.rates),
            "highest": max(case.rates),
            "times plain": f"{statistics.median(case.ratios(peer_of(case, cases, PEERS))):.2f}",
            "seconds per epoch": f"{EPOCH_TOKENS / statistics.median(case.rates):,.1f}",
            "peak memory (MiB)": case.memory / 2**20,
        }
        for case in cases
    ]


def findings(cases: Sequence[Case], agreement: Agreement) -> list[str]:
    """Say that the same is computed, and whether the goals are met, one sentence each."""
    found = [
        f"Without dropout, from the same weights, the losses of {len(agreement.plain)} updates are at most "
        f"{agreement.apart:.1e} apart."
    ]
    ours = [case for case in cases if case.name in PEERS]
    for case in ours:
        plain = peer_of(case, cases, PEERS)
        found.append(f"{case.name}: {case.against(plain, GOALS[case.name])}")
        found.append(
            f"{case.name}: peak memory {case.memory / 2**20:,.0f} MiB to {plain.memory / 2**20:,.0f} of {plain.name}. "
            f"The goal of no more is {met(case.memory <= plain.memory)}."
        )
    if GPU:
        seconds = EPOCH_TOKENS / statistics.median(next(case for case in ours if case.name == FAST).rates)
        found.append(
            f"{FAST}: an epoch of Penn Treebank would take {seconds:.1f} s. The goal of at most {EPOCH_GOAL:.0f} s on "
            f"one H100 is {met(seconds <= EPOCH_GOAL)}."
        )
    return found


def method(options: argparse.Namespace, load: float) -> str:
    """Say how the numbers were made."""
    return (
        f"The model {options.model} on a text made in code of {options.vocabulary:,} words; batches of "
        f"{options.batch_size} columns, lengths drawn around {options.bptt} as in training, the same for all "
        f"candidates. A turn is {options.updates} updates; medians of {options.rounds} rounds after one to warm up, "
        f"each candidate in a process of its own. Times plain: the median of the rounds' ratios. Plain: dropped "
        f"weights are registered anew before each pass, dropped words are a mask of the whole embedding matrix, "
        f"torch's default Adam, and each update reads its loss. Ours: the engine's updates of task=ptb with "
        f"optim=la_adam, Lookahead included; configs/hardware/{HARDWARE}.yaml says what hardware={HARDWARE} sets"
        f"{', and in its bf16 the LSTM layers are in TF32' if GPU else ''}. Float32 is without TF32. "
        f"Seconds per epoch: for the {EPOCH_TOKENS:,} tokens of Penn Treebank in 80 columns, by the median rate. "
        "Peak memory: the device's, or without one the process's. "
        f"{circumstances(options, load)}"
    )
