"""The pre-activation bottleneck network of the SWA code, for Appendix D.3's Figure 15."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

EXPANSION = 4  # of a bottleneck's channels, at its end


class Bottleneck(nn.Module):
    """Batch norm, ReLU and convolution three times (1x1, 3x3, 1x1), added to a shortcut of the raw input.

    The shortcut is the identity, or a bare 1x1 convolution where the shape changes. Maps [B, in_width, H, W] to
    [B, 4 width, H / stride, W / stride], rounded up.
    """

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        out_width = EXPANSION * width
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_width, 1, bias=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_width != out_width:
            self.shortcut = nn.Conv2d(in_width, out_width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        out = self.conv3(F.relu(self.bn3(out)))
        return out + self.shortcut(x)


class PreResNet(nn.Module):
    """A 3x3 stem, three stages of bottlenecks of 16, 32 and 64 channels, batch norm, average and linear layer.

    Maps [B, in_channels, H, W] of any size to logits [B, num_classes]. Convolutions are initialized as in the SWA code:
    normal with variance 2 / (kernel area x output channels). Raises ValueError where the depth is not 9n + 2.
    """

    def __init__(self, num_classes: int, depth: int, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 11 or (depth - 2) % 9:
            raise ValueError(f"depth={depth} is not possible; give 9n + 2 with n of at least 1")
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        in_width = 16
        for stage, width in enumerate((16, 32, 64)):
            for block in range((depth - 2) // 9):
                blocks.append(Bottleneck(in_width, width, stride=2 if stage > 0 and block == 0 else 1))
                in_width = EXPANSION * width
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(in_width)
        self.linear = nn.Linear(in_width, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                area = layer.kernel_size[0] * layer.kernel_size[1]
                nn.init.normal_(layer.weight, std=math.sqrt(2 / (area * layer.out_channels)))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn(self.blocks(self.stem(x))))
        return self.linear(out.mean(dim=(2, 3)))


def preresnet110(num_classes: int, in_channels: int = 3) -> PreResNet:
    """Return the PreResNet-110 of Appendix D.3, with 1,169,972 parameters for 100 classes."""
    return PreResNet(num_classes, depth=110, in_channels=in_channels)


def preresnet11(num_classes: int, in_channels: int = 3) -> PreResNet:
    """Return the smallest PreResNet, for proxies and tests."""
    return PreResNet(num_classes, depth=11, in_channels=in_channels)
