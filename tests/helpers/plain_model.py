"""A network for digits without batch norm, whose gradients of a batch are the sum of its images'."""

from __future__ import annotations

from torch import Tensor, nn


class PlainModel(nn.Module):
    """64 pixels, 16 hidden units, with dropout where `p` is above 0."""

    def __init__(self, num_classes: int, in_channels: int, p: float = 0.0) -> None:
        super().__init__()
        self.first, self.dropout = nn.Linear(64 * in_channels, 16), nn.Dropout(p)
        self.last = nn.Linear(16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.dropout(self.first(images.flatten(1)).tanh()))
