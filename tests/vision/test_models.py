"""The vision networks: sizes, shapes, and the structure of the recipe."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.vision.resnet import BasicBlock, ResNet, resnet8, resnet18
from experiments.vision.small_conv import SmallConv


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("classes", "count"), [(10, 11_173_962), (100, 11_220_132)])
def test_resnet18_has_the_size_of_the_papers_network(classes, count):
    assert parameters(resnet18(classes)) == count


def test_resnet18_multiplies_as_often_as_the_papers_network():
    # 0.555 GMAC an image: 9 * 3 * 64 + ... over the feature maps' sizes, so strides and widths are all
    # checked.
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        total += layer.weight[0].numel() * output[0].numel()

    model = resnet18(10).eval()
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert total == pytest.approx(0.555e9, abs=0.001e9)


@pytest.mark.parametrize("blocks", [1, 5])
def test_the_thin_family_has_6n_plus_2_layers(blocks):
    model = ResNet(10, widths=(16, 32, 64), blocks_per_stage=blocks)
    weighted = [m for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    projections = [m for m in weighted if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(weighted) - len(projections) == 6 * blocks + 2
    assert len(projections) == 2  # only where the width changes
    if blocks == 1:
        assert parameters(resnet8(10)) == parameters(model) == 78_042


def test_a_block_is_two_normalized_convolutions_and_a_shortcut_added_before_the_last_relu():
    torch.manual_seed(0)
    block = BasicBlock(4, 8, stride=2).eval()
    x = torch.randn(2, 4, 8, 8)
    bn_scale = 1 / (1 + 1e-5) ** 0.5  # batch norm as initialized, in evaluation mode: mean 0, variance 1
    inner = F.relu(F.conv2d(x, block.conv1.weight, stride=2, padding=1) * bn_scale)
    inner = F.conv2d(inner, block.conv2.weight, padding=1) * bn_scale
    shortcut = F.conv2d(x, block.shortcut[0].weight, stride=2) * bn_scale
    torch.testing.assert_close(block(x), F.relu(inner + shortcut))
    same = BasicBlock(4, 4, stride=1)
    assert len(same.shortcut) == 0


def test_convolutions_are_initialized_as_pytorch_does():
    # kaiming_uniform(a = sqrt 5): uniform in +-1 / sqrt(fan in), whose standard deviation is 1 / sqrt(3 fan
    # in)
    torch.manual_seed(0)
    weight = resnet18(10).blocks[-1].conv2.weight
    fan_in = 512 * 9
    assert weight.abs().max().item() <= fan_in**-0.5
    # 2.4 million draws: the relative error of the estimate is below 1e-3
    assert weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=5e-3)


@pytest.mark.parametrize("size", [8, 20, 32])
@pytest.mark.parametrize(("model", "channels"), [(resnet8(7, 3), 3), (resnet8(7, 1), 1), (SmallConv(7), 1)])
def test_images_of_any_size_give_one_logit_a_class(model, channels, size):
    assert model(torch.randn(3, channels, size, size)).shape == (3, 7)


def test_resnet18_takes_other_image_sizes_and_channels():
    with torch.no_grad():
        assert resnet18(5, in_channels=1).eval()(torch.zeros(1, 1, 16, 24)).shape == (1, 5)


def test_channels_last_gives_the_same_logits():
    torch.manual_seed(0)
    model, x = resnet8(10).eval(), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = model(x)
        model.to(memory_format=torch.channels_last)
        found = model(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)  # sums in another order


def test_small_conv_is_small():
    assert parameters(SmallConv(10)) == 9 * (16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64) + 64 * 10 + 10
