"""Image classification as a task of the engine: CIFAR, digits, or any other `ImageData`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.engine.processes import Processes
from experiments.engine.task import Batch, Mean, Share, Update
from experiments.vision.augment import Normalizer, RandomCropFlip, draw_epoch
from experiments.vision.datasets import ImageData

MOST_PADDING = 1024  # pixels, whatever the images; they themselves allow less
TRAIN_PASSES = ("clean", "augmented", "none")
SAMPLE = "train_sample"
SPLITS = ("train", "val", SAMPLE)
EVALUATION_EPOCH = -1  # the draws of the augmented passes for evaluation: the same at every evaluation


class ImageClassification:
    """Cross-entropy training on augmented images, evaluated on the training and on the validation set.

    Both sets lie on the device as uint8 tensors. Batch inputs are float32 [B, C, H, W] and targets int64 [B];
    the last batch of an epoch keeps what is left over. An epoch's draws depend on (seed, epoch) alone (see
    `draw_epoch`).
    """

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

    def loss(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """Return the mean cross entropy of `batch`, a 0-dim float32 tensor."""
        return F.cross_entropy(model(batch.inputs).float(), batch.targets)

    def evaluate(
        self,
        model: Callable[[Tensor], Tensor],
        split: str,
        share: Share,
        processes: Processes,
        tick: Callable[[], None],
    ) -> dict[str, Mean]:
        """Return mean cross entropy and accuracy (percent) of this process's images as <split>/{loss,accuracy}.

        train/* are a pass over the training set without gradient updates (Appendix C.1), absent with
        `train_pass="none"`. One host read per pass. `tick()` is called before each batch and may raise.
        """
        if split not in SPLITS:
            raise ValueError(f"evaluation.splits: there is no {split}; choose from {', '.join(SPLITS)}")
        if split == "train" and self.train_pass == "none":
            return {}
        was_training = self.model.training
        self.model.eval()
        try:
            batches = self._val_batches(share) if split == "val" else self._train_batches(split, share)
            loss, correct, count = _score(model, batches, tick)
            return {f"{split}/loss": Mean(loss, count), f"{split}/accuracy": Mean(100 * correct, count)}
        finally:
            self.model.train(was_training)

    def derive(self, metrics: dict[str, float]) -> dict[str, float]:
        """Return {}: loss and accuracy are all."""
        return {}

    def batch_norm_inputs(self) -> Iterator[Tensor]:
        """Yield the inputs of an augmented pass over the training set, in training batches, always the same draws."""
        return (update.parts[0].inputs for update in self.updates(EVALUATION_EPOCH))

    def state_dict(self) -> dict[str, Any]:
        """Return {}: batches follow from (seed, epoch, number), so nothing is carried."""
        return {}

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Accept what `state_dict` returned; raises ValueError for anything else."""
        for state in states:
            if state:
                raise ValueError(f"ImageClassification carries no state, but was given {sorted(state)}")

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


@torch.no_grad()
def _score(
    model: Callable[[Tensor], Tensor], batches: Iterator[tuple[Tensor, Tensor]], tick: Callable[[], None]
) -> tuple[float, float, int]:
    """Return the sum of cross entropies, how many are correct, and how many there are in `batches`."""
    sums, count = [], 0
    for inputs, targets in batches:
        tick()
        logits = model(inputs).float()
        loss = F.cross_entropy(logits, targets, reduction="sum")
        correct = (logits.argmax(dim=1) == targets).sum()
        sums.append(torch.stack((loss, correct.float())))
        count += len(targets)
    if not sums:
        return 0.0, 0.0, 0
    # The one host synchronization of the pass; a batch's sums are exact enough in float32, their total is
    # not.
    loss_sum, correct_sum = torch.stack(sums).cpu().double().sum(dim=0).tolist()
    return loss_sum, correct_sum, count


def _check(given: dict[str, Any]) -> None:
    """Raise ValueError, naming value and choices, for the first argument out of range; it needs no data."""
    for name in ("num_classes", "channels", "train_sample", "batch_size", "eval_batch_size"):
        _whole(name if name in ("batch_size", "eval_batch_size") else f"task.{name}", given[name], 1)
    _whole("seed", given["seed"], 0)
    _whole("task.padding", given["padding"], 0, MOST_PADDING)
    for name in ("flip", "channels_last"):
        if not isinstance(given[name], bool):
            raise ValueError(f"task.{name}={given[name]} is not possible; give true or false")
    if given["train_pass"] not in TRAIN_PASSES:
        raise ValueError(f"evaluation.train_pass={given['train_pass']} is none of {', '.join(TRAIN_PASSES)}")
    if not callable(given["dataset"]):
        raise ValueError(f"task.dataset={given['dataset']} is not possible; give a node with a _target_")
    subsets = getattr(given["dataset"], "keywords", {})
    for name in ("train_subset", "val_subset"):
        if subsets.get(name) is not None:
            _whole(f"task.dataset.{name}", subsets[name], 1)
    if given["model_classes"] not in (None, given["num_classes"]):
        raise ValueError(f"model.num_classes={given['model_classes']}, but the task has {given['num_classes']} classes")


def _whole(name: str, value: Any, least: int, most: float = math.inf) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        allowed = f"at least {least}" + (f", at most {most}" if most < math.inf else "")
        raise ValueError(f"{name}={value} is not possible; give a whole number of {allowed}")


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
