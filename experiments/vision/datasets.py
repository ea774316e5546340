"""Image-classification data as uint8 tensors: CIFAR-10 and -100, scikit-learn's digits, synthetic images."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from experiments.engine import downloads

# DeVries & Taylor's Cutout code, which the paper trains with, normalizes both CIFARs with these same
# constants.
CIFAR_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)
CIFAR_STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)
CIFAR_CONSTANTS = {
    "cutout": (CIFAR_MEAN, CIFAR_STD),
    "swa": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),  # of Izmailov et al.'s SWA code (Appendix D.3)
}

POOLS = (1, 2, 4, 8, 16, 32)  # that divide a CIFAR's 32 pixels

DIGITS_TRAIN = 1437  # of 1,797; the other 360 validate
DOWNLOAD_ERRORS = (*downloads.ERRORS, tarfile.TarError)


@dataclass(frozen=True)
class ImageData:
    """A training and a validation set of images.

    Images are uint8 [N, C, H, W], labels int64 [N]; `mean` and `std` have one entry a channel, in units of
    pixel / 255.
    """

    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
    val_labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.train_images.shape[1] == self.val_images.shape[1]:
            raise ValueError(
                f"mean has {len(self.mean)} entries and std {len(self.std)}, for training images of "
                f"{self.train_images.shape[1]} channels and validation images of {self.val_images.shape[1]}"
            )

    def first(self, train_subset: int | None, val_subset: int | None) -> ImageData:
        """Return the first `train_subset` training and `val_subset` validation images; None keeps all.

        Raises ValueError where a subset is outside 1..N.
        """
        train = _count("train_subset", train_subset, len(self.train_images))
        val = _count("val_subset", val_subset, len(self.val_images))
        return ImageData(
            self.train_images[:train],
            self.train_labels[:train],
            self.val_images[:val],
            self.val_labels[:val],
            self.mean,
            self.std,
        )


def _count(name: str, subset: int | None, available: int) -> int:
    if subset is None:
        return available
    if not 1 <= subset <= available:
        raise ValueError(f"{name}={subset} is outside 1..{available}, the number of images there are")
    return subset


def cifar10(
    data_dir: str | Path,
    train_subset: int | None = None,
    val_subset: int | None = None,
    constants: str = "cutout",
    pool: int = 1,
) -> ImageData:
    """Return CIFAR-10: 50,000 training and 10,000 validation images of 3x32x32 in 10 classes.

    The test set validates, as in the paper. `pool` and errors: see `cifar100`.
    """
    return _cifar(CIFAR10, data_dir, constants, pool).first(train_subset, val_subset)


def cifar100(
    data_dir: str | Path,
    train_subset: int | None = None,
    val_subset: int | None = None,
    constants: str = "cutout",
    pool: int = 1,
) -> ImageData:
    """Return CIFAR-100: 50,000 training and 10,000 validation images of 3x32x32 in 100 (fine) classes.

    With `pool` = n the images are 32/n pixels high and wide, each the mean of n x n pixels (for small machines).
    Files that are in `data_dir` and have the official checksums are used as they are; otherwise the archive
    is downloaded. Raises FileNotFoundError, naming the first missing or damaged file, where that fails too, and
    ValueError for a subset outside 1..N; `constants` that are not in CIFAR_CONSTANTS and a `pool` that is not in
    POOLS raise it before any of that.
    """
    return _cifar(CIFAR100, data_dir, constants, pool).first(train_subset, val_subset)


def digits(
    data_dir: str | Path | None = None, train_subset: int | None = None, val_subset: int | None = None
) -> ImageData:
    """Return scikit-learn's digits: 1,437 training and 360 validation images of 1x8x8 in 10 classes.

    The images come with scikit-learn, so `data_dir` is not read. Values 0..16 are scaled to 0..255. The split
    is the permutation `numpy.random.RandomState(0).permutation(1797)`: its first 1,437 entries train, the
    others validate. Mean and standard deviation are those of all 1,437 training images, whatever the subset.
    """
    from sklearn.datasets import load_digits  # heavy, and only this data set needs it

    bunch = load_digits()
    images = torch.from_numpy((bunch.images * (255 / 16)).round().astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(images)))
    train, val = order[:DIGITS_TRAIN], order[DIGITS_TRAIN:]
    pixels = images[train].double() / 255
    mean, std = (pixels.mean().item(),), (pixels.std(correction=0).item(),)
    data = ImageData(images[train], labels[train], images[val], labels[val], mean, std)
    return data.first(train_subset, val_subset)


def synthetic(
    data_dir: str | Path | None = None,
    train_subset: int = 512,
    val_subset: int = 128,
    classes: int = 10,
    channels: int = 3,
    size: int = 32,
    constants: str | None = None,
) -> ImageData:
    """Return images made in code from a fixed seed: a coarse pattern a class, plus noise.

    `data_dir` and `constants` are not read: a configuration that puts these images in the place of a CIFAR's has
    them. A subset is the number of images made. Every number must be at least 1
    (ValueError).
    """
    given = {"train_subset": train_subset, "val_subset": val_subset, "classes": classes}
    for name, value in (given | {"channels": channels, "size": size}).items():
        if value < 1:
            raise ValueError(f"{name}={value} is below 1")
    generator = torch.Generator().manual_seed(20191908)
    coarse = torch.randn(classes, channels, 4, 4, generator=generator)
    patterns = F.interpolate(coarse, size=(size, size), mode="nearest")

    def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
        # A generator a set: the validation images do not depend on how many training images are asked for.
        noise = torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))
        labels = torch.arange(count) % classes
        images = (128 + 40 * patterns[labels] + 40 * noise).clamp_(0, 255).round_()
        return images.to(torch.uint8), labels

    half, quarter = (0.5,) * channels, (0.25,) * channels
    return ImageData(*draw(train_subset, 1), *draw(val_subset, 2), half, quarter)


def _cifar(dataset: type[CIFAR10], data_dir: str | Path, constants: str, pool: int) -> ImageData:
    """Return all of a CIFAR from torchvision's files under `data_dir`, downloaded if need be."""
    if constants not in CIFAR_CONSTANTS:
        raise ValueError(f"task.dataset.constants={constants} is none of {', '.join(CIFAR_CONSTANTS)}")
    if type(pool) is not int or pool not in POOLS:
        raise ValueError(f"task.dataset.pool={pool} is none of {', '.join(map(str, POOLS))}")
    root = Path(data_dir).expanduser()
    problem = _first_problem(dataset, root)
    if problem is not None:
        try:
            _download(dataset, root)
        except DOWNLOAD_ERRORS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise FileNotFoundError(
                f"{problem}, and the download failed ({reason}); "
                f"put the contents of {dataset.url} into {root / dataset.base_folder}"
            ) from error
    train, val = dataset(root, train=True), dataset(root, train=False)
    return ImageData(*_tensors(train, pool), *_tensors(val, pool), *CIFAR_CONSTANTS[constants])


def _tensors(dataset: CIFAR10, pool: int) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    if pool > 1:
        images = F.avg_pool2d(images.float(), pool).round_().to(torch.uint8)
    return images, torch.tensor(dataset.targets, dtype=torch.int64)


def _files(dataset: type[CIFAR10]) -> list[tuple[str, str]]:
    """Return (name, md5) of every file that torchvision reads for `dataset`."""
    meta = (dataset.meta["filename"], dataset.meta["md5"])
    return [(name, md5) for name, md5 in dataset.train_list + dataset.test_list] + [meta]


def _first_problem(dataset: type[CIFAR10], root: Path) -> str | None:
    """Return what is wrong with the first bad file, or None where every file is there and whole."""
    for name, md5 in _files(dataset):
        path = root / dataset.base_folder / name
        if not path.is_file():
            return f"{path} is missing"
        if not check_integrity(path, md5):
            return f"{path} is damaged (checksum differs)"
    return None


def _download(dataset: type[CIFAR10], root: Path) -> None:
    """Download `dataset` beside what is in `root`, and move its files there once all are whole.

    A failure therefore leaves every file in `root` as it was. Raises one of DOWNLOAD_ERRORS.
    """
    with downloads.staging(root) as folder:
        archive = root / dataset.filename
        if check_integrity(archive, dataset.tgz_md5):  # already here, and only to be extracted
            (folder / dataset.filename).symlink_to(archive.resolve())
        dataset(folder, download=True)  # raises unless every file has its checksum
        (root / dataset.base_folder).mkdir(exist_ok=True)
        for name, _ in _files(dataset):
            os.replace(folder / dataset.base_folder / name, root / dataset.base_folder / name)
