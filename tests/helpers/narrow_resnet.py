"""Networks for tests of task=imagenet: one as deep as ResNet-50 and narrow, and one in float64."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from experiments.vision.resnet import resnet8


def narrow_resnet50(num_classes: int, in_channels: int = 3, zero_init_residual: bool = False) -> nn.Module:
    """Return ResNet-50 whose blocks are an eighth as wide inside: as deep, with a sixth of the parameters."""
    return torchvision.models.resnet50(
        num_classes=num_classes, zero_init_residual=zero_init_residual, width_per_group=8
    )


class Float64ResNet8(nn.Module):
    """ResNet-8 in float64, whose rounding hides no difference between processes."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.network = resnet8(num_classes, in_channels).double()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.double())
