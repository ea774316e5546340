"""Residual networks for small images: the paper's wide CIFAR ResNet-18, and He et al.'s thin 6n+2 family."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Padded(nn.Module):
    """The identity where the shape changes: every stride-th pixel, and new channels that are zero (He et al., A)."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.before = stride, (width - in_width) // 2
        self.behind = width - in_width - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.behind))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to a shortcut, with the ReLU after the sum.

    The shortcut is the identity; where the shape changes it is a 1x1 convolution with batch norm, or with `padded`
    He et al.'s identity without parameters. Maps [B, in_width, H, W] to [B, width, H / stride, W / stride], rounded up.
    """

    def __init__(self, in_width: int, width: int, stride: int, padded: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if (stride != 1 or in_width != width) and padded:
            self.shortcut = Padded(in_width, width, stride)
        elif stride != 1 or in_width != width:
            projection = nn.Conv2d(in_width, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem without pooling, a stage of basic blocks for each width, then average and linear layer.

    Every stage but the first halves the image. Maps [B, in_channels, H, W] of any size to logits [B,
    num_classes]. Initialization is PyTorch's default, as in the code that the paper trains with (DeVries &
    Taylor's Cutout). `padded`: see `BasicBlock`. The defaults are the network of CIFAR's proxy: ResNet-18's stages of
    a quarter of the width, with one block each, 308,826 parameters for 10 classes.
    """

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = (16, 32, 64, 128),
        blocks_per_stage: int = 1,
        in_channels: int = 3,
        padded: bool = False,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        blocks: list[nn.Module] = []
        in_width = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks_per_stage):
                blocks.append(BasicBlock(in_width, width, stride=2 if stage > 0 and block == 0 else 1, padded=padded))
                in_width = width
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(in_width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.blocks(F.relu(self.bn(self.stem(x))))
        return self.linear(out.mean(dim=(2, 3)))


def resnet18(num_classes: int, in_channels: int = 3) -> ResNet:
    """Return the wide ResNet-18 of the paper's CIFAR runs.

    It has 11,173,962 parameters for 10 classes and 11,220,132 for 100.
    """
    return ResNet(num_classes, widths=(64, 128, 256, 512), blocks_per_stage=2, in_channels=in_channels)


def resnet8(num_classes: int, in_channels: int = 3) -> ResNet:
    """Return He et al.'s network of 6n+2 layers with n = 1, for proxies and tests.

    It has 78,042 parameters for 10 classes. Its shortcuts are projections where the shape changes, not He et
    al.'s zero-padded identities.
    """
    return ResNet(num_classes, widths=(16, 32, 64), blocks_per_stage=1, in_channels=in_channels)


def resnet32(num_classes: int, in_channels: int = 3) -> ResNet:
    """Return the CIFAR network of He et al. (2016, Section 4.2) with n = 5: the ResNet-32 of the paper's Figure 1.

    It has 464,154 parameters for 10 classes and 470,004 for 100, shortcuts without parameters, and their
    initialization: convolutions normal with variance 2 / fan-in.
    """
    model = ResNet(num_classes, widths=(16, 32, 64), blocks_per_stage=5, in_channels=in_channels, padded=True)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return model
