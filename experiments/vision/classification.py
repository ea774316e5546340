"""Image classification as a task of the engine: CIFAR, digits, or any other `ImageData`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.engine.task import Batch
from experiments.vision.augment import Normalizer, RandomCropFlip, draw_epoch
from experiments.vision.datasets import ImageData

TRAIN_PASSES = ("clean", "augmented", "none")
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
        channels_last: bool = False,
    ) -> None:
        """Load the data and put it on `device`; the caller has put `model` there.

        `padding` and `flip` are the augmentation: random crops of zero-padded images, horizontal flips.
        `train_pass` is the set behind train/loss and train/accuracy: "clean" images, "augmented" ones (the
        same draws at every evaluation), or "none" for no such pass. With `channels_last` inputs come in that
        memory format. Raises ValueError for settings that do not fit the data, and what `dataset` raises.
        """
        data = dataset(data_dir)
        if seed < 0:
            raise ValueError(f"seed={seed} is negative")
        _check(data, num_classes, channels, batch_size, eval_batch_size, train_pass)
        self.model = model
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.seed, self.train_pass = seed, train_pass
        self.steps_per_epoch = -(-len(data.train_images) // batch_size)  # rounded up: no image is dropped

        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._train = RandomCropFlip(data.train_images.to(device), padding, flip, data.mean, data.std, channels_last)
        self._train_labels = data.train_labels.to(device)
        self._val_images = data.val_images.to(device, memory_format=layout)
        self._val_labels = data.val_labels.to(device)
        self._normalize = Normalizer(data.mean, data.std, self._val_images.device)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the augmented batches of `epoch` from number `start` on; the last one may be smaller."""
        starts, labels = self._shown(epoch)
        for first in range(start * self.batch_size, len(labels), self.batch_size):
            last = min(first + self.batch_size, len(labels))
            inputs = self._train(starts[first:last])
            yield Batch(inputs, labels[first:last], size=last - first, weight=float(last - first))

    def loss(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """Return the mean cross entropy of `batch`, a 0-dim float32 tensor."""
        return F.cross_entropy(model(batch.inputs).float(), batch.targets)

    def evaluate(self, model: Callable[[Tensor], Tensor], tick: Callable[[], None]) -> dict[str, float]:
        """Return mean cross entropy and accuracy (percent) as {train,val}/{loss,accuracy}.

        train/* are a pass over the training set without gradient updates (Appendix C.1), absent with
        `train_pass="none"`. One host read a pass. `tick()` is called before each batch and may raise.
        """
        was_training = self.model.training
        self.model.eval()
        try:
            metrics: dict[str, float] = {}
            if self.train_pass != "none":
                metrics["train/loss"], metrics["train/accuracy"] = _score(model, self._train_batches(), tick)
            metrics["val/loss"], metrics["val/accuracy"] = _score(model, self._val_batches(), tick)
            return metrics
        finally:
            self.model.train(was_training)

    def batch_norm_inputs(self) -> Iterator[Tensor]:
        """Yield the inputs of an augmented pass over the training set, in training batches, always the same draws."""
        return (batch.inputs for batch in self.batches(EVALUATION_EPOCH))

    def state_dict(self) -> dict[str, Any]:
        """Return {}: batches follow from (seed, epoch, number), so nothing is carried."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Accept what `state_dict` returned; raises ValueError for anything else."""
        if state:
            raise ValueError(f"ImageClassification carries no state, but was given {sorted(state)}")

    def _shown(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Return where the crops of `epoch` start, and their labels, int64 [N] each, in the order shown."""
        draws = draw_epoch(self.seed, epoch, self._train.count, self._train.padding, self._train.flip)
        order = draws.order.to(self._train_labels.device, non_blocking=True)
        return self._train.starts(draws), self._train_labels[order]

    def _train_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.train_pass == "augmented":
            starts, labels = self._shown(EVALUATION_EPOCH)
            for part, targets in zip(self._split(starts), self._split(labels), strict=True):
                yield self._train(part), targets
            return
        first = 0
        for targets in self._split(self._train_labels):
            yield self._train.clean(first, first + len(targets)), targets
            first += len(targets)

    def _val_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, targets in zip(self._split(self._val_images), self._split(self._val_labels), strict=True):
            yield self._normalize(images), targets

    def _split(self, tensor: Tensor) -> tuple[Tensor, ...]:
        return tensor.split(self.eval_batch_size)


@torch.no_grad()
def _score(
    model: Callable[[Tensor], Tensor], batches: Iterator[tuple[Tensor, Tensor]], tick: Callable[[], None]
) -> tuple[float, float]:
    """Return mean cross entropy and accuracy in percent over `batches` of (inputs, targets)."""
    sums, count = [], 0
    for inputs, targets in batches:
        tick()
        logits = model(inputs).float()
        loss = F.cross_entropy(logits, targets, reduction="sum")
        correct = (logits.argmax(dim=1) == targets).sum()
        sums.append(torch.stack((loss, correct.float())))
        count += len(targets)
    # The one host synchronization of the pass; a batch's sums are exact enough in float32, their total is
    # not.
    loss_sum, correct_sum = torch.stack(sums).cpu().double().sum(dim=0).tolist()
    return loss_sum / count, 100 * correct_sum / count


def _check(
    data: ImageData, num_classes: int, channels: int, batch_size: int, eval_batch_size: int, train_pass: str
) -> None:
    """Raise ValueError, naming the value, where a setting does not fit the data."""
    count = len(data.train_images)
    if not isinstance(batch_size, int) or not 1 <= batch_size <= count:
        raise ValueError(f"batch_size={batch_size} is not an integer in 1..{count}, the number of training images")
    if not isinstance(eval_batch_size, int) or eval_batch_size < 1:
        raise ValueError(f"eval_batch_size={eval_batch_size} is not an integer of at least 1")
    if train_pass not in TRAIN_PASSES:
        raise ValueError(f"train_pass={train_pass!r} is none of {', '.join(TRAIN_PASSES)}")
    if data.train_images.shape[1] != channels:
        raise ValueError(f"channels={channels}, but the images have {data.train_images.shape[1]}")
    top = max(int(data.train_labels.max()), int(data.val_labels.max()))
    if top >= num_classes:
        raise ValueError(f"num_classes={num_classes}, but a label is {top}")
