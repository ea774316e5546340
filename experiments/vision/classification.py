"""Image classification as a task of the engine: CIFAR, digits, or any other `ImageData`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.engine.task import Batch, Share, Update
from experiments.vision.augment import Normalizer, RandomCropFlip, draw_epoch
from experiments.vision.cross_entropy import EVALUATION_EPOCH, CrossEntropyTask, check_common, check_whole
from experiments.vision.datasets import ImageData

MOST_PADDING = 1024  # pixels, whatever the images; they themselves allow less
SAMPLE = "train_sample"


class ImageClassification(CrossEntropyTask):
    """Cross-entropy training on augmented images, evaluated on the training and on the validation set.

    Both sets lie on the device as uint8 tensors. Batch inputs are float32 [B, C, H, W] and targets int64 [B];
    the last batch of an epoch keeps what is left over. An epoch's draws depend on (seed, epoch) alone (see
    `draw_epoch`).
    """

    splits = ("train", "val", SAMPLE)

    def __init__(
        self,
        model: nn.Module,
        dataset: Callable[[str | Path], ImageData],
        *,
        num_classes: int,
        channels: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        data_dir: str | Path,
        padding: int = 4,
        flip: bool = True,
        eval_batch_size: int = 1000,
        train_pass: str = "clean",
        train_sample: int = 5000,
        channels_last: bool = False,
        model_classes: int | None = None,
    ) -> None:
        """Load the data and put it on `device`; the caller has put `model` there.

        `padding` and `flip` are the augmentation: random crops of zero-padded images, horizontal flips.
        `train_pass` is the set behind train/loss and train/accuracy: "clean" images, "augmented" ones (the
        same draws at every evaluation), or "none" for no such pass. The split "train_sample" is the first
        `train_sample` training images, clean, or all where there are fewer. With `channels_last` inputs come in that
        memory format. `model_classes`, where it is given, is what the model was made for. Raises ValueError for
        values out of range, before it calls `dataset`; for those that do not fit the data; and what `dataset` raises.
        """
        _check(locals())
        data = dataset(data_dir)
        _check_fits(data, num_classes, channels, batch_size, padding)
        self.model = model
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.seed, self.train_pass = seed, train_pass
        self._sample = min(train_sample, len(data.train_images))

        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._train = RandomCropFlip(data.train_images.to(device), padding, flip, data.mean, data.std, channels_last)
        self._train_labels = data.train_labels.to(device)
        self._val_images = data.val_images.to(device, memory_format=layout)
        self._val_labels = data.val_labels.to(device)
        self._normalize = Normalizer(data.mean, data.std, self._val_images.device)

    def steps(self, epoch: int = 0) -> int:
        """Return the updates of any epoch: rounded up, as no image is dropped."""
        return -(-self._train.count // self.batch_size)

    def updates(self, epoch: int, start: int = 0, share: Share = Share()) -> Iterator[Update]:  # noqa: B008 (frozen)
        """Yield the updates of `epoch` from number `start` on; the last one may be smaller."""
        starts, labels = self._shown(epoch)
        for first in range(start * self.batch_size, len(labels), self.batch_size):
            size = min(self.batch_size, len(labels) - first)
            parts = [
                self._batch(starts, labels, first + piece.start, first + piece.stop) for piece in share.passes(size)
            ]
            # With nothing of its own, a process passes the first image, with weight 0.
            parts = parts or [dataclasses.replace(self._batch(starts, labels, first, first + 1), size=0, weight=0.0)]
            yield Update(parts, weight=float(size), size=size)

    def _batch(self, starts: Tensor, labels: Tensor, first: int, last: int) -> Batch:
        return Batch(self._train(starts[first:last]), labels[first:last], size=last - first, weight=float(last - first))

    def batches(self, split: str, share: Share) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the inputs and labels of this process's part of a split."""
        return self._val_batches(share) if split == "val" else self._train_batches(split, share)

    def _shown(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Return where the crops of `epoch` start, and their labels, int64 [N] each, in the order shown."""
        draws = draw_epoch(self.seed, epoch, self._train.count, self._train.padding, self._train.flip)
        order = draws.order.to(self._train_labels.device, non_blocking=True)
        return self._train.starts(draws), self._train_labels[order]

    def _train_batches(self, split: str, share: Share) -> Iterator[tuple[Tensor, Tensor]]:
        own = share.of(self._sample if split == SAMPLE else self._train.count)
        if self.train_pass == "augmented" and split != SAMPLE:
            starts, labels = (whole[own] for whole in self._shown(EVALUATION_EPOCH))
            for part, targets in zip(self._split(starts), self._split(labels), strict=True):
                yield self._train(part), targets
            return
        first = own.start
        for targets in self._split(self._train_labels[own]):
            yield self._train.clean(first, first + len(targets)), targets
            first += len(targets)

    def _val_batches(self, share: Share) -> Iterator[tuple[Tensor, Tensor]]:
        own = share.of(len(self._val_labels))
        parts = zip(self._split(self._val_images[own]), self._split(self._val_labels[own]), strict=True)
        for images, targets in parts:
            yield self._normalize(images), targets

    def _split(self, tensor: Tensor) -> tuple[Tensor, ...]:
        return tensor.split(min(self.eval_batch_size, len(tensor))) if len(tensor) else ()


def _check(given: dict[str, Any]) -> None:
    """Raise ValueError, naming value and choices, for the first argument out of range; it needs no data."""
    check_common(given)
    check_whole("task.train_sample", given["train_sample"], 1)
    check_whole("task.padding", given["padding"], 0, MOST_PADDING)
    if not callable(given["dataset"]):
        raise ValueError(f"task.dataset={given['dataset']} is not possible; give a node with a _target_")
    subsets = getattr(given["dataset"], "keywords", {})
    for name in ("train_subset", "val_subset"):
        if subsets.get(name) is not None:
            check_whole(f"task.dataset.{name}", subsets[name], 1)


def _check_fits(data: ImageData, num_classes: int, channels: int, batch_size: int, padding: int) -> None:
    """Raise ValueError, naming the value, where a setting does not fit the data."""
    count = len(data.train_images)
    if batch_size > count:
        raise ValueError(f"batch_size={batch_size} is not an integer in 1..{count}, the number of training images")
    if data.train_images.shape[1] != channels:
        raise ValueError(f"channels={channels}, but the images have {data.train_images.shape[1]}")
    least = min(data.train_images.shape[2:])
    if padding > least:  # a crop could hold nothing of its image
        raise ValueError(f"task.padding={padding} is not possible; give at most {least}, the size of the images")
    top = max(int(data.train_labels.max()), int(data.val_labels.max()))
    if top >= num_classes:
        raise ValueError(f"num_classes={num_classes}, but a label is {top}")
