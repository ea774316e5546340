"""How every figure looks: names, order and colours; nothing of the user's own matplotlib settings reaches one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from experiments.engine.files import replace_file

# The order is the paper's: SGD, Polyak, Adam, Lookahead; then what the paper has elsewhere.
LABELS = {
    "sgd": "SGD",
    "polyak": "Polyak",
    "adamw": "Adam",
    "la_sgd": "Lookahead",
    "la_adamw": "Lookahead (AdamW)",
    "adam": "Adam (L2 decay)",
    "la_adam": "Lookahead (Adam, L2 decay)",
    "la_adam_adaptive": "Lookahead (AdamW, adaptive α)",
    "swa": "SWA",
    "nt_asgd": "NT-ASGD",
    "la_adam_no_warmup": "Lookahead (Adam, no warm-up)",
    "adafactor": "Adafactor",
}
TABLE3_LABELS = {  # where Lookahead is around several optimizers, and Adam is the one with L2 decay; in Table 3's order
    "sgd": "SGD",
    "la_sgd": "Lookahead (SGD)",
    "adam": "Adam",
    "la_adam": "Lookahead (Adam)",
    "nt_asgd": "Polyak (NT-ASGD)",
}
TABLE4_LABELS = {  # where Adam is without decay, in Table 4's order
    "adam": "Adam",
    "la_adam": "Lookahead around Adam",
    "la_adam_no_warmup": "Lookahead around Adam without warm-up",
    "adafactor": "Adafactor",
}
OPTIMIZERS = tuple(LABELS)
COLORS = {
    "sgd": "tab:blue",
    "polyak": "tab:green",
    "adamw": "tab:orange",
    "la_sgd": "tab:purple",
    "la_adamw": "tab:red",
    "adam": "goldenrod",
    "la_adam": "firebrick",
    "la_adam_adaptive": "tab:pink",
    "swa": "tab:brown",
    "nt_asgd": "tab:olive",
    "la_adam_no_warmup": "darkorchid",
    "adafactor": "tab:cyan",
}
MOMENTUM = "tab:blue"  # classical momentum, in the analyses
INNER_STATES = {"maintain": "tab:purple", "interpolate": "tab:green", "reset": "tab:orange"}
ALPHAS, ALPHA_SCALE = "viridis", Normalize(0, 1)
TASKS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "cifar100_preresnet110": "CIFAR-100",
    "cifar100_wrn28_10": "CIFAR-100",
    "digits": "digits",
    "imagenet": "ImageNet",
    "imagenet_aggressive": "ImageNet",
    "ptb": "Penn Treebank",
    "wmt14": "WMT14 English-German",
    "multi30k": "Multi30k English-German",
}


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Draw with matplotlib's own defaults, whatever a matplotlibrc, a style or a program set before."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def blank(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, that no window and no pyplot knows."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG: whole or not at all, and the same bytes each time (no version, no date)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return replace_file(
        path, lambda temporary: figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    )
