"""Images that stay in files, in folders or tar archives, until they are read: ImageNet, or a sample of it.

timm's readers find the files. Its own data set is not used: that replaces a file which it cannot read by the next one,
with a warning, while a run here names the file and ends.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from experiments.engine.errors import UserError

LAYOUT = (
    "train/<class>/*.JPEG and val/<class>/*.JPEG, one tar archive per class in train/ and val/, or train.tar, val.tar"
)


class UnreadableImage(UserError):
    """An image's file is damaged, or gone."""


class Reader(Protocol):
    """What is asked of timm's readers of folders and of tar archives."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> tuple[IO[bytes], int]:
        """Return an image's file, open, and the number of its class among the reader's."""
        ...

    def filename(self, number: int, basename: bool = False, absolute: bool = False) -> str: ...


@dataclass(frozen=True)
class ImageSplit:
    """The images of a split, in an order that is the same on every machine: by class, then by name.

    `numbers` int64 [N] are the reader's of the images, `labels` int64 [N] their classes.
    """

    reader: Reader
    numbers: np.ndarray
    labels: np.ndarray
    archive: str = ""  # that holds the files, or the folder of archives that do, for messages
    classes: Sequence[str] = ()  # by label, where there is an archive

    def __len__(self) -> int:
        return len(self.numbers)

    def image(self, place: int) -> Image.Image:
        """Return an image in RGB, as it lies in its file: an EXIF orientation is not applied. Raises what Pillow does.

        Grey images get three equal channels, and CMYK is converted as Pillow does it without color profiles.
        """
        file, _ = self.reader[int(self.numbers[place])]
        with file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*corrupt EXIF", UserWarning)  # of some of ImageNet's; nothing reads it
            with Image.open(file) as image:
                image.load()
                return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it

    def digest(self) -> str:
        """Return a short digest of the images' names and classes, in their order: the same for folders and archives."""
        found = hashlib.sha256(repr(list(self.classes)).encode())
        for number, label in zip(self.numbers.tolist(), self.labels.tolist(), strict=True):
            found.update(f"{label} {self.reader.filename(number, basename=True)}\n".encode(errors="surrogateescape"))
        return found.hexdigest()[:8]

    def unreadable(self, place: int, error: Exception) -> str:
        """Say in one line which file could not be read, and why."""
        name = self.reader.filename(int(self.numbers[place]), absolute=True)
        if self.archive:
            name = f"{name} of the class {self.classes[self.labels[place]]} in {self.archive}"
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "it is in no format that Pillow knows"
        return f"{name} cannot be read as an image ({reason}); put a whole copy in its place"


@dataclass(frozen=True)
class ImageFiles:
    """A training and a validation split, whose labels are places in `classes`."""

    train: ImageSplit
    val: ImageSplit
    classes: tuple[str, ...]


def in_files(
    data_dir: str | Path,
    folder: str = "imagenet",
    train_per_class: int | None = None,
    val_per_class: int | None = None,
) -> ImageFiles:
    """Return the images below `data_dir`/`folder`, which is laid out as LAYOUT says; none is opened.

    `train_per_class` and `val_per_class` keep the first images of each class by name; None keeps all. Raises
    FileNotFoundError for a split that is missing and ValueError for one without images, or one that cannot be listed,
    and for a class in val that train lacks.
    """
    root = Path(data_dir).expanduser() / folder
    train, names = _listed(root, "train")
    val, val_names = _listed(root, "val")
    unknown = [name for name in val_names if name not in names]
    if unknown:
        raise ValueError(f"{root / 'val'} has the class {unknown[0]}, which {root / 'train'} lacks")
    places = {name: place for place, name in enumerate(names)}
    val = _relabeled(val, np.array([places[name] for name in val_names]), names)
    return ImageFiles(_first(train, train_per_class), _first(val, val_per_class), tuple(names))


def _listed(root: Path, name: str) -> tuple[ImageSplit, list[str]]:
    """Return a split, with labels that are places among the names of its own classes; and these names."""
    path = root / name
    if not path.is_dir() and (root / f"{name}.tar").is_file():
        path = root / f"{name}.tar"
    if path.is_file() and path.suffix != ".tar":
        raise ValueError(f"{path} is a file; wanted in {root}: {LAYOUT}")
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; wanted in {root}, or where a link of that name leads: {LAYOUT}")
    try:
        reader, classes, names, labels = _opened(path)
    except Exception as error:  # timm's assertions, archives that are cut off, folders that may not be read
        if isinstance(error, ImportError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ValueError) and "unpack" in reason:  # of timm, for archives without any
            reason = "there are no images in it"
        raise ValueError(f"{path} cannot be listed ({reason}); wanted in {root}: {LAYOUT}") from error
    classes = sorted(classes, key=classes.__getitem__)
    if "" in classes:
        stray = names[labels.index(classes.index(""))]
        raise ValueError(f"{stray} in {path} is in no folder of a class; wanted in {root}: {LAYOUT}")
    # timm leaves images of one name in several archives in the file system's order.
    order = sorted(range(len(names)), key=lambda number: (labels[number], names[number]))
    archive = str(path) if path.is_file() or _holds_archives(path) else ""
    return ImageSplit(reader, np.array(order), np.array(labels)[order], archive, classes), classes


def _opened(path: Path) -> tuple[Reader, Mapping[str, int], Sequence[str], list[int]]:
    """Return timm's reader of a folder or archive, its classes, and each image's name and class."""
    from timm.data.readers.reader_image_folder import ReaderImageFolder  # heavy: all of timm
    from timm.data.readers.reader_image_in_tar import ReaderImageInTar

    if path.is_file() or _holds_archives(path):
        # Above 10 GB timm keeps the list of what archives hold in a file beside them, where it may.
        keeps = None if os.access(path.parent if path.is_file() else path, os.W_OK) else False
        tar = ReaderImageInTar(str(path), cache_tarinfo=keeps)
        return tar, tar.class_name_to_idx, [sample[0].path for sample in tar.samples], tar.targets.tolist()
    reader = ReaderImageFolder(str(path))
    return reader, reader.class_to_idx, [name for name, _ in reader.samples], [label for _, label in reader.samples]


def _holds_archives(path: Path) -> bool:
    if not path.is_dir():
        return False
    with os.scandir(path) as entries:
        found = [entry for entry in entries if entry.name.endswith(".tar") or entry.is_dir()]
    return bool(found) and not any(entry.is_dir() for entry in found)


def _relabeled(split: ImageSplit, labels: np.ndarray, classes: Sequence[str]) -> ImageSplit:
    """Return a split in which class c is `labels[c]` of `classes`, in the order of these."""
    found = labels[split.labels]
    order = np.argsort(found, kind="stable")
    return dataclasses.replace(split, numbers=split.numbers[order], labels=found[order], classes=classes)


def _first(split: ImageSplit, per_class: int | None) -> ImageSplit:
    """Return the first images of each class of a split that is ordered by class; None keeps all."""
    if per_class is None:
        return split
    starts = np.searchsorted(split.labels, split.labels)  # where each image's class begins
    kept = np.arange(len(split)) - starts < per_class
    return dataclasses.replace(split, numbers=split.numbers[kept], labels=split.labels[kept])


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

    def __getitem__(self, number: int) -> tuple[IO[bytes], int]:
        return io.BytesIO(self.files[number]), int(self.labels[number])

    def filename(self, number: int, basename: bool = False, absolute: bool = False) -> str:
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
