"""The parameter shapes of the paper's large models: an optimizer's time depends on nothing else of a model."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torchvision
from torch import nn

Shapes = list[torch.Size]


def shapes_of(model: nn.Module) -> Shapes:
    return [p.shape for p in model.parameters()]


def resnet(make: Callable[[], nn.Module]) -> Shapes:
    """Return the shapes of one of torchvision's ResNets for ImageNet; no weights are made."""
    with torch.device("meta"):
        return shapes_of(make())


def awd_lstm(words: int = 10_000, embedding: int = 400, hidden: int = 1150) -> Shapes:
    """Return the shapes of the paper's AWD-LSTM for Penn Treebank: three layers, the decoder tied to the embedding."""
    sizes = (embedding, hidden, hidden, embedding)
    with torch.device("meta"):
        layers = [nn.LSTM(inputs, outputs) for inputs, outputs in pairwise(sizes)]
    decoder_bias = torch.Size([words])
    return [torch.Size([words, embedding]), *(shape for layer in layers for shape in shapes_of(layer)), decoder_bias]


def transformer_base(words: int = 33_708, width: int = 512, feed_forward: int = 2048, depth: int = 6) -> Shapes:
    """Return the shapes of tensor2tensor's Transformer-base for WMT14 En-De, one embedding for all three uses.

    As there, the attention's projections have no bias, each stack ends in a layer norm, and `words` is the size of
    its shared subword vocabulary.
    """
    attention = [(width, width)] * 4
    norm = [(width,)] * 2
    dense = [(feed_forward, width), (feed_forward,), (width, feed_forward), (width,)]
    encoder = (attention + norm + dense + norm) * depth + norm
    decoder = (attention + norm + attention + norm + dense + norm) * depth + norm
    return [torch.Size(shape) for shape in [(words, width), *encoder, *decoder]]


MODELS: dict[str, Callable[[], Shapes]] = {
    "resnet50": lambda: resnet(torchvision.models.resnet50),
    "resnet152": lambda: resnet(torchvision.models.resnet152),
    "awd_lstm": awd_lstm,
    "transformer": transformer_base,
}
