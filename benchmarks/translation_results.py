"""From the rates of benchmarks/translation.py to its table and to what is said of its goals."""

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
TITLE = "Training and decoding with the Transformer"
PLAIN, OURS, FAST = "training, plain, float32", "training, ours, float32", f"training, ours, hardware={HARDWARE}"
PLAIN_BF16 = "training, plain, bf16"
PLAIN_DECODING, DECODING = "decoding, plain", "decoding, ours"
TRAINING = (PLAIN, OURS, *((PLAIN_BF16,) if GPU else ()), FAST)
CANDIDATES = (*TRAINING, PLAIN_DECODING, DECODING)
# What each of ours is compared with: in the same precision.
PEERS = {OURS: PLAIN, FAST: PLAIN_BF16 if GPU else PLAIN, DECODING: PLAIN_DECODING}
GOALS = {OURS: 1.5, FAST: 1.5, DECODING: 5.0}
RATE_GOAL = 250_000  # target tokens/s in training the base size in bf16 on one H100


@dataclass
class Case(Turns):
    """Target tokens/s of training, or sentences/s of decoding, of one candidate, one rate per round.

    `losses` has a turn's mean loss or, of decoding, the mean tokens of a translation; `memory` is the peak in bytes.
    """

    name: str
    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    memory: int = 0

    @property
    def unit(self) -> str:
        return "sentences/s" if self.name in (PLAIN_DECODING, DECODING) else "target tokens/s"


@dataclass(frozen=True)
class Agreement:
    """What both make of the same weights, without dropout.

    Their losses of the same pairs; how far the gradients of the embeddings are apart, of their norm; how many of the
    `sentences` both translate alike; and what share of a batch's positions of targets are tokens, the rest padding.
    """

    plain_loss: float
    our_loss: float
    gradients: float
    alike: int
    sentences: int
    plain_filled: float
    our_filled: float

    @property
    def apart(self) -> float:
        """Return the larger of both relative differences; infinite where one is not a number."""
        distances = (abs(self.plain_loss - self.our_loss) / abs(self.plain_loss), self.gradients)
        return max(d if d == d else float("inf") for d in distances)


def rows_of(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Return the rows of the table, one per candidate."""
    return [
        {
            "candidate": case.name,
            "median": statistics.median(case.rates),
            "lowest": min(case.rates),
            "highest": max(case.rates),
            "unit": case.unit,
            "times plain": f"{statistics.median(case.ratios(peer_of(case, cases, PEERS))):.2f}",
            "peak memory (MiB)": case.memory / 2**20,
        }
        for case in cases
    ]


def findings(cases: Sequence[Case], agreement: Agreement) -> list[str]:
    """Say that the same is computed, and whether the goals are met, one sentence each."""
    found = [
        f"Without dropout, from the same weights, the losses of the same pairs are {agreement.plain_loss:.6f} (plain) "
        f"and {agreement.our_loss:.6f}, and the embeddings' gradients {agreement.gradients:.1e} of their norm apart.",
        f"{agreement.alike} of {agreement.sentences} sentences are translated alike.",
        f"Of the positions in targets {agreement.plain_filled:.0%} hold tokens in the plain batches, and "
        f"{agreement.our_filled:.0%} in ours; the rest is padding.",
    ]
    for case in cases:
        if case.name not in PEERS:
            continue
        plain = peer_of(case, cases, PEERS)
        found.append(f"{case.name}: {case.against(plain, GOALS[case.name])}")
    if GPU:
        rate = statistics.median(next(case for case in cases if case.name == FAST).rates)
        found.append(
            f"{FAST}: {rate:,.0f} target tokens/s. The goal of at least {RATE_GOAL:,} at base size on one H100 is "
            f"{met(rate >= RATE_GOAL)}."
        )
    return found


def method(options: argparse.Namespace, load: float) -> str:
    """Say how the numbers were made."""
    return (
        f"The model {options.model} with {options.vocabulary:,} subwords, on pairs made in code whose median length is "
        f"{options.length} tokens (deviation of its logarithm {options.spread}). A turn is {options.updates} updates, "
        f"or the translation of {options.sentences} sentences; medians of {options.rounds} rounds after one to warm "
        "up, each candidate in a process of its own. Times plain: the median of the rounds' ratios. Target tokens are "
        "those of sentences; padding is not counted. Training, plain: torch.nn.Transformer with norms first and the "
        "same dropout, batches of random sentences, padded, with about as many tokens of target as an update of ours "
        "has positions; F.cross_entropy of all logits, torch's default Adam, and each update reads its loss. Ours: the "
        f"engine's updates of task={options.task} with optim=la_adam, Lookahead included, packed rows of "
        f"{options.row_tokens} tokens, {options.batch_size:,} positions per update; configs/hardware/{HARDWARE}.yaml "
        f"says what hardware={HARDWARE} sets. Float32 is without TF32. Decoding, in float32: beam {options.beam}, "
        f"length penalty {options.length_penalty}, weights of ours after {options.learned} updates, the same batches "
        "of sentences of like length for both. The plain search is as batched as ours, has no cache and runs the "
        "decoder over all prefixes at each step. Peak memory: the device's, or without one the process's. "
        f"{circumstances(options, load)}"
    )
