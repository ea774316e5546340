"""torchvision's ResNets for ImageNet (Section 5.2), with the arguments that every network here has."""

from __future__ import annotations

from collections.abc import Callable

import torchvision
from torch import nn


def resnet50(num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False) -> nn.Module:
    """Return torchvision's ResNet-50: float32 [B, 3, H, W] to logits [B, num_classes].

    The stride is on the 3 x 3 convolution, and there are 25,557,032 parameters for 1,000 classes. With
    `zero_init_residual` each block begins as the identity, which the code that the paper used does not. Raises
    ValueError for images that have not three channels.
    """
    return _made(torchvision.models.resnet50, num_classes, in_channels, zero_init_residual)


def resnet152(num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False) -> nn.Module:
    """Return torchvision's ResNet-152, of 60,192,808 parameters for 1,000 classes; all else as `resnet50`."""
    return _made(torchvision.models.resnet152, num_classes, in_channels, zero_init_residual)


def _made(make: Callable[..., nn.Module], num_classes: int, in_channels: int, zero_init_residual: bool) -> nn.Module:
    if in_channels != 3:
        raise ValueError(f"model.in_channels={in_channels} is not possible with torchvision's ResNets; they take 3")
    return make(num_classes=num_classes, zero_init_residual=zero_init_residual)
