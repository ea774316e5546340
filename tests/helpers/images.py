"""Small JPEG files in the layout of ImageNet, and tar archives of them."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("n01", "n02", "n10")


def picture(seed: int, width: int = 60, height: int = 40) -> Image.Image:
    """Return an image of smooth noise, so that crops and scalings of it differ."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_images(root: Path, counts: Mapping[str, int], classes: tuple[str, ...] = CLASSES) -> Path:
    """Write `counts[split]` images of each class as root/<split>/<class>/<number>.JPEG, wide and high by turns."""
    seed = 0
    for split, count in counts.items():
        for name in classes:
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                seed += 1
                size = (60, 40) if seed % 2 else (44, 52)
                picture(seed, *size).save(root / split / name / f"{number}.JPEG", quality=90)
    return root


def archive(folder: Path, target: Path, below: str = "") -> None:
    """Write what lies in a folder into a tar archive, under names relative to it."""
    with tarfile.open(target, "w") as tar:
        for path in sorted([*folder.rglob("*.JPEG"), *folder.rglob("*.tar")]):
            tar.add(path, f"{below}{path.relative_to(folder)}")
