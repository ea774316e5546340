"""The vision networks: sizes, shapes, and the structure of the recipe."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.vision.preresnet import Bottleneck, PreResNet, preresnet110
from experiments.vision.resnet import BasicBlock, Padded, ResNet, resnet8, resnet18, resnet32
from experiments.vision.small_conv import SmallConv
from experiments.vision.wide_resnet import WideBlock, WideResNet, wrn28_10

BN_SCALE = 1 / (1 + 1e-5) ** 0.5  # of batch norm as initialized, in evaluation mode: mean 0, variance 1


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("make", "classes", "count"),
    [
        (resnet18, 10, 11_173_962),
        (resnet18, 100, 11_220_132),
        (ResNet, 10, 308_826),  # model=resnet10_quarter
        # 432 + 32, then 5 x 2 x (9 x 16 x 16 + 32), ... and a linear layer of 64 x 10 + 10.
        (resnet32, 10, 464_154),
        (resnet32, 100, 470_004),
        (preresnet110, 100, 1_169_972),
        (wrn28_10, 100, 36_546_980),
    ],
)
def test_networks_have_the_size_of_the_papers_or_that_of_their_configuration(make, classes, count):
    with torch.device("meta"):
        assert parameters(make(classes)) == count


@pytest.mark.parametrize(
    # Multiplications of one image, in 1e9, so that strides and widths are all checked.
    ("make", "billions", "off"),
    [(resnet18, 0.555, 0.001), (resnet32, 0.069, 0.0005), (preresnet110, 0.167, 0.001), (wrn28_10, 5.95, 0.01)],
)
def test_networks_multiply_as_often_as_the_papers(make, billions, off):
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        total += layer.weight[0].numel() * output[0].numel()

    with torch.device("meta"):
        model = make(10).eval()
        for layer in model.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.register_forward_hook(count)
        model(torch.zeros(1, 3, 32, 32))
    assert total / 1e9 == pytest.approx(billions, abs=off)


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
    inner = F.relu(F.conv2d(x, block.conv1.weight, stride=2, padding=1) * BN_SCALE)
    inner = F.conv2d(inner, block.conv2.weight, padding=1) * BN_SCALE
    shortcut = F.conv2d(x, block.shortcut[0].weight, stride=2) * BN_SCALE
    torch.testing.assert_close(block(x), F.relu(inner + shortcut))
    same = BasicBlock(4, 4, stride=1)
    assert len(same.shortcut) == 0


def test_a_padded_shortcut_takes_every_second_pixel_and_adds_channels_of_zeros_on_both_sides():
    x = torch.arange(32.0).view(1, 2, 4, 4)
    out = Padded(2, 5, stride=2)(x)
    assert out.shape == (1, 5, 2, 2)
    assert out[0, 1].tolist() == [[0, 2], [8, 10]]
    assert out[0, 2].tolist() == [[16, 18], [24, 26]]
    assert out[0, [0, 3, 4]].count_nonzero() == 0
    shortcuts = [(number, type(block.shortcut)) for number, block in enumerate(resnet32(10).blocks)]
    assert [found for found in shortcuts if found[1] is not nn.Sequential] == [(5, Padded), (10, Padded)]


def test_a_pre_activation_bottleneck_adds_a_bare_convolution_of_the_raw_input():
    torch.manual_seed(0)
    block, x = Bottleneck(4, 3, stride=2).eval(), torch.randn(2, 4, 6, 6)
    inner = F.conv2d(F.relu(x * BN_SCALE), block.conv1.weight)
    inner = F.conv2d(F.relu(inner * BN_SCALE), block.conv2.weight, stride=2, padding=1)
    inner = F.conv2d(F.relu(inner * BN_SCALE), block.conv3.weight)
    torch.testing.assert_close(block(x), inner + F.conv2d(x, block.shortcut.weight, stride=2))
    assert block.shortcut.bias is None
    same = Bottleneck(12, 3, stride=1).eval()
    x = torch.randn(2, 12, 6, 6)
    nn.init.zeros_(same.conv3.weight)
    assert torch.equal(same(x), x)


def test_a_wide_block_strides_in_its_second_convolution_and_has_biases():
    torch.manual_seed(0)
    block, x = WideBlock(4, 6, stride=2).eval(), torch.randn(2, 4, 6, 6)
    inner = F.conv2d(F.relu(x * BN_SCALE), block.conv1.weight, block.conv1.bias, padding=1)
    inner = F.conv2d(F.relu(inner * BN_SCALE), block.conv2.weight, block.conv2.bias, stride=2, padding=1)
    torch.testing.assert_close(block(x), inner + F.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=2))
    same = WideBlock(4, 4, stride=1).eval()
    for own in same.conv2.parameters():
        nn.init.zeros_(own)
    assert torch.equal(same(x), x)


@pytest.mark.parametrize(
    ("model", "blocks", "strided"),
    [(PreResNet(10, 29), 9, [3, 6]), (WideResNet(10, 22, 1), 9, [3, 6])],
)
def test_stages_after_the_first_begin_with_a_stride(model, blocks, strided):
    strides = [max(m.stride[0] for m in block.modules() if isinstance(m, nn.Conv2d)) for block in model.blocks]
    assert len(strides) == blocks
    assert [number for number, stride in enumerate(strides) if stride == 2] == strided


def test_a_pre_activated_network_ends_in_batch_norm_relu_average_and_linear_layer():
    torch.manual_seed(0)
    for model in (PreResNet(7, 11).eval(), WideResNet(7, 10, 1).eval()):
        x = torch.randn(2, 3, 16, 16)
        features = F.relu(model.blocks(model.stem(x)) * BN_SCALE).mean(dim=(2, 3))
        torch.testing.assert_close(model(x), model.linear(features))
    assert [m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)] == [0.1] * 6 + [0.9]


@pytest.mark.parametrize(("make", "depth"), [(PreResNet, 2), (PreResNet, 110 + 1), (WideResNet, 4), (WideResNet, 29)])
def test_a_depth_between_whole_blocks_is_refused(make, depth):
    with pytest.raises(ValueError, match=rf"depth={depth} is not possible; give (9n \+ 2|6n \+ 4)"):
        make(10, depth, **({"widening": 1} if make is WideResNet else {}))


def test_he_s_network_and_the_pre_activated_one_have_initializations_of_their_own():
    torch.manual_seed(0)
    he = [m.weight for m in resnet32(10).modules() if isinstance(m, nn.Conv2d)][-1]  # 64 x 64 x 3 x 3
    assert he.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    pre = PreResNet(10, 11)
    last = pre.blocks[-1]
    assert last.conv2.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert last.conv3.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.03)
    assert last.shortcut.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert last.conv3.weight.abs().max() > 3 * (2 / 256) ** 0.5  # normal, not uniform


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
