"""Batches of images from files: read, cropped and flipped by worker processes, normalized on a GPU or else by them.

What a batch holds depends neither on the number of workers nor on where an epoch begins: each image's crop and flip are
drawn from a stream of its own. timm's `create_loader` cannot start within an epoch, so of timm comes the copying to the
device ahead of time; the transforms are torchvision's, as in the code that the paper used, which draw from torch's
generator alone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from experiments.engine.errors import UserError
from experiments.vision.image_files import ImageSplit, UnreadableImage

# Of pytorch/examples, for ImageNet: in units of pixel / 255, one entry per channel.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
MOST_WORKERS = 16  # unless more are asked for: each holds two batches in shared memory
RATIO = (3 / 4, 4 / 3)  # of the width of a random crop to its height
# A terminal and Slurm send these to every process of a job: the run's own process decides, and its workers end with it.
LEFT_TO_THE_RUN = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

Transform = Callable[[Image.Image], Tensor]
Sample = tuple[Tensor, int]  # of an image: uint8 [3, H, W], and its class


def training_transform(size: int, smallest_crop: float, flip: bool) -> Transform:
    """Return a random crop of at least `smallest_crop` of the area, resized to `size` pixels, and perhaps flipped.

    It returns uint8 [3, size, size] and draws from torch's generator.
    """
    crop = transforms.RandomResizedCrop(size, (smallest_crop, 1.0), RATIO, InterpolationMode.BILINEAR)
    return transforms.Compose([crop, transforms.RandomHorizontalFlip(0.5 if flip else 0.0), transforms.PILToTensor()])


def evaluation_transform(size: int, resize: int) -> Transform:
    """Return the center crop of `size` pixels of an image whose shorter side is resized to `resize`: uint8."""
    shorter = transforms.Resize(resize, InterpolationMode.BILINEAR)
    return transforms.Compose([shorter, transforms.CenterCrop(size), transforms.PILToTensor()])


@dataclass(frozen=True)
class _Unreadable:
    """What a worker returns in the place of a batch: an exception would come with the worker's traceback in it."""

    message: str


class Views(Dataset):
    """The images of a split as a transform shows them, uint8 [3, H, W], with their labels.

    With `draws`, a seed and an epoch, each image's random numbers are a function of (seed, epoch, image).
    """

    def __init__(self, split: ImageSplit, transform: Transform, draws: tuple[int, int] | None = None) -> None:
        self.split, self.transform, self.draws = split, transform, draws

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, place: int) -> Sample | _Unreadable:
        try:
            image = self.split.image(place)
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises almost anything for a damaged file
            return _Unreadable(self.split.unreadable(place, error))
        with torch.random.fork_rng(devices=[]):  # this may be the run's own process
            if self.draws is not None:
                torch.default_generator.manual_seed(image_seed(*self.draws, place))
            return self.transform(image), int(self.split.labels[place])


def image_seed(seed: int, epoch: int, place: int) -> int:
    """Return what seeds the draws for one image in an epoch, from -1 on."""
    # A spawn key, as a plain third number 0 would give the stream of (seed, epoch), which orders the images.
    mixed = np.random.SeedSequence((seed, epoch + 1), spawn_key=(place,)).generate_state(1, np.uint64)
    return int(mixed[0]) >> 1


def loaded(
    views: Views, pieces: Iterable[Sequence[int]], workers: int, device: torch.device, channels_last: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images of each piece, a list of places in the split: normalized float32 [B, 3, H, W], int64 [B].

    The next piece is on its way to `device` already. Raises UnreadableImage, which names the file, and UserError where
    a worker was killed. The generators of this process stay as they are.
    """
    on_cpu = device.type == "cpu"
    loader = DataLoader(
        views,
        batch_sampler=pieces,
        num_workers=workers,
        collate_fn=partial(_collated, channels_last=channels_last, normalize=on_cpu),
        pin_memory=not on_cpu,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),  # of the workers' seeds, which nothing here uses
    )
    if on_cpu:  # its cores are the workers', and there is nothing to copy
        yield from _Whole(loader)
    else:
        from timm.data.loader import PrefetchLoader  # heavy: all of timm

        yield from PrefetchLoader(_Whole(loader), MEAN, STD, device=device)


class _Whole:
    """A loader whose errors are raised in the process that asks, in one line."""

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        try:
            for batch in self.loader:
                if isinstance(batch, _Unreadable):
                    raise UnreadableImage(batch.message)
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"a process that reads images ended ({' '.join(str(error).split())}); where memory is short, give "
                f"fewer than runtime.workers={self.loader.num_workers}"
            ) from error


def _collated(
    samples: Sequence[Sample | _Unreadable], channels_last: bool, normalize: bool
) -> tuple[Tensor, Tensor] | _Unreadable:
    """Return uint8, or normalized float32, [B, 3, H, W] and int64 [B], in memory that a worker shares with the run."""
    unreadable = next((sample for sample in samples if isinstance(sample, _Unreadable)), None)
    if unreadable is not None:
        return unreadable
    # [H, W, 3] is how Pillow has them: put together so for channels_last no pixel is moved again.
    pixels = [image.permute(1, 2, 0).contiguous() for image, _ in samples]
    if normalize:
        pixels = [normalized(image) for image in pixels]
    if not channels_last:
        pixels = [image.permute(2, 0, 1) for image in pixels]
    inputs, labels = default_collate([(image, label) for image, (_, label) in zip(pixels, samples, strict=True)])
    return (inputs.permute(0, 3, 1, 2) if channels_last else inputs), labels


def normalized(image: Tensor) -> Tensor:
    """Return uint8 pixels [H, W, 3] as (pixel - 255 MEAN) / (255 STD), float32, as timm's PrefetchLoader does it."""
    height, width, channels = image.shape
    # By whole rows: three numbers at a time are half as fast.
    mean, std = (torch.tensor([255 * value for value in values]).repeat(width) for values in (MEAN, STD))
    return image.view(height, width * channels).float().sub_(mean).div_(std).view(image.shape)


def _leave_signals(worker: int) -> None:
    for signum in LEFT_TO_THE_RUN:
        signal.signal(signum, signal.SIG_IGN)
    # So is the first SIGTERM. A second one ends the worker: Python sends more of them when the run's process exits, and
    # then waits.
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.signal(signum, signal.SIG_DFL) and None)


def usual_workers() -> int:
    """Return how many cores there are for each of torchrun's processes on this host, from 1 to MOST_WORKERS.

    Under Slurm it counts the cores that a task was given, as not every cluster binds tasks to them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given, local = (os.environ.get(name, "") for name in ("SLURM_CPUS_PER_TASK", "LOCAL_WORLD_SIZE"))
    if given.isdecimal():
        cores = min(cores, int(given))
    return min(MOST_WORKERS, max(1, cores // max(1, int(local) if local.isdecimal() else 1)))
