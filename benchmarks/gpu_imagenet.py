"""ImageNet on this device: what its loader and updates compute, and how fast its networks are trained.

The images are made in code, of ImageNet's size: their classes' number is ImageNet's, and most images are of one class
for each picture, so that there is something to learn.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import torch
from omegaconf import DictConfig

from benchmarks.gpu_checks import COMPARED, PIXEL_TOLERANCE, Check, apart, compared, graphs, strides, waits
from benchmarks.gpu_speed import timed
from benchmarks.own_work import own_work
from benchmarks.pictures import lay_out, write_made
from benchmarks.trainers import imagenet_configuration, started
from experiments.engine.loop import Trainer
from experiments.engine.provenance import peak_memory
from experiments.vision.image_files import in_files
from experiments.vision.image_loading import Views, loaded, training_transform

GOAL = 2500  # images/s of ResNet-50 on one H100
HELD = 2  # batches in memory, for the rate

Configure = Callable[..., DictConfig]  # of a model and overrides


def images_for(folder: Path, batch_size: int) -> Path:
    """Write the images of an epoch of COMPARED updates, and no smaller batch at its end; return their folder."""
    count = max(COMPARED * batch_size, 1000 + -1000 % batch_size)
    return lay_out(folder / "imagenet", write_made(folder / "made"), count)


def configured(root: Path, batch_size: int, size: int) -> Configure:
    """Return what composes a configuration of ImageNet on these images."""

    def configure(model: str, *overrides: str) -> DictConfig:
        sizes = [f"task.size={size}", f"task.resize={max(size, 256)}"]
        return imagenet_configuration(model, root, batch_size, *sizes, *overrides)

    return configure


def batches(device: torch.device, root: Path, batch_size: int, size: int) -> list[Check]:
    """Compare the loader's normalized batches with those on the CPU, in both memory formats.

    Each is read while the next one is on its way, as in a run.
    """
    split = in_files(root.parent, root.name).train
    views = Views(split, training_transform(size, 0.08, True), (1, 0))
    pieces = [range(number * batch_size, (number + 1) * batch_size) for number in range(3)]
    expected = list(loaded(views, pieces, 2, torch.device("cpu"), False))
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        channels_last = layout == torch.channels_last
        pairs = zip(loaded(views, pieces, 2, device, channels_last), expected, strict=True)
        distances, same = [], True
        for (inputs, labels), (expected_inputs, expected_labels) in pairs:
            distances.append(apart(inputs, expected_inputs))
            same = same and torch.equal(labels.cpu(), expected_labels) and inputs.is_contiguous(memory_format=layout)
        # Written so that a pixel that is not a number does not pass.
        good = same and all(distance <= PIXEL_TOLERANCE for distance in distances)
        name = f"ImageNet's batches against the CPU's, {'channels_last' if channels_last else 'contiguous'}"
        found.append(Check(name, f"apart by {max(distances):.1e}", good, "stop; the data are wrong"))
    return found


def resnet50(device: torch.device, fast: list[str], folder: Path, configure: Configure) -> list[Check]:
    """Compare ResNet-50's fast updates with eager float32 ones, and say how fast they are."""
    release(device)
    agreed, trainer = compared(lambda *given: configure("resnet50", *given), device, fast, folder, COMPARED)
    found = [agreed, strides(trainer), waits(trainer), graphs(trainer)]
    for check in found:
        check.name = f"ResNet-50, {check.name}"
    return [*found, speed(trainer, f"the goal on one H100 is {GOAL:,} where data keep up")]


def resnet152(device: torch.device, fast: list[str], folder: Path, configure: Configure) -> list[Check]:
    release(device)
    return [speed(started(configure("resnet152", *fast), folder))]


def release(device: torch.device) -> None:
    """Free what models before took, compiled graphs included."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def speed(trainer: Trainer, goal: str = "", count: int = 30, loops: int = 4) -> Check:
    """Time updates on batches in memory; say the memory that was taken, and Lookahead's part of an update.

    Memory is counted from when the trainer was started: replays of CUDA graphs do not count what they use.
    """
    config, size = trainer.config, trainer.config.batch_size
    held = cycle(list(islice(trainer.parts.task.updates(0, 0, trainer.share), HELD)))

    def take(number: int) -> None:
        for update in islice(held, number):
            trainer.update(update)

    take(5)  # cuDNN looks for its best algorithms, and what is compiled is
    seconds = timed(trainer.device, lambda: take(count))[1] / count
    own = own_work(trainer, held, loops)
    settings = [config.precision, *(["channels_last"] if config.runtime.channels_last else [])]
    settings += ["compiled" if config.runtime.compile else "not compiled"]
    text = (
        f"{size / seconds:,.0f} images/s ({1000 * seconds:.1f} ms per update), "
        f"{peak_memory(trainer.device) / 2**30:.1f} GiB at most, Lookahead {own.percent:.2f} % of an update"
    )
    name = config.model._target_.rpartition(".")[2].replace("resnet", "ResNet-")
    title = f"{name} at {config.task.size} px, batch {size}, {', '.join(settings)}"
    return Check(title, f"{text}; {goal}" if goal else text)
