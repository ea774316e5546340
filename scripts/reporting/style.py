"""How every figure looks: names, order and colours; nothing of the user's own matplotlib settings reaches one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.transforms import ScaledTranslation

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
    "snoo_sgd": "SNOO (SGD)",
    "snoo_adamw": "SNOO (AdamW)",
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
# Of the palettes of Paul Tol and of Okabe and Ito: those that meet in a figure are told apart by the colour-blind too.
BLUE, WINE, ORANGE, GREEN, GREY, BLACK = "#0077BB", "#882255", "#E69F00", "#228833", "#999999", "#000000"
COLORS = {
    "sgd": BLUE,
    "polyak": GREEN,
    "adamw": ORANGE,
    "la_sgd": WINE,
    "la_adamw": "#332288",
    "adam": "#CCBB44",
    "la_adam": "#CC3311",
    "la_adam_adaptive": "#CC79A7",
    "swa": BLACK,
    "nt_asgd": "#44AA99",
    "la_adam_no_warmup": "#AA4499",
    "adafactor": "#33BBEE",
    "snoo_sgd": "#EE7733",
    "snoo_adamw": "#009988",
}
OTHERS = (BLACK, ORANGE, GREEN, GREY)  # beside SGD and Lookahead, for what is no optimizer: a k and alpha, a start
MOMENTUM = COLORS["sgd"]  # classical momentum, in the analyses
INNER_STATES = {"maintain": ORANGE, "interpolate": GREEN, "reset": COLORS["la_sgd"]}
ALPHAS, ALPHA_SCALE = "viridis", Normalize(0, 1)
DPI = 150  # of PNG, and of what a PDF holds as pixels
FORMATS = {"png": ("Software",), "pdf": ("Creator", "Producer", "CreationDate")}  # what would tell version and date
BELOW = 0.5  # inches from a panel to a legend below it
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
        matplotlib.rcParams["axes.prop_cycle"] = cycler(color=(BLUE, ORANGE, GREEN, BLACK, WINE, GREY))
        yield


def blank(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, that no window and no pyplot knows."""
    return Figure(figsize=(width, height), layout="constrained")


def legend(axes: Axes, below: bool = False, **look: Any) -> Legend:
    """Put the legend beside the data: at the right of the panel, or below it, so that it covers no curve."""
    # Below, it has to leave room for the numbers and the name of the axis, whose height is one in inches.
    down = ScaledTranslation(0, -BELOW, axes.figure.dpi_scale_trans)
    place = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)}
    if below:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": axes.transAxes + down}
    return axes.legend(**{"fontsize": 8, "borderaxespad": 0, **place, **look})


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and PDF, `path` with these endings; return both.

    Each is written whole or not at all, and has the same bytes each time (no version, no date).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Placed once for both: placing takes longer than drawing.
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    written = []
    for kind, unknown in FORMATS.items():
        options = {"format": kind, "dpi": DPI, "metadata": dict.fromkeys(unknown)}
        written.append(
            replace_file(
                path.with_name(f"{path.name}.{kind}"),
                lambda temporary, options=options: figure.savefig(temporary, **options),
            )
        )
    return written
