"""Images made in code and held in memory as JPEG files, for tests and smoke runs of tasks that read files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from experiments.vision.image_files import ImageFiles, ImageSplit


class MadeImages:
    """JPEG files made in code and held in memory: a coarse pattern per class, plus noise, wide and high by turns."""

    def __init__(self, classes: int, per_class: int, seed: int) -> None:
        patterns = np.random.default_rng(20191908).integers(40, 216, (classes, 3, 3, 3))
        self.files: list[bytes] = []
        self.labels = np.repeat(np.arange(classes), per_class)
        rng = np.random.default_rng(seed)
        for number, label in enumerate(self.labels):
            height, width = (40, 56) if number % 2 else (56, 40)
            pixels = patterns[label].repeat(19, axis=0).repeat(19, axis=1)[:height, :width]
            noisy = (pixels + rng.normal(0, 20, pixels.shape)).clip(0, 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(noisy).save(file, "JPEG", quality=90)
            self.files.append(file.getvalue())

    def __len__(self) -> int:
        return len(self.files)

    def opened(self, number: int) -> IO[bytes]:
        return io.BytesIO(self.files[number])

    def name(self, number: int) -> str:
        return f"made image {number}"


def made(
    data_dir: str | Path | None = None,
    folder: str | None = None,
    train_per_class: int = 8,
    val_per_class: int = 4,
    classes: int = 10,
) -> ImageFiles:
    """Return images made in code from a fixed seed, for tests; `data_dir` and `folder` are not read.

    Every number must be at least 1 (ValueError).
    """
    for name, value in {"train_per_class": train_per_class, "val_per_class": val_per_class, "classes": classes}.items():
        if value is None or value < 1:
            raise ValueError(f"task.images.{name}={value} is below 1")

    def splits() -> Iterator[ImageSplit]:
        for per_class, seed in ((train_per_class, 1), (val_per_class, 2)):
            reader = MadeImages(classes, per_class, seed)
            yield ImageSplit(reader, np.arange(len(reader)), reader.labels)

    return ImageFiles(*splits(), tuple(f"class {number}" for number in range(classes)))
