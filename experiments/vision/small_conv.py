"""A small convolutional network for images of 8x8 pixels, such as scikit-learn's digits."""

from __future__ import annotations

from torch import Tensor, nn


class SmallConv(nn.Module):
    """Three 3x3 convolutions with batch norm, the last two halving the image, then average and linear layer.

    Maps [B, in_channels, H, W] of any size to logits [B, num_classes]. About 24,000 parameters. Convolutions
    have no bias, which batch norm would cancel.
    """

    def __init__(self, num_classes: int, in_channels: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width, stride in ((in_channels, 16, 1), (16, 32, 2), (32, 64, 2)):
            layers += [
                nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).mean(dim=(2, 3)))
