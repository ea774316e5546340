"""What Lookahead, ours and others', adds to a step's time on the host, whatever the tensors' size.

On a GPU the host has to queue the kernels before the device has done with those before: time of the host that a step
adds is time lost where that binds. Here tensors are so small (64 elements) that nothing else is left, on one thread.
All variants step the same parameters. Where their own tensors come to lie in memory moves a step by some per cent for
as long as they live, which is more than what is measured: so parameters and optimizers are made anew many times, in an
order drawn anew, and each time counts once, by its median. A round times an inner loop of every variant, step by step,
also in an order drawn anew.

Run `make bench-optimizer`, on an idle machine (this part takes three minutes). Writes
results/benchmarks/host_time.{md,json}; a partial run only prints its table, unless given --out.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from benchmarks.optimizer import INNERS, OUTER_MOMENTUM, PEERS, Wrap, interleaved, parameters, random_like, variants
from benchmarks.optimizer_results import (
    ALONE,
    FUSED,
    FUSED_MOMENTUM,
    MOMENTUM,
    OURS,
    OWN,
    added_by_place,
    interval_of_added,
)
from benchmarks.report import RESULTS, show_report, whole_number

TITLE = "What Lookahead adds to a step on the host"
MODELS = {62: "ResNet-18", 161: "ResNet-50", 467: "ResNet-152"}  # whose number of tensors it is
ELEMENTS = 64
K = 5
GOAL = 25.0  # microseconds at GOAL_AT tensors, between synchronizations
GOAL_AT = 161
CPU = torch.device("cpu")


@dataclass
class Case:
    """Microseconds of each of K steps, of the medians of all times; one of them synchronizes, and takes longest.

    `added` is over the inner optimizer alone, which takes `alone`; `intervals` are 95 % ones of its mean.
    """

    tensors: int
    alone: list[float]
    added: dict[str, list[float]]
    intervals: dict[str, tuple[float, float]]

    def mean(self, variant: str) -> float:
        return statistics.mean(self.added[variant])

    def between(self, variant: str) -> float:
        return statistics.mean(sorted(self.added[variant])[:-1])


def case_of(tensors: int, seconds: dict[str, list[list[float]]]) -> Case:
    """Return what the seconds of every variant's steps, one list for each time that it was made, come to.

    Each time by itself is compared with the inner optimizer alone: the machine's speed changes from one to the next.
    """
    alone = np.array(seconds[ALONE])
    nothing = np.zeros_like(alone)
    more = {name: np.array(times) - alone for name, times in seconds.items() if name != ALONE}
    return Case(
        tensors,
        [1e6 * value for value in added_by_place(alone, nothing)],
        {name: [1e6 * value for value in added_by_place(times, nothing)] for name, times in more.items()},
        {name: tuple(1e6 * end for end in interval_of_added(times, nothing)) for name, times in more.items()},
    )


def measure(tensors: int, wraps: dict[str, Wrap], times: int, rounds: int) -> Case:
    """Make the parameters and all optimizers so many times, and time so many rounds of them each time."""
    shapes = [torch.Size([ELEMENTS])] * tensors
    names, shuffler = list(wraps), random.Random(0)
    seconds: dict[str, list[list[float]]] = {name: [] for name in wraps}
    for _ in range(times):
        params = parameters(random_like(shapes, 1.0, CPU), random_like(shapes, 1e-3, CPU))
        shuffler.shuffle(names)
        works = {name: (wraps[name](INNERS["sgd"](params), k=K).step, K) for name in names}
        interleaved(works, 2, CPU)  # to warm up; timm's first synchronization does nothing
        for name, steps in interleaved(works, rounds, CPU).items():
            seconds[name].append(np.median(steps, axis=0).tolist())
    return case_of(tensors, seconds)


def rows_of(case: Case) -> list[dict[str, Any]]:
    """Return the case's rows of the table, one per variant."""
    rows = []
    for variant, (low, high) in case.intervals.items():
        rows.append(
            {
                "tensors": case.tensors,
                "as many as": MODELS.get(case.tensors, ""),
                "Lookahead": variant,
                "inner step (µs)": statistics.mean(case.alone),
                "added per step (µs)": case.mean(variant),
                "95 % interval": f"{low:.0f} to {high:.0f}",
                "between synchronizations (µs)": case.between(variant),
                "step that synchronizes (µs)": max(case.added[variant]),
            }
        )
    return rows


def findings(cases: Sequence[Case]) -> list[str]:
    """Say whether the goals are met, a sentence each."""
    found = []
    for case in cases:
        peers = {name: case.mean(name) for name in case.added if name not in OWN}
        if peers:
            best = min(peers, key=peers.__getitem__)
            answer = "yes" if case.mean(OURS) < peers[best] else "no"
            found.append(
                f"{case.tensors} tensors: below every peer, as point estimates: {answer} "
                f"({case.mean(OURS):.0f} µs against {best}'s {peers[best]:.0f})."
            )
        if MOMENTUM in case.added:
            found.append(
                f"{case.tensors} tensors: {MOMENTUM} takes {case.between(MOMENTUM) - case.between(OURS):+.1f} µs over "
                f"{OURS} between synchronizations, where it has nothing to do, and "
                f"{max(case.added[MOMENTUM]) - max(case.added[OURS]):+.0f} µs at one."
            )
        for variant in (OURS, MOMENTUM):
            if case.tensors == GOAL_AT and variant in case.added:
                answer = "yes" if case.between(variant) <= GOAL else "no"
                found.append(
                    f"{case.tensors} tensors: {variant} at most {GOAL:.0f} µs between synchronizations: {answer} "
                    f"({case.between(variant):.0f} µs)."
                )
    return found


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensors", nargs="+", type=partial(whole_number, least=1), default=list(MODELS))
    parser.add_argument("--times", type=partial(whole_number, least=2), default=40)
    parser.add_argument("--rounds", type=partial(whole_number, least=1), default=25, help="each time")
    parser.add_argument("--out", type=Path, help=f"folder of the report; {RESULTS} for a full run, else none")
    return parser


def main(given: list[str] | None = None) -> None:
    parser = arguments()
    options = parser.parse_args(given)
    load = os.getloadavg()[0]  # of others: nothing has run yet
    torch.set_num_threads(1)
    wraps = {
        name: wrap for name, wrap in variants().items() if name not in (FUSED, FUSED_MOMENTUM)
    }  # for large tensors
    cases = [measure(tensors, wraps, options.times, options.rounds) for tensors in options.tensors]
    method = (
        f"Parameters of {ELEMENTS} float32 elements with constant gradients, the same for all variants; the inner "
        f"optimizer is torch's fused SGD with momentum; k = {K}; one thread; outer momentum is {OUTER_MOMENTUM}, "
        f"Nesterov's. Parameters and optimizers were made {options.times} times, as where they lie in memory matters; "
        f"each time {options.rounds} rounds gave a median by place in the loop. Added is the median of what these were "
        f"above the inner optimizer alone, with 95 % bootstrap intervals of the mean over the loop. Load average of "
        f"other programs at the start: {load:.2f}."
    )
    notes = "\n".join([f"{method}\n", *(f"- {line}" for line in findings(cases))])
    full = options == parser.parse_args([]) and wraps.keys() >= PEERS.keys()
    rows = [row for case in cases for row in rows_of(case)]
    show_report("host_time", TITLE, rows, notes, options.out or (RESULTS if full else None), options, load, cases)


if __name__ == "__main__":
    main()
