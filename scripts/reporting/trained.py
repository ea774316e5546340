"""What was trained on what for how long, in words, beside what the paper did where that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scripts.reporting.draws import value_of
from scripts.reporting.records import Run
from scripts.reporting.style import TASKS

NAMES = {
    "resnet18": "ResNet-18",
    "resnet8": "ResNet-8",
    "resnet32": "ResNet-32",
    "resnet50": "ResNet-50",
    "resnet152": "ResNet-152",
    "ResNet": "ResNet-10 of a quarter of the width",  # the one configuration that names the class itself
    "SmallConv": "a small convolutional network",
    "preresnet110": "PreResNet-110",
    "preresnet11": "PreResNet-11",
    "wrn28_10": "WRN-28-10",
    "wrn10_1": "WRN-10-1",
}


@dataclass(frozen=True)
class Papers:
    """What the paper trained on a task."""

    networks: tuple[str, ...]  # the first is the one that a proxy's network stands for
    epochs: int
    images: int
    pixels: int


CIFAR = Papers(("resnet18",), 200, 50_000, 32)  # Section 5.1
IMAGENET = Papers(("resnet50", "resnet152"), 90, 1_281_167, 224)  # Section 5.2
AGGRESSIVE = Papers(IMAGENET.networks, 60, IMAGENET.images, IMAGENET.pixels)
PAPERS = {"imagenet": IMAGENET, "imagenet_aggressive": AGGRESSIVE}  # by task; the others are CIFAR's


def network_of(run: Run) -> str:
    """Return the network of a run, as the function that makes it is called."""
    return run.config.model["_target_"].rpartition(".")[2]


def network_name(run: Run) -> str:
    """Return the name of the network that was trained, which is not the paper's at every scale."""
    return NAMES.get(network_of(run), network_of(run))


def images_of(run: Run) -> int:
    """Return how many training images a run saw in an epoch."""
    return round(run.summary["samples"] / run.summary["epochs"])


def pixels_of(run: Run) -> int:
    """Return the height and width of the images on which a run trained."""
    return value_of(run.config, "task.size") or CIFAR.pixels // (value_of(run.config, "task.dataset.pool") or 1)


def what_was_trained(run: Run, papers_network: str | None = None, papers_epochs: int | None = None) -> str:
    """Say which network was trained on how many images for how many epochs, beside the paper's where it differs.

    The paper's are those of the task, unless one is given.
    """
    paper = PAPERS.get(run.config.task.name, CIFAR)
    networks = (papers_network,) if papers_network else paper.networks
    expected = papers_epochs or paper.epochs
    epochs, images, pixels = run.summary["epochs"], images_of(run), pixels_of(run)
    words = [
        network_name(run) + (f" for {NAMES[networks[0]]}" if network_of(run) not in networks else ""),
        f"{images:,}"
        + (f" of {paper.images:,}" if images != paper.images else "")
        + " images"
        + (f" of {pixels} x {pixels} pixels" if pixels != paper.pixels else ""),
        f"{epochs}" + (f" of {expected}" if epochs != expected else "") + " epochs",
    ]
    return ", ".join(words)


def all_that_was_trained(runs: Sequence[Run]) -> str:
    """Say so of each task and network, with the data set's name where there are several."""
    first: dict[tuple[str, str], Run] = {}
    for run in runs:
        first.setdefault((run.config.task.name, network_of(run)), run)
    several = len({TASKS[task] for task, _ in first}) > 1
    found = [(f"{TASKS[task]}: " if several else "") + what_was_trained(run) for (task, _), run in first.items()]
    return "; ".join(dict.fromkeys(found))
