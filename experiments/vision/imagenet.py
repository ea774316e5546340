"""ImageNet as a task of the engine (Section 5.2, Appendix C.2), or any other set of images in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.engine.processes import Processes
from experiments.engine.task import Batch, Mean, Share, Update
from experiments.vision.augment import draw_epoch
from experiments.vision.cross_entropy import EVALUATION_EPOCH, CrossEntropyTask, check_common, check_whole
from experiments.vision.image_files import ImageFiles, ImageSplit
from experiments.vision.image_loading import Views, evaluation_transform, loaded, training_transform, usual_workers


class ImageNet(CrossEntropyTask):
    """Cross-entropy training on random crops of images in files; top-1 and top-5 accuracy of center crops.

    The order of an epoch is a function of (seed, epoch), and each image's crop and flip of (seed, epoch, image): on any
    number of processes and workers, from any batch on. The last batch keeps what is left over.
    """

    tops = (1, 5)

    def __init__(
        self,
        model: nn.Module,
        images: Callable[[str | Path], ImageFiles],
        *,
        num_classes: int,
        channels: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        data_dir: str | Path,
        size: int = 224,
        resize: int = 256,
        smallest_crop: float = 0.08,
        flip: bool = True,
        workers: int | None = None,
        eval_batch_size: int = 256,
        train_pass: str = "clean",
        channels_last: bool = False,
        model_classes: int | None = None,
    ) -> None:
        """List the images, and open none; the caller has put `model` on `device`.

        Training: crops of `smallest_crop` to all of the area, of width to height 3/4 to 4/3, resized to `size` pixels
        (bilinear), flipped horizontally with probability 1/2 where `flip`. Evaluation: the shorter side is resized to
        `resize` pixels, and the center of `size` pixels is cropped. `workers` processes read the images (None: one for
        each core, 0: this process itself). `train_pass` is the set behind train/*, where that split is asked for: see
        `CrossEntropyTask.evaluate`. Raises ValueError for values out of range, before it calls `images`; for those that
        do not fit the data; and what `images` raises.
        """
        _check(locals())
        files = images(data_dir)
        _check_fits(files, num_classes, batch_size)
        self.model, self.device, self.seed = model, device, seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.train_pass, self.channels_last = train_pass, channels_last
        self.workers = usual_workers() if workers is None else workers
        self.train, self.val = files.train, files.val
        self._cropped = training_transform(size, smallest_crop, flip)
        self._centered = evaluation_transform(size, resize)

    def steps(self, epoch: int = 0) -> int:
        """Return the updates of any epoch: rounded up, as no image is dropped."""
        return -(-len(self.train) // self.batch_size)

    def updates(self, epoch: int, start: int = 0, share: Share = Share()) -> Iterator[Update]:  # noqa: B008 (frozen)
        """Yield the updates of `epoch` from number `start` on; the last one may be smaller."""
        left = self._order(epoch)[start * self.batch_size :]
        wholes = left.split(self.batch_size) if len(left) else ()
        views = Views(self.train, self._cropped, (self.seed, epoch))
        pieces = self._loaded(views, (piece.tolist() for whole in wholes for piece in _pieces(whole, share)))
        for whole in wholes:
            parts = [_batch(*next(pieces)) for _ in share.passes(len(whole))]
            # With nothing of its own, a process passes the first images, with weight 0.
            parts = parts or [Batch(*next(pieces), size=0, weight=0.0)]
            yield Update(parts, weight=float(len(whole)), size=len(whole))

    def data_summary(self) -> dict[str, Any]:
        """Return the number of images of each split, and a digest of their names and classes."""
        splits = {"training": self.train, "validation": self.val}
        counts = {f"{name} images": len(split) for name, split in splits.items()}
        return counts | {f"digest of the names of {name} images": split.digest() for name, split in splits.items()}

    def evaluate(
        self,
        model: Callable[[Tensor], Tensor],
        split: str,
        share: Share,
        processes: Processes,
        tick: Callable[[], None],
    ) -> dict[str, Mean]:
        """Return also <split>/top5_accuracy (percent); otherwise as CrossEntropyTask."""
        if split in self.splits:
            tick()  # a check of the splits ends here, and no image has been read for it
        return super().evaluate(model, split, share, processes, tick)

    def batches(self, split: str, share: Share) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the inputs and labels of this process's part of a split."""
        chosen: ImageSplit = self.val if split == "val" else self.train
        places, views = torch.arange(len(chosen)), Views(chosen, self._centered)
        if split == "train" and self.train_pass == "augmented":
            places = self._order(EVALUATION_EPOCH)
            views = Views(chosen, self._cropped, (self.seed, EVALUATION_EPOCH))
        own = places[share.of(len(chosen))]
        return self._loaded(views, (part.tolist() for part in own.split(self.eval_batch_size) if len(part)))

    def _order(self, epoch: int) -> Tensor:
        """Return the order in which `epoch` shows the training images, int64 [N]."""
        return draw_epoch(self.seed, epoch, len(self.train), padding=0, flip=False).order

    def _loaded(self, views: Views, pieces: Iterator[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        return loaded(views, pieces, self.workers, self.device, self.channels_last)


def _pieces(whole: Tensor, share: Share) -> list[Tensor]:
    """Return the images that this process reads of a batch: those of its passes, or the first two where it has none.

    Batch norm refuses a single one where a layer's image is one pixel.
    """
    return [whole[piece] for piece in share.passes(len(whole))] or [whole[:2]]


def _batch(inputs: Tensor, labels: Tensor) -> Batch:
    return Batch(inputs, labels, size=len(labels), weight=float(len(labels)))


def _check(given: dict[str, Any]) -> None:
    """Raise ValueError, naming value and choices, for the first argument out of range; it reads nothing."""
    check_common(given)
    if given["channels"] != 3:
        raise ValueError(f"task.channels={given['channels']} is not possible; give 3, as images are read in RGB")
    check_whole("task.size", given["size"], 1)
    check_whole("task.resize", given["resize"], given["size"])
    smallest = given["smallest_crop"]
    if not isinstance(smallest, int | float) or isinstance(smallest, bool) or not 0 < smallest <= 1:
        raise ValueError(f"task.smallest_crop={smallest} is not possible; give a number above 0, at most 1")
    if given["workers"] is not None:
        check_whole("runtime.workers", given["workers"], 0)
    if not callable(given["images"]):
        raise ValueError(f"task.images={given['images']} is not possible; give a node with a _target_")
    chosen = getattr(given["images"], "keywords", {})
    for name in ("train_per_class", "val_per_class"):
        if chosen.get(name) is not None:
            check_whole(f"task.images.{name}", chosen[name], 1)
    if not isinstance(chosen.get("folder", ""), str):
        raise ValueError(f"task.images.folder={chosen['folder']} is not possible; give the name of a folder")


def _check_fits(files: ImageFiles, num_classes: int, batch_size: int) -> None:
    """Raise ValueError, naming the value, where a setting does not fit the images."""
    if len(files.classes) != num_classes:
        raise ValueError(
            f"task.num_classes={num_classes}, but the training images are of {len(files.classes)} classes "
            f"({files.classes[0]} ...); give that number, or the folder that is meant"
        )
    count = len(files.train)
    if batch_size > count:
        raise ValueError(f"batch_size={batch_size} is not an integer in 1..{count}, the number of training images")
