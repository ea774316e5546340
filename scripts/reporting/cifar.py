"""What Table 1 and Figure 5 share: the paper's experiment, its numbers, and how far what was run is from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from scripts.reporting.markdown import read_text
from scripts.reporting.modules import REPOSITORY
from scripts.reporting.records import Run

PAPER = REPOSITORY / "results" / "paper" / "table1.yaml"
EPOCHS, IMAGES, NETWORK = 200, 50_000, "resnet18"  # Section 5.1
NAMES = {
    "resnet18": "ResNet-18",
    "resnet8": "ResNet-8",
    "small_conv": "a small convolutional network",
    "preresnet110": "PreResNet-110",
    "preresnet11": "PreResNet-11",
    "wrn28_10": "WRN-28-10",
    "wrn10_1": "WRN-10-1",
}


def papers_table(path: Path = PAPER) -> dict[str, Any]:
    """Return the paper's Table 1 with its sources."""
    return OmegaConf.to_container(OmegaConf.create(read_text(path)))


def network_of(run: Run) -> str:
    """Return the network of a run, as the function that makes it is called."""
    return run.config.model["_target_"].rpartition(".")[2]


def what_was_trained(run: Run, papers_network: str = NETWORK, papers_epochs: int = EPOCHS) -> str:
    """Say which network was trained on how many images for how many epochs, beside the paper's where it differs."""
    network = network_of(run)
    epochs = run.summary["epochs"]
    images = round(run.summary["samples"] / epochs)
    words = [
        NAMES.get(network, network) + (f" for {NAMES[papers_network]}" if network != papers_network else ""),
        f"{images:,}" + (f" of {IMAGES:,}" if images != IMAGES else "") + " images",
        f"{epochs}" + (f" of {papers_epochs}" if epochs != papers_epochs else "") + " epochs",
    ]
    return ", ".join(words)
