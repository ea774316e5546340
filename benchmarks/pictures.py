"""JPEG files for benchmarks of ImageNet: photographs where they are, else made in code; and folders in its layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375  # what most of ImageNet's photographs have
MADE = f"made in code, {WIDTH} x {HEIGHT}"
PHOTOGRAPHS = {
    "photographs, as they come": "imagenet_native/train",
    "photographs, 224 x 224": "imagenette_mini/train",
}


def photographs(data_dir: Path) -> dict[str, list[Path]]:
    """Return the photographs below `data_dir`, in an order that is always the same, by what they are; perhaps none."""
    found = {name: sorted((data_dir / folder).glob("*/*.JPEG")) for name, folder in PHOTOGRAPHS.items()}
    return {name: files for name, files in found.items() if files}


def write_made(folder: Path, count: int = 32) -> list[Path]:
    """Write `count` JPEG files of ImageNet's usual size and about 100 kB: smooth shapes with fine noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float32)
        pixels = (smooth + rng.normal(0, 16, smooth.shape)).clip(0, 255).astype(np.uint8)
        files.append(folder / f"{number}.JPEG")
        Image.fromarray(pixels).save(files[-1], "JPEG", quality=85)
    return files


def lay_out(root: Path, files: Sequence[Path], images: int, classes: int = 1000) -> Path:
    """Make a folder in the layout of ImageNet whose training images are links to `files`, over and over.

    The first ones fill all classes; those after them are of one class for each file, so that there is something to
    learn. There is one image to validate with. Raises ValueError where there are fewer images than classes.
    """
    if images < classes:
        raise ValueError(f"{images} images do not fill {classes} classes")
    for number in range(images):
        place = number % len(files)
        label = number if number < classes else place % classes
        folder = root / "train" / f"class{label:04}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.JPEG").symlink_to(files[place].resolve())
    (root / "val" / "class0000").mkdir(parents=True)
    (root / "val" / "class0000" / "0.JPEG").symlink_to(files[0].resolve())
    return root
