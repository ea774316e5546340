"""Step time and peak memory of Lookahead, ours and others', over its inner optimizer alone.

On the parameter shapes of ResNet-50, ResNet-152, the AWD-LSTM and Transformer-base; no model runs. A round times,
in an order drawn anew, whole inner loops of every variant and plain kernels that stream the same number of bytes.
Added time is the difference to the inner optimizer alone. The hardware's limit is what 2 reads and 2 writes of the
parameters every k steps, with outer momentum 3 and 3, take at the fastest kernel's bandwidth. Memory is exact
(benchmarks/memory.py); reads and writes are counted by the kernels called (benchmarks/traffic.py).

Run `make bench-optimizer` on an idle machine (about 30 minutes on two cores): where other programs hold a core, the
threads of each operation wait for each other, and the inner optimizer itself takes many times as long. Writes
results/benchmarks/optimizer.{md,json,png}; a partial run only prints its table, unless given --out.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from benchmarks.memory import peak_bytes
from benchmarks.optimizer_results import ALONE, FUSED, FUSED_MOMENTUM, MOMENTUM, OURS, Case, draw, findings, rows_of
from benchmarks.report import RESULTS, machine_facts, show_report, whole_number
from benchmarks.shapes import MODELS, Shapes
from benchmarks.traffic import CACHE, traffic
from experiments.engine.configuration import choose_device
from lookahead import Lookahead

TITLE = "What Lookahead adds to its inner optimizer"
ALPHA = 0.5
OUTER_MOMENTUM = 0.5
PEERS = {"timm": "timm.optim", "pytorch_optimizer": "pytorch_optimizer", "torch_optimizer": "torch_optimizer"}
INNERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=1e-3, momentum=0.9, fused=True),
    "adamw": partial(torch.optim.AdamW, lr=1e-3, fused=True),
}
# In one timing: enough for a GPU, where a kernel takes less time than its launch; few on a CPU, for more rounds.
LOOPS = {"cpu": 1, "cuda": 2}
STREAMS = {"cpu": 2, "cuda": 10}

Wrap = Callable[..., Optimizer]  # of the inner optimizer and k=


def variants() -> dict[str, Wrap]:
    """Return, by name, what each variant makes of an inner optimizer; a line says which are left out, and why."""
    found: dict[str, Wrap] = {
        ALONE: lambda inner, k: inner,
        OURS: partial(Lookahead, alpha=ALPHA),
        FUSED: partial(Lookahead, alpha=ALPHA, fused=True),
        MOMENTUM: partial(Lookahead, alpha=ALPHA, outer_momentum=OUTER_MOMENTUM),
        FUSED_MOMENTUM: partial(Lookahead, alpha=ALPHA, fused=True, outer_momentum=OUTER_MOMENTUM),
    }
    for distribution, module in PEERS.items():
        try:
            found[distribution] = partial(importlib.import_module(module).Lookahead, alpha=ALPHA)
        except ImportError:
            print(f"{distribution} is left out: not installed; `pip install -r requirements-bench.txt` installs it")
    return found


def random_like(shapes: Shapes, scale: float, device: torch.device) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    return [torch.randn(shape, generator=generator, device=device) * scale for shape in shapes]


def parameters(initial: list[Tensor], gradients: list[Tensor]) -> list[nn.Parameter]:
    """Return parameters that start as `initial`, with the `gradients` that every step of every variant reads."""
    params = [nn.Parameter(weight.clone()) for weight in initial]
    for p, gradient in zip(params, gradients, strict=True):
        p.grad = gradient
    return params


def take_steps(optimizer: Optimizer, count: int) -> Optimizer:
    for _ in range(count):
        optimizer.step()
    return optimizer


def streams(size: int, device: torch.device) -> dict[str, tuple[int, Callable[[], Tensor]]]:
    """Return plain kernels over float32 tensors of `size` bytes, and how often each moves that many bytes."""
    a, b = (torch.ones(size // 4, device=device) for _ in range(2))
    return {
        "copy_": (2, lambda: a.copy_(b)),
        "add_": (2, lambda: a.add_(1.0)),
        "lerp_": (3, lambda: a.lerp_(b, 0.5)),
    }


Work = tuple[Callable[[], object], int]  # what is timed, and how often in a row


def seconds(work: Work, device: torch.device) -> list[float]:
    """Return the time of each call."""
    call, count = work
    if device.type != "cuda":
        marks = [time.perf_counter()]
        for _ in range(count):
            call()
            marks.append(time.perf_counter())
        return [end - begin for begin, end in pairwise(marks)]
    torch.cuda.synchronize(device)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    torch.cuda.synchronize(device)
    return [begin.elapsed_time(end) / 1000 for begin, end in pairwise(events)]


def interleaved(works: dict[str, Work], rounds: int, device: torch.device) -> dict[str, list[list[float]]]:
    """Time every work once a round, each round in an order of its own, so that none has a better place."""
    times: dict[str, list[list[float]]] = {name: [] for name in works}
    order, shuffler = list(works), random.Random(0)
    for _ in range(rounds):
        shuffler.shuffle(order)
        for name in order:
            times[name].append(seconds(works[name], device))
    return times


def measure(
    model: str, inner: str, k: int, shapes: Shapes, wraps: dict[str, Wrap], rounds: int, device: torch.device
) -> Case:
    """Measure every variant in one case: their times in turns, then the memory and its traffic of each by itself."""
    initial, gradients = random_like(shapes, 1.0, device), random_like(shapes, 1e-3, device)
    size = sum(weight.nbytes for weight in initial)
    steps = LOOPS[device.type] * k

    def begin(wrap: Wrap, params: list[nn.Parameter]) -> Optimizer:
        return wrap(INNERS[inner](params), k=k)

    optimizers = {name: begin(wrap, parameters(initial, gradients)) for name, wrap in wraps.items()}
    loops = {name: (optimizer.step, steps) for name, optimizer in optimizers.items()}
    warm_up, times, rates = measure_times(loops, size, rounds, device)
    del optimizers, loops  # and with them their weights

    peaks, moved = {}, {}
    for name, wrap in wraps.items():
        params = parameters(initial, gradients)
        peaks[name] = peak_bytes(lambda wrap=wrap, params=params: take_steps(begin(wrap, params), 2 * k), device)
        if name not in (FUSED, FUSED_MOMENTUM):  # what is compiled is not seen
            optimizer = take_steps(begin(wrap, params), 2 * k)
            moved[name] = traffic(lambda optimizer=optimizer: take_steps(optimizer, k), device)
    added = {
        name: tuple(its - alone for its, alone in zip(both, moved[ALONE], strict=True)) for name, both in moved.items()
    }
    return Case(model, inner, k, size, steps, times, rates, peaks, warm_up, added)


def measure_times(
    loops: dict[str, Work], size: int, rounds: int, device: torch.device
) -> tuple[dict[str, float], dict[str, list[list[float]]], dict[str, list[float]]]:
    """Return the seconds of each loop's first round, of each later step, and the bandwidth (bytes/s) of each call."""
    warm_up = {name: sum(seconds(loop, device)) for name, loop in loops.items()}
    kernels = streams(size, device)
    works = loops | {name: (kernel, STREAMS[device.type]) for name, (_, kernel) in kernels.items()}
    interleaved(works, 1, device)  # once more: timm's first synchronization does nothing
    times = interleaved(works, rounds, device)
    rates = {name: [passes * size / t for call in times[name] for t in call] for name, (passes, _) in kernels.items()}
    return warm_up, {name: times[name] for name in loops}, rates


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--inner", nargs="+", choices=INNERS, default=list(INNERS))
    parser.add_argument("--k", nargs="+", type=partial(whole_number, least=1), default=[5, 10])
    parser.add_argument("--rounds", type=partial(whole_number, least=2), default=30)
    parser.add_argument("--threads", type=partial(whole_number, least=1), default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help=f"folder of the report; {RESULTS} for a full run, else none")
    return parser


def main(given: list[str] | None = None) -> None:
    parser = arguments()
    options = parser.parse_args(given)
    load, begin = os.getloadavg()[0], time.perf_counter()  # of others: nothing has run yet
    torch.set_num_threads(options.threads)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler writes lines of its own
    wraps, device, cases = variants(), choose_device("auto"), []
    # Compiled anew, so that the time of compilation does not depend on runs before.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for model in options.model:
            torch.compiler.reset()  # or the kernels of one model after the other would count as recompilations
            shapes = MODELS[model]()
            for inner in options.inner:
                for k in options.k:
                    cases.append(measure(model, inner, k, shapes, wraps, options.rounds, device))
                    print(summary(cases[-1]), flush=True)
    full = options == parser.parse_args([]) and wraps.keys() >= PEERS.keys()
    folder = options.out or (RESULTS if full else None)
    report(cases, options, wraps, (time.perf_counter() - begin) / 60, load, folder)


def summary(case: Case) -> str:
    ratios = ", ".join(f"{name} {case.ratio(name):.2f}" for name in case.seconds if name != ALONE)
    return f"{case.name}: added time / limit: {ratios}"


def report(
    cases: list[Case],
    options: argparse.Namespace,
    wraps: dict[str, Wrap],
    minutes: float,
    load: float,
    folder: Path | None,
) -> None:
    """Write the report into `folder`, or print its table and notes where there is none."""
    rows = [row for case in cases for row in rows_of(case)]
    notes = notes_on(cases, options, wraps, minutes, load)
    facts = machine_facts()
    machine = f"{facts['accelerator'] or facts['cpu']}, {options.threads} threads, torch {facts['torch']}"
    figure = draw(cases, machine) if folder is not None else None
    show_report("optimizer", TITLE, rows, notes, folder, options, load, cases, figure)


def notes_on(
    cases: list[Case], options: argparse.Namespace, wraps: dict[str, Wrap], minutes: float, load: float
) -> str:
    """Say how the numbers were made, and which goals are met."""
    names = [name for name in PEERS if name in wraps]
    peers = ", ".join(f"{name} {version(name)}" for name in names) or "none installed"
    method = (
        f"Parameters, constant gradients and state are float32; the inner optimizers are torch's fused ones, for all "
        f"alike. A round times {cases[0].steps // cases[0].k} x k steps of each variant, one by one, the variants in "
        f"an order drawn anew; means over the places in the loop of the medians of {options.rounds} rounds after two "
        f"to warm up, and 95 % bootstrap intervals; a ratio below 1 is within its noise. Added: over the inner "
        f"optimizer alone. Limit: 2 reads and 2 writes of the parameters every k steps, with outer momentum "
        f"({OUTER_MOMENTUM}, Nesterov's) 3 and 3, at the bandwidth of the fastest of three plain kernels, timed in the "
        f"same rounds. Reads + writes: what the kernels of a synchronization read and write, in copies of the "
        f"parameters; on a CPU what is among the last {CACHE >> 20} MiB touched counts as cached. Peak memory: of all "
        f"tensors made from before the optimizer is until 2k steps, exact, each variant by itself; added copies: of "
        f"the parameters, over the inner optimizer alone. Peers: {peers}. Threads: {options.threads}. Load average of "
        f"other programs at the start: {load:.2f}. The run took {minutes:.0f} minutes."
    )
    return "\n".join([f"{method}\n", *(f"- {line}" for line in findings(cases))])


if __name__ == "__main__":
    main()
