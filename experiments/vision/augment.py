"""Random crop, flip and normalization of whole batches, from a uint8 data set that stays on the device.

Every possible crop of a zero-padded set is a window that starts somewhere in its memory, so cropping is one
gather of windows; a mirrored second copy of the set makes a flip just another starting point. The draws of a
whole epoch become one tensor of starting points, and a batch is a slice of it: no host synchronization, and
fast without an accelerator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The random choices of one epoch, int64 [N] each on the CPU: entry j is for the j-th image shown.

    `order` is a permutation of the images; `top` and `left` are 0..2*padding in the padded image; `flip` is 0
    or 1, and mirrors the crop.
    """

    order: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor


def draw_epoch(seed: int, epoch: int, count: int, padding: int, flip: bool) -> Draws:
    """Draw the order, crops and flips of `count` images: a function of (seed, epoch), on any device.

    `epoch` is -1 for the augmented evaluation pass. Raises ValueError for a negative seed or an epoch below
    -1.
    """
    if seed < 0 or epoch < -1:
        raise ValueError(f"seed={seed} must be at least 0 and epoch={epoch} at least -1")
    # Hashed, because neighbouring (seed, epoch) must not share a stream, nor (0, 0) that of the weights' own
    # seed 0.
    mixed = np.random.SeedSequence((seed, epoch + 1)).generate_state(1)
    generator = torch.Generator().manual_seed(int(mixed[0]))
    order = torch.randperm(count, generator=generator)
    top = torch.randint(2 * padding + 1, (count,), generator=generator)
    left = torch.randint(2 * padding + 1, (count,), generator=generator)
    mirrored = torch.randint(2 if flip else 1, (count,), generator=generator)
    return Draws(order, top, left, mirrored)


class Normalizer:
    """Turns uint8 images [B, C, H, W] into float32, (pixel / 255 - mean) / std, in the same memory format."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> None:
        # In units of pixels: one pass fewer than dividing by 255 first.
        self.mean = (torch.tensor(mean, dtype=torch.float64) * 255).view(-1, 1, 1).to(device, torch.float32)
        self.std = (torch.tensor(std, dtype=torch.float64) * 255).view(-1, 1, 1).to(device, torch.float32)

    def __call__(self, images: Tensor) -> Tensor:
        return images.float().sub_(self.mean).div_(self.std)


class RandomCropFlip:
    """Random crops of zero-padded images, random horizontal flips, and normalization, a batch at a time.

    Zeros are padded before the normalization, so a border pixel becomes -mean / std (DeVries & Taylor's
    Cutout code). Holds 2 * (1 + 2 * padding / H) * (1 + 2 * padding / W) times the memory of `images` (half
    without flips): 3.1 times for CIFAR. `images` (uint8 [N, C, H, W], on any device) itself is not kept.
    """

    def __init__(
        self,
        images: Tensor,
        padding: int,
        flip: bool,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        channels_last: bool = False,
    ) -> None:
        """Build the padded set on the device of `images`; raises ValueError for a negative padding."""
        if padding < 0:
            raise ValueError(f"padding={padding} is negative")
        self.count, channels, height, width = images.shape
        self.padding, self.flip = padding, flip
        self.normalize = Normalizer(mean, std, images.device)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        shape = (self.count * (1 + flip), channels, height + 2 * padding, width + 2 * padding)
        padded = torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=layout).zero_()
        interior = padded[:, :, padding : padding + height, padding : padding + width]
        interior[: self.count].copy_(images)
        if flip:
            interior[self.count :].copy_(images.flip(-1))
        self._interior = interior[: self.count]
        self._image, channel, self._row, self._column = padded.stride()
        # windows[s] is the crop whose first byte is byte s; its axes are in the order of memory.
        self._axes = (0, 3, 1, 2) if channels_last else (0, 1, 2, 3)
        sizes, strides = (channels, height, width), (channel, self._row, self._column)
        if channels_last:
            sizes, strides = (height, width, channels), (self._row, self._column, channel)
        span = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        self._windows = padded.as_strided((padded.numel() - span, *sizes), (1, *strides))

    def starts(self, draws: Draws) -> Tensor:
        """Return where the drawn crops start, int64 [N] on the device; any slice of it makes a batch."""
        image = draws.order + self.count * draws.flip
        # The crop comes before the flip: what is `left` in an image is 2 * padding - left in its mirrored
        # copy.
        left = torch.where(draws.flip == 1, 2 * self.padding - draws.left, draws.left)
        start = image * self._image + draws.top * self._row + left * self._column
        return start.to(self._windows.device, non_blocking=True)

    def __call__(self, starts: Tensor) -> Tensor:
        """Return the crops that begin at `starts` [B] as a new normalized float32 tensor [B, C, H, W]."""
        # index_select copies contiguous rows: on a CPU three times as fast as indexing windows with [starts].
        crops = torch.index_select(self._windows, 0, starts)
        return self.normalize(crops.permute(self._axes))

    def clean(self, first: int, last: int) -> Tensor:
        """Return images first..last-1, neither cropped nor flipped, as normalized float32 [B, C, H, W]."""
        return self.normalize(self._interior[first:last])
