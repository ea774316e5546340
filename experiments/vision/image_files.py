"""Images that stay in files, in folders or tar archives, until they are read: ImageNet, or a sample of it.

timm's readers find the files. Its own data set is not used: that replaces a file which it cannot read by the next one,
with a warning, while a run here names the file and ends.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import errno
import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from experiments.engine.errors import UserError

LAYOUT = (
    "train/<class>/*.JPEG and val/<class>/*.JPEG, one tar archive per class in train/ and val/, or train.tar, val.tar"
)


class UnreadableImage(UserError):
    """An image's file is damaged, or gone."""


class Reader(Protocol):
    """Where images lie."""

    def opened(self, number: int) -> IO[bytes]:
        """Return an image's file, open."""
        ...

    def name(self, number: int) -> str:
        """Return the name of an image's file, with the folders that lead to it."""
        ...


class Files:
    """Files below a folder, by names within it.

    The names are one block of memory: of a million strings each worker would come to make a copy, as Python counts in
    every one who refers to it.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.root, self.block = root, b"".join(encoded)
        self.ends = np.cumsum([0, *map(len, encoded)])

    def opened(self, number: int) -> IO[bytes]:
        return open(self.name(number), "rb")

    def name(self, number: int) -> str:
        return os.path.join(self.root, os.fsdecode(self.block[self.ends[number] : self.ends[number + 1]]))


class Archives:
    """Files in tar archives, which timm's reader keeps open."""

    def __init__(self, reader: Any) -> None:
        self.reader = reader

    def opened(self, number: int) -> IO[bytes]:
        return self.reader[number][0]

    def name(self, number: int) -> str:
        return self.reader.filename(number)


@dataclass(frozen=True)
class ImageSplit:
    """The images of a split, in an order that is the same on every machine: by class, then by name.

    `numbers` int64 [N] are those by which the reader knows the images, `labels` int64 [N] their classes.
    """

    reader: Reader
    numbers: np.ndarray
    labels: np.ndarray
    archive: str = ""  # that holds the files, or the folder of archives that do, for messages
    classes: Sequence[str] = ()  # by label

    def __len__(self) -> int:
        return len(self.numbers)

    def image(self, place: int) -> Image.Image:
        """Return an image in RGB, as it lies in its file: an EXIF orientation is not applied. Raises what Pillow does.

        Grey images get three equal channels, and CMYK is converted as Pillow does it without color profiles.
        """
        with self.reader.opened(int(self.numbers[place])) as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*corrupt EXIF", UserWarning)  # of some of ImageNet's; nothing reads it
            with Image.open(file) as image:
                image.load()
                return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it

    def digest(self) -> str:
        """Return a short digest of the images' names and classes, in their order: the same for folders and archives."""
        found = hashlib.sha256(repr(list(self.classes)).encode())
        for number, label in zip(self.numbers.tolist(), self.labels.tolist(), strict=True):
            name = self.reader.name(number).rpartition("/")[2]
            found.update(f"{label} {name}\n".encode(errors="surrogateescape"))
        return found.hexdigest()[:8]

    def unreadable(self, place: int, error: Exception) -> str:
        """Say in one line which file could not be read, and why."""
        name = self.reader.name(int(self.numbers[place]))
        if self.archive:
            name = f"{name} of the class {self.classes[self.labels[place]]} in {self.archive}"
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "it is in no format that Pillow knows"
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            return f"{name} cannot be read ({reason})"  # as there are too many open files, or a disk is gone
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
    archives = path.is_file() or _holds_archives(path)
    try:
        reader, names, labels = (_in_archives if archives else _in_folders)(path)
    except ImportError:
        raise
    except Exception as error:  # timm's assertions, archives that are cut off, folders that may not be read
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ValueError) and "unpack" in reason:  # of timm, for archives without any
            reason = "there are no images in it"
        raise ValueError(f"{path} cannot be listed ({reason}); wanted in {root}: {LAYOUT}") from error
    if not names:
        raise ValueError(f"{path} cannot be listed (there are no images in it); wanted in {root}: {LAYOUT}")
    classes = sorted(set(labels))
    if "" in classes:
        stray = names[labels.index("")]
        raise ValueError(
            f"{stray} in {path} is in no folder of a class; sort images into such; wanted in {root}: {LAYOUT}"
        )
    # Classes and images by name: timm counts the numbers in names, and leaves equal ones as the file system has them.
    order = sorted(range(len(names)), key=lambda number: (labels[number], names[number]))
    found = np.array([bisect.bisect_left(classes, labels[number]) for number in order])
    return ImageSplit(reader, np.array(order), found, str(path) if archives else "", classes), classes


def _in_folders(path: Path) -> tuple[Reader, list[str], list[str]]:
    """Return a reader of the images in folders, and each one's name and class."""
    from timm.data.readers.reader_image_folder import find_images_and_targets  # heavy: all of timm

    found, numbers = find_images_and_targets(str(path), sort=False)
    classes = {number: name for name, number in numbers.items()}
    names = [os.path.relpath(name, path) for name, _ in found]
    return Files(path, names), names, [classes[number] for _, number in found]


def _in_archives(path: Path) -> tuple[Reader, list[str], list[str]]:
    """Return a reader of the images in one archive or a folder of them, and each one's name and class."""
    from timm.data.readers.reader_image_in_tar import ReaderImageInTar

    # Above 10 GB timm keeps the list of what archives hold in a file beside them, where it may.
    keeps = None if os.access(path.parent if path.is_file() else path, os.W_OK) else False
    tar = ReaderImageInTar(str(path), cache_tarinfo=keeps)
    if path.is_dir():
        _allow_open_files(len(list(path.glob("*.tar"))))
    classes = {number: name for name, number in tar.class_name_to_idx.items()}
    return (
        Archives(tar),
        [sample[0].path for sample in tar.samples],
        [classes[number] for number in tar.targets.tolist()],
    )


def _allow_open_files(count: int) -> None:
    """Let this process, and those that it starts, have so many files open, as timm has its archives, and some more."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count + 512
        if soft != resource.RLIM_INFINITY and soft < wanted:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _holds_archives(path: Path) -> bool:
    """Say whether a folder is one of archives; raises ValueError for archives beside folders."""
    with os.scandir(path) as entries:
        found = sorted((entry.name, entry.is_dir()) for entry in entries)
    folder = next((name for name, is_folder in found if is_folder), None)
    archive = next((name for name, is_folder in found if name.endswith(".tar") and not is_folder), None)
    if folder and archive:
        raise ValueError(f"{path} has both folders ({folder}) and archives ({archive}); move away what is not meant")
    return archive is not None


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
