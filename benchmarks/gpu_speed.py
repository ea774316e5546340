"""How fast is a run on this device: updates, evaluation, checkpoints, Lookahead's share, and several runs at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_checks import Check
from benchmarks.trainers import Worker, cifar_configuration, endless_updates, started
from experiments.engine.launch import launch
from experiments.engine.loop import Trainer
from experiments.engine.run import prepare

HOST_BOUND = 0.9  # of the whole time: from there on the device waits for the host
WORTH_IT = 1.15  # times the updates per second of one run, from which on several at once are worth it
QUEUED = 20  # updates that fit into the device's queue: the host never waits to put in these


def timed(device: torch.device, work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds until the host had queued `work`, and until the device was done with it."""
    _wait(device)
    begin = time.perf_counter()
    work()
    queued = time.perf_counter() - begin
    _wait(device)
    return queued, time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds_per_update(trainer: Trainer, count: int) -> tuple[float, float]:
    """Return an update's milliseconds on the host and in all: the least of some turns of a few, the mean of `count`.

    An epoch is taken before, for its last batch: cuDNN looks for the best algorithms of its size, for seconds.
    """
    updates = endless_updates(trainer)

    def take(number: int) -> None:
        for _ in range(number):
            trainer.update(next(updates))

    take(trainer.parts.task.steps())
    few = min(QUEUED, count)
    host = min(timed(trainer.device, lambda: take(few))[0] / few for _ in range(5))
    return 1000 * host, 1000 * timed(trainer.device, lambda: take(count))[1] / count


def speed(trainer: Trainer, count: int = 391) -> list[Check]:
    """Time updates, an evaluation and a checkpoint of a run that is warm; estimate its 200 epochs."""
    host, whole = milliseconds_per_update(trainer, count)
    bound = host >= HOST_BOUND * whole
    trainer.measure(["train", "val"])  # compiles
    evaluation = timed(trainer.device, lambda: trainer.measure(["train", "val"]))[1]
    validation = timed(trainer.device, lambda: trainer.measure(["val"]))[1]
    saving = timed(trainer.device, trainer.save)[1]
    epoch = whole / 1000 * trainer.parts.task.steps()
    note = "the host binds: several runs at once gain" if bound else "the device binds"
    found = {
        "an update, in all": f"{whole:.2f} ms, {1000 * trainer.config.batch_size / whole:,.0f} images/s",
        "an update, on the host": f"{host:.2f} ms, {host / whole:.0%} of the whole: {note}",
        "an epoch of training": f"{epoch:.2f} s",
        "an evaluation, training and validation set": f"{evaluation:.2f} s",
        "the validation set alone": f"{validation:.2f} s; Figure 10 asks for at most 0.5 s for 10,000 images",
        "a checkpoint": f"{saving:.2f} s",
        "200 epochs, with an evaluation each": f"{200 * (epoch + evaluation):.0f} s; the goal on one H100 is 300 s",
    }
    return [Check(name, text) for name, text in found.items()]


def lookahead_share(device: torch.device, model: str, folder: Path, k: int = 5, rounds: int = 5) -> Check:
    """Time steps of Lookahead and of its inner optimizer alone, in turns, on the same gradients: the least of some."""
    trainers = {}
    for name in ("sgd", "la_sgd"):
        given = [
            f"optim={name}",
            "optim.lr=1e-9",
            "runtime.channels_last=true",
            *([f"optim.k={k}"] * (name == "la_sgd")),
        ]
        trainers[name] = started(cifar_configuration(model, 128, *given, f"runtime.device={device}"), folder)
        trainers[name].updater.gradients(next(endless_updates(trainers[name])))
    count = 10 * k

    def take(name: str) -> None:
        for _ in range(count):
            trainers[name].parts.optimizer.step()

    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in trainers}
    for number in range(rounds + 1):
        for name in trainers:
            seconds = timed(device, lambda name=name: take(name))
            if number > 0:  # the first turn warms up
                turns[name].append(seconds)
    host, whole = ({n: 1e6 * min(t[i] for t in turns[n]) / count for n in trainers} for i in (0, 1))
    text = (
        f"{whole['la_sgd'] - whole['sgd']:+.0f} µs in all to {whole['sgd']:.0f}, "
        f"{host['la_sgd'] - host['sgd']:+.0f} µs on the host to {host['sgd']:.0f}"
    )
    return Check("Lookahead adds to its inner optimizer, per step", text)


def largest_kernels(trainer: Trainer, count: int = 12, updates: int = 10) -> list[Check]:
    """Return the kernels (operators on a CPU) that take the most time of an update."""
    batches = endless_updates(trainer)
    cuda = trainer.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as profiled:
        for _ in range(updates):
            trainer.update(next(batches))
        _wait(trainer.device)
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = [event for event in profiled.key_averages() if not cuda or event.device_type.name == "CUDA"]
    events = sorted(events, key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in events)
    found = [Check("all kernels", f"{total / updates / 1000:.3f} ms per update")]
    for event in events[:count]:
        time_us = getattr(event, key)
        text = f"{time_us / updates / 1000:.3f} ms per update, {time_us / total:.1%}, {event.count / updates:.0f} calls"
        found.append(Check(f"kernel {event.key[:60]}", text))
    return found


def answer_with_rate(overrides: Sequence[str], model: str, images: int) -> Callable[[float], float]:
    """Return what a worker does: it trains for so many seconds and says how many updates it took in one."""
    trainer = started(cifar_configuration(model, images, *overrides), Path(tempfile.mkdtemp()))
    updates = endless_updates(trainer)

    def rate(seconds: float) -> float:
        count, begin = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - begin < seconds:
            for _ in range(QUEUED):
                trainer.update(next(updates))
            _wait(trainer.device)
            count += QUEUED
        return count / (time.perf_counter() - begin)

    return rate


def rate_of(count: int, command: Sequence[str], seconds: float, environment: dict[str, str] | None = None) -> float:
    """Return the updates per second of `count` runs at once, all together."""
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(command[0], command[1:], {**os.environ, **(environment or {})}))
            for _ in range(count)
        ]
        for duration in (0.0, seconds):  # the first time they compile and record
            for worker in workers:
                worker.ask(duration)
            rates = [worker.answer() for worker in workers]
    return sum(rates)


def side_by_side(command: Sequence[str], seconds: float = 5.0, counts: Sequence[int] = (1, 2, 4)) -> list[Check]:
    """Compare the updates per second of several runs at once with those of one, without and with CUDA MPS."""
    found, alone = [], 0.0
    with contextlib.ExitStack() as stack:
        for way in ("", ", with CUDA MPS"):
            environment = stack.enter_context(mps()) if way else {}
            if environment is None:
                found.append(Check("runs at once, with CUDA MPS", "there is no nvidia-cuda-mps-control"))
                break
            for count in counts:
                rate = rate_of(count, command, seconds, environment)
                alone = alone or rate
                note = f", {rate / alone:.2f} times one run's" + (": worth it" if rate >= WORTH_IT * alone else "")
                found.append(Check(f"runs at once: {count}{way}", f"{rate:.0f} updates per second{note}"))
    return found


def cudnn_choice(command: Sequence[str], seconds: float = 5.0) -> list[Check]:
    """Compare updates per second with cuDNN's own measurements and without."""
    rates = {value: rate_of(1, [*command, f"runtime.cudnn_benchmark={value}"], seconds) for value in ("true", "false")}
    return [Check(f"cudnn.benchmark={value}", f"{rate:.0f} updates per second") for value, rate in rates.items()]


@contextlib.contextmanager
def mps() -> Iterator[dict[str, str] | None]:
    """Run CUDA's multi-process service inside the context; give the environment of its clients, or None without it."""
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/nvidia/bin", "/usr/local/cuda/bin"])
    program = shutil.which("nvidia-cuda-mps-control", path=folders)
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        environment = {"CUDA_MPS_PIPE_DIRECTORY": f"{folder}/pipe", "CUDA_MPS_LOG_DIRECTORY": f"{folder}/log"}
        for path in environment.values():
            os.mkdir(path)
        with_these = {**os.environ, **environment}
        subprocess.run([program, "-d"], env=with_these, check=True)
        try:
            yield environment
        finally:
            subprocess.run([program], input=b"quit\n", env=with_these, check=False)


def prepared_device(name: str) -> torch.device:
    """Return a device as a run sees it."""
    return prepare(cifar_configuration("resnet8", 128, f"runtime.device={name}"), launch())
