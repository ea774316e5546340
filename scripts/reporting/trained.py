"""What was trained on what for how long, in words, beside what the paper did where that differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    "AWDLSTM": "AWD-LSTM",
    "Transformer": "Transformer",
}


@dataclass(frozen=True)
class Papers:
    """What the paper trained on the images of a task."""

    networks: tuple[str, ...]  # the first is the one that a proxy's network stands for
    epochs: int
    images: int
    pixels: int


@dataclass(frozen=True)
class PapersText:
    """What the paper trained on the text of a task."""

    parameters: int
    epochs: int
    source: str  # the function that reads it, as the configuration names it
    tokens: Mapping[str, int]  # of each split, by its name in the configuration


@dataclass(frozen=True)
class PapersPairs:
    """What the paper trained on the pairs of sentences of a task."""

    layers: int  # of the encoder, and as many of the decoder
    width: int
    updates: int


CIFAR = Papers(("resnet18",), 200, 50_000, 32)  # Section 5.1
IMAGENET = Papers(("resnet50", "resnet152"), 90, 1_281_167, 224)  # Section 5.2
AGGRESSIVE = Papers(IMAGENET.networks, 60, IMAGENET.images, IMAGENET.pixels)
PAPERS = {"imagenet": IMAGENET, "imagenet_aggressive": AGGRESSIVE}  # by task; the others of images are CIFAR's
PTB = PapersText(24_221_600, 750, "penn_treebank", {"train": 929_589, "val": 73_760, "test": 82_430})  # Section 5.3
TEXTS = {"ptb": PTB}  # by task
TEXT_SOURCES = {"made": "a text made in code", "text_files": "another text"}  # by the function that reads it
PAIRS = {"wmt14": PapersPairs(6, 512, 50_000), "multi30k": None}  # Section 5.4; the paper has no run on the second
SPLITS = {"train": "training", "val": "validation", "test": "test"}


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
    """Say which network was trained on how much data for how many epochs, beside the paper's where it differs.

    The paper's are those of the task, unless one is given.
    """
    if not run.summary["epochs"]:
        return f"{network_name(run)}, which diverged in its first epoch"
    if run.config.task.name in PAIRS:
        return ", ".join(_on_pairs(run, PAIRS[run.config.task.name]))
    text = TEXTS.get(run.config.task.name)
    if text is not None:
        words, expected = _on_text(run, text), text.epochs
    else:
        paper = PAPERS.get(run.config.task.name, CIFAR)
        networks = (papers_network,) if papers_network else paper.networks
        words, expected = _on_images(run, paper, networks), papers_epochs or paper.epochs
    return ", ".join([*words, f"{_of(run.summary['epochs'], expected)} epochs"])


def _on_images(run: Run, paper: Papers, networks: Sequence[str]) -> list[str]:
    pixels = pixels_of(run)
    return [
        network_name(run) + (f" for {NAMES[networks[0]]}" if network_of(run) not in networks else ""),
        f"{_of(images_of(run), paper.images)} images"
        + (f" of {pixels} x {pixels} pixels" if pixels != paper.pixels else ""),
    ]


def _on_text(run: Run, paper: PapersText) -> list[str]:
    """Return words of the network and of the training text, and of the other splits where they are not whole."""
    network = f"{network_name(run)} with {_of(run.summary['parameters'], paper.parameters)} parameters"
    given = {split: value_of(run.config, f"task.corpus.{split}_tokens") for split in paper.tokens}
    source = (value_of(run.config, "task.corpus._target_") or paper.source).rpartition(".")[2]
    if source != paper.source:
        sizes = ", ".join(f"{count:,} {SPLITS[split]}" for split, count in given.items() if count)
        numbers = f" ({sizes} tokens)" if sizes else ""
        return [network, f"{TEXT_SOURCES.get(source, source)}{numbers} for {TASKS[run.config.task.name]}"]
    tokens = {split: given[split] or of for split, of in paper.tokens.items()}
    return [
        network,
        *(
            f"{_of(tokens[split], paper.tokens[split])} {SPLITS[split]} tokens"
            for split in paper.tokens
            if split == "train" or tokens[split] != paper.tokens[split]
        ),
    ]


def _on_pairs(run: Run, paper: PapersPairs | None) -> list[str]:
    """Return words of the network, of the training pairs and subwords, and of the updates, which C.4 has more of."""
    model, steps = run.config.model, run.summary["steps"]
    shape = f"of {model.layers} + {model.layers} layers of width {model.width}"
    if paper is not None and (model.layers, model.width) != (paper.layers, paper.width):
        shape += f" for {paper.layers} + {paper.layers} of {paper.width}"
    data = run.summary.get("data", {})
    dropped = sum(data.get(f"train pairs dropped, {why}", 0) for why in ("empty", "too long"))
    return [
        f"{network_name(run)} {shape}, with {run.summary['parameters']:,} parameters",
        *([f"{data['train pairs']:,} training pairs"] if "train pairs" in data else []),
        *([f"{dropped:,} more dropped as empty or too long"] if dropped else []),
        f"{run.config.task.vocabulary:,} subwords",
        f"{_of(steps, paper.updates if paper and steps < paper.updates else steps)} updates",
    ]


def _of(value: int, papers: int) -> str:
    return f"{value:,}" + (f" of {papers:,}" if value != papers else "")


def all_that_was_trained(runs: Sequence[Run]) -> str:
    """Say so of each task and network, with the data set's name where there are several."""
    first: dict[tuple[str, str], Run] = {}
    for run in runs:
        first.setdefault((run.config.task.name, network_of(run)), run)
    several = len({TASKS[task] for task, _ in first}) > 1
    found = [(f"{TASKS[task]}: " if several else "") + what_was_trained(run) for (task, _), run in first.items()]
    return "; ".join(dict.fromkeys(found))
