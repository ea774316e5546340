"""From the timings of benchmarks/optimizer.py to added time, its ratio to the limit, the verdicts and the chart."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ALONE, OURS, FUSED = "alone", "ours", "ours, fused"
MOMENTUM, FUSED_MOMENTUM = "ours, outer momentum", "ours, fused, outer momentum"
WITHOUT = {MOMENTUM: OURS, FUSED_MOMENTUM: FUSED}  # the same without outer momentum
OWN = (OURS, FUSED, *WITHOUT)
PASSES = 4  # a synchronization has to read and to write the fast and the slow weights, each once
MOMENTUM_PASSES = 6  # and the momentum buffers
GOAL = 1.15  # times the limit
MORE = 4  # passes, 2 reads and 2 writes, that outer momentum may add to a synchronization

LABELS = {
    "resnet50": "ResNet-50",
    "resnet152": "ResNet-152",
    "awd_lstm": "AWD-LSTM",
    "transformer": "Transformer",
    "sgd": "SGD (momentum 0.9)",
    "adamw": "AdamW",
}
COLORS = {
    OURS: "tab:purple",
    FUSED: "tab:red",
    MOMENTUM: "thistle",
    FUSED_MOMENTUM: "lightsalmon",
    "timm": "tab:blue",
    "pytorch_optimizer": "tab:green",
    "torch_optimizer": "tab:orange",
}


@dataclass
class Case:
    """What was measured of all variants with one model's shapes, one inner optimizer and one k.

    `seconds` holds the time of each of `steps` steps, a list a round, and `streams` the bandwidth (bytes/s) of plain
    kernels, a number a call; `peaks` the peak memory in bytes and `warm_up` the seconds of the first inner loops, a
    number a variant; `traffic` the bytes that an inner loop reads and writes over the inner optimizer alone, where they
    can be counted. A machine that others use is slowed down for moments: medians are therefore of single steps, by
    their place in the loop, as short as the kernels that the limit comes from.
    """

    model: str
    inner: str
    k: int
    parameter_bytes: int
    steps: int
    seconds: dict[str, list[list[float]]]
    streams: dict[str, list[float]]
    peaks: dict[str, int]
    warm_up: dict[str, float]
    traffic: dict[str, tuple[int, int]]

    @property
    def name(self) -> str:
        return f"{LABELS[self.model]}, {LABELS[self.inner]}, k = {self.k}"

    @property
    def bandwidth(self) -> float:
        """Bytes a second of the fastest kernel: the strictest limit."""
        return max(statistics.median(rates) for rates in self.streams.values())

    def limit(self, variant: str = OURS) -> float:
        """Return the seconds a step that moving the weights, and momenta, once, and nothing else, would add."""
        return self.seconds_of(MOMENTUM_PASSES if variant in WITHOUT else PASSES)

    def seconds_of(self, passes: int) -> float:
        """Return the seconds a step that so many passes over the parameters take at each synchronization."""
        return passes * self.parameter_bytes / self.bandwidth / self.k

    def step(self, variant: str) -> float:
        """Return the seconds a step: the mean over the places in the loop of the medians over the rounds."""
        return float(np.median(self.seconds[variant], axis=0).mean())

    def added(self, variant: str) -> float:
        """Return the seconds a step over the inner optimizer alone."""
        return self.step(variant) - self.step(ALONE)

    def ratio(self, variant: str) -> float:
        """Return the added time as a multiple of the limit."""
        return self.added(variant) / self.limit(variant)

    def more(self, variant: str) -> float:
        """Return what outer momentum adds to a step, as a multiple of what 2 reads and 2 writes take."""
        return (self.added(variant) - self.added(WITHOUT[variant])) / self.seconds_of(MORE)

    def interval(self, variant: str) -> tuple[float, float]:
        """Return the 95 % interval around `ratio`, by drawing the rounds anew."""
        low, high = interval_of_added(self.seconds[variant], self.seconds[ALONE])
        return low / self.limit(variant), high / self.limit(variant)

    def added_bytes(self, variant: str) -> int:
        return self.peaks[variant] - self.peaks[ALONE]

    def copies(self, variant: str) -> float:
        """Return the peak memory over that of the inner optimizer alone, in copies of the parameters."""
        return self.added_bytes(variant) / self.parameter_bytes

    def moved(self, variant: str) -> str:
        """Say how often a synchronization reads and writes the memory, in copies of the parameters."""
        if variant not in self.traffic:
            return "not counted"
        return " + ".join(f"{moved / self.parameter_bytes:.2f}" for moved in self.traffic[variant])

    @property
    def peers(self) -> list[str]:
        return [variant for variant in self.seconds if variant != ALONE and variant not in OWN]


def added_by_place(wrapped: list[list[float]], alone: list[list[float]]) -> list[float]:
    """Return the seconds of each step of a loop over the inner optimizer alone, of the medians of all rounds."""
    return (np.median(wrapped, axis=0) - np.median(alone, axis=0)).tolist()


def interval_of_added(wrapped: list[list[float]], alone: list[list[float]]) -> tuple[float, float]:
    """Return the 95 % interval of the mean added seconds, by drawing the rounds anew 1,000 times (bootstrap)."""
    rounds = (np.array(wrapped), np.array(alone))
    drawn = np.random.default_rng(0).integers(len(alone), size=(1000, len(alone)))
    added = (np.median(times[drawn], axis=1).mean(axis=1) for times in rounds)
    low, high = np.percentile(np.subtract(*added), (2.5, 97.5))
    return float(low), float(high)


def rows_of(case: Case) -> list[dict[str, Any]]:
    """Return the case's rows of the table, one a variant."""
    rows = []
    for variant in case.seconds:
        low, high = case.interval(variant)
        rows.append(
            {
                "model": LABELS[case.model],
                "inner": case.inner,
                "k": case.k,
                "Lookahead": "none" if variant == ALONE else variant,
                "ms a step": case.step(variant) * 1e3,
                "added ms a step": case.added(variant) * 1e3,
                "limit, ms a step": case.limit(variant) * 1e3,
                "added / limit": case.ratio(variant),
                "95 % interval": f"{low:.2f} to {high:.2f}",
                "reads + writes": case.moved(variant),
                "peak memory (MiB)": case.peaks[variant] / 2**20,
                "added copies": f"{case.copies(variant):.3f}",
            }
        )
    return rows


def findings(cases: Sequence[Case]) -> list[str]:
    """Say whether the goals are met, how fast each kernel is, and how long compilation takes, a sentence each."""
    found = [verdict(variant, cases) for variant in OWN if variant in cases[0].seconds]
    rates = {name: [rate for case in cases for rate in case.streams[name]] for name in cases[0].streams}
    speeds = ", ".join(f"{name} {statistics.median(values) / 1e9:,.1f}" for name, values in rates.items())
    found.append(f"Bandwidth (GB/s, median of all rounds): {speeds}.")
    for variant in (FUSED, FUSED_MOMENTUM):
        if variant in cases[0].seconds:
            longest = {case.model: max(c.warm_up[variant] for c in cases if c.model == case.model) for case in cases}
            times = ", ".join(f"{LABELS[model]} {time:.1f}" for model, time in longest.items())
            found.append(f"First inner loop of {variant}, which compiles and is in no other number (s): {times}.")
    return found


def verdict(variant: str, cases: Sequence[Case]) -> str:
    """Say in how many cases a form of ours meets each goal, and where it is furthest from it."""
    worst = max(cases, key=lambda case: case.ratio(variant))
    copies = 2 if variant in WITHOUT else 1
    memory = max(cases, key=lambda case: abs(case.added_bytes(variant) - copies * case.parameter_bytes))
    excess = memory.added_bytes(variant) - copies * memory.parameter_bytes
    exact = _tally(cases, lambda case: round(case.copies(variant), 3) == copies)
    return (
        f"{variant}: at most {GOAL} times the limit {_tally(cases, lambda case: case.ratio(variant) <= GOAL)}, "
        f"at worst {worst.ratio(variant):.2f} ({worst.name}); "
        f"{_against_without(variant, cases) if variant in WITHOUT else _against_peers(variant, cases)}; "
        f"added memory {'two copies' if copies == 2 else 'one copy'}, to three decimals {exact}, "
        f"at worst off by {excess:,} bytes ({memory.copies(variant):.6f} copies)."
    )


def _against_without(variant: str, cases: Sequence[Case]) -> str:
    worst = max(cases, key=lambda case: case.more(variant))
    within = _tally(cases, lambda case: case.more(variant) <= 1)
    return (
        f"over {WITHOUT[variant]} at most what 2 reads and 2 writes a synchronization take {within}, at worst "
        f"{worst.more(variant):.2f} times that ({worst.name})"
    )


def _against_peers(variant: str, cases: Sequence[Case]) -> str:
    if not cases[0].peers:
        return "no peer was installed"
    best = [min(case.ratio(peer) for peer in case.peers) for case in cases]
    pairs = list(zip(cases, best, strict=True))
    case, peer = max(pairs, key=lambda pair: pair[0].ratio(variant) - pair[1])
    below = _tally(pairs, lambda pair: pair[0].ratio(variant) < pair[1])
    ratios = f"{case.ratio(variant):.2f} against {peer:.2f} ({case.name})"
    return f"below every peer, as point estimates, {below}, at worst {ratios}"


def _tally(cases: Sequence[Any], holds: Callable[[Any], bool]) -> str:
    met = sum(map(holds, cases))
    answer = "yes" if met == len(cases) else "no" if met == 0 else "not always"
    return f"({answer}: met in {met} of {len(cases)} cases)"


def draw(cases: Sequence[Case], machine: str) -> Figure:
    """Draw the added time of every variant as a multiple of the limit: a panel for each inner optimizer and k."""
    rounds = len(cases[0].seconds[ALONE])
    bandwidth = statistics.median(case.bandwidth for case in cases)
    caption = (
        f"Limit: 2 reads and 2 writes of the parameters, with outer momentum 3 and 3, every k steps at the fastest "
        f"plain kernel's bandwidth, {bandwidth / 1e9:,.1f} GB/s.\nMedians of {rounds} rounds and their 95 % intervals, "
        f"float32. {machine}."
    )
    inners, periods = (list(dict.fromkeys(getattr(case, key) for case in cases)) for key in ("inner", "k"))
    figure, panels = plt.subplots(
        len(inners),
        len(periods),
        figsize=(10, 1.4 + 2.7 * len(inners)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for inner, row in zip(inners, panels, strict=True):
        for k, axes in zip(periods, row, strict=True):
            draw_panel(axes, [case for case in cases if (case.inner, case.k) == (inner, k)])
            axes.set_title(f"{LABELS[inner]}, k = {k}", fontsize=11)
        row[0].set_ylabel("added time a step / limit")
    # A whisker that noise has made long may leave the picture: it would press the bars flat.
    heights = [case.ratio(variant) for case in cases for variant in case.seconds]
    panels[0][0].set_ylim(min(heights) * 1.1, max(GOAL, *heights) * 1.2)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=9, frameon=False)
    figure.supxlabel(caption, fontsize=9)
    return figure


def draw_panel(axes: Axes, cases: Sequence[Case]) -> None:
    """Draw a group of bars for each model, with whiskers at the 95 % intervals."""
    variants = [variant for variant in cases[0].seconds if variant != ALONE]
    width = 0.8 / len(variants)
    axes.axhline(1, color="black", linewidth=1, label="limit")
    axes.axhline(GOAL, color="black", linewidth=1, linestyle="--", label=f"goal ({GOAL})")
    for number, variant in enumerate(variants):
        places = [group + (number - (len(variants) - 1) / 2) * width for group in range(len(cases))]
        heights = [case.ratio(variant) for case in cases]
        below, above = zip(*(case.interval(variant) for case in cases), strict=True)
        spread = [
            [max(height - low, 0) for height, low in zip(heights, below, strict=True)],
            [max(high - height, 0) for height, high in zip(heights, above, strict=True)],
        ]
        whiskers = {"elinewidth": 0.8, "ecolor": "0.25"}
        axes.bar(places, heights, width, yerr=spread, color=COLORS[variant], label=variant, error_kw=whiskers)
    axes.set_xticks(range(len(cases)), [LABELS[case.model] for case in cases])
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
