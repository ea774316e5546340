"""The wide residual network of the SWA code, for Appendix D.3's Figure 16."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class WideBlock(nn.Module):
    """Batch norm, ReLU and 3x3 convolution twice, the second one strided, added to a shortcut of the raw input.

    The shortcut is the identity, or a 1x1 convolution where the shape changes. All convolutions have biases, as in the
    SWA code. Maps [B, in_width, H, W] to [B, width, H / stride, W / stride], rounded up.
    """

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_width != width:
            self.shortcut = nn.Conv2d(in_width, width, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return out + self.shortcut(x)


class WideResNet(nn.Module):
    """A 3x3 stem, three stages of blocks, 16, 32 and 64 times `widening` wide, batch norm, average and linear layer.

    Maps [B, in_channels, H, W] of any size to logits [B, num_classes]. Initialization is PyTorch's default, as the SWA
    code defines another one and never applies it; the last batch norm keeps 10 % of its old statistics at each pass, as
    there. Raises ValueError where the depth is not 6n + 4.
    """

    def __init__(self, num_classes: int, depth: int, widening: int, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth={depth} is not possible; give 6n + 4 with n of at least 1")
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1)
        blocks: list[nn.Module] = []
        in_width = 16
        for stage, width in enumerate((16 * widening, 32 * widening, 64 * widening)):
            for block in range((depth - 4) // 6):
                blocks.append(WideBlock(in_width, width, stride=2 if stage > 0 and block == 0 else 1))
                in_width = width
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(in_width, momentum=0.9)
        self.linear = nn.Linear(in_width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn(self.blocks(self.stem(x))))
        return self.linear(out.mean(dim=(2, 3)))


def wrn28_10(num_classes: int, in_channels: int = 3) -> WideResNet:
    """Return the WRN-28-10 of Appendix D.3, with 36,546,980 parameters for 100 classes."""
    return WideResNet(num_classes, depth=28, widening=10, in_channels=in_channels)


def wrn10_1(num_classes: int, in_channels: int = 3) -> WideResNet:
    """Return the smallest WRN, for proxies and tests."""
    return WideResNet(num_classes, depth=10, widening=1, in_channels=in_channels)
