"""The batched augmentation: equal to torchvision's image by image; draws are iid and reproducible."""

import pytest
import torch
import torchvision.transforms.functional as transforms

from experiments.vision.augment import Normalizer, RandomCropFlip, draw_epoch
from experiments.vision.datasets import CIFAR_MEAN, CIFAR_STD

CPU = torch.device("cpu")
# Ours subtracts and divides in units of pixels, torchvision in units of pixel / 255: float32 rounds
# differently, by a few 1e-7 for values of at most 2.8. A wrong pixel would differ by 1 / 255 / 0.26 = 0.015
# at least.
ROUNDING = 1e-6


def images(count: int = 12, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def by_torchvision(image, top, left, flip, padding, mean, std):
    """RandomCrop(padding=...), RandomHorizontalFlip, ToTensor and Normalize, for given draws."""
    height, width = image.shape[-2:]
    out = transforms.crop(transforms.pad(image, [padding]), top, left, height, width)
    out = transforms.hflip(out) if flip else out
    return transforms.normalize(transforms.convert_image_dtype(out, torch.float32), mean, std)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("channels", "height", "width", "padding", "flip"),
    [(3, 32, 32, 4, True), (3, 32, 32, 4, False), (1, 8, 8, 1, True), (2, 5, 9, 3, True), (3, 6, 6, 0, True)],
)
def test_a_batch_equals_torchvision_image_by_image(channels, height, width, padding, flip, channels_last):
    data = images(40, channels, height, width)
    mean, std = CIFAR_MEAN[:channels], CIFAR_STD[:channels]
    augment = RandomCropFlip(data, padding, flip, mean, std, channels_last)
    draws = draw_epoch(3, 5, len(data), padding, flip)
    batch = augment(augment.starts(draws))
    assert batch.dtype == torch.float32
    for j, image in enumerate(draws.order.tolist()):
        top, left, mirrored = draws.top[j].item(), draws.left[j].item(), draws.flip[j].item()
        expected = by_torchvision(data[image], top, left, mirrored, padding, mean, std)
        torch.testing.assert_close(batch[j], expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("corner", [0, 8])
def test_the_outermost_crops_of_the_first_and_last_image_stay_inside_their_image(corner, flip):
    data = images(2)
    augment = RandomCropFlip(data, 4, True, CIFAR_MEAN, CIFAR_STD)
    draws = draw_epoch(0, 0, 2, 4, True)
    draws.top.fill_(corner), draws.left.fill_(corner), draws.flip.fill_(flip)
    batch = augment(augment.starts(draws))
    for j, image in enumerate(draws.order.tolist()):
        expected = by_torchvision(data[image], corner, corner, flip, 4, CIFAR_MEAN, CIFAR_STD)
        torch.testing.assert_close(batch[j], expected, rtol=0, atol=ROUNDING)


def test_zeros_are_padded_before_the_normalization():
    augment = RandomCropFlip(images(1) // 2 + 100, 4, False, CIFAR_MEAN, CIFAR_STD)
    draws = draw_epoch(0, 0, 1, 4, False)
    draws.top.zero_(), draws.left.fill_(8)  # the upper right corner: four rows and four columns of border
    (image,) = augment(augment.starts(draws))
    border = -torch.tensor(CIFAR_MEAN) / torch.tensor(CIFAR_STD)
    for part in (image[:, :4].flatten(1), image[:, :, 28:].flatten(1)):
        torch.testing.assert_close(part, border[:, None].expand_as(part), rtol=0, atol=ROUNDING)
    assert (image[:, 4:, :28] > border[:, None, None] + 1).all()  # pixels of 100 and more are far from it


@pytest.mark.parametrize("channels_last", [False, True])
def test_clean_images_are_only_normalized(channels_last):
    data = images()
    augment = RandomCropFlip(data, 4, True, CIFAR_MEAN, CIFAR_STD, channels_last)
    expected = transforms.normalize(data.float() / 255, CIFAR_MEAN, CIFAR_STD)
    torch.testing.assert_close(augment.clean(3, 9), expected[3:9], rtol=0, atol=ROUNDING)
    torch.testing.assert_close(Normalizer(CIFAR_MEAN, CIFAR_STD, CPU)(data), expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("channels_last", "memory_format"), [(False, torch.contiguous_format), (True, torch.channels_last)]
)
def test_batches_come_in_the_memory_format_asked_for(channels_last, memory_format):
    augment = RandomCropFlip(images(), 4, True, CIFAR_MEAN, CIFAR_STD, channels_last)
    starts = augment.starts(draw_epoch(0, 0, 12, 4, True))
    assert augment(starts).is_contiguous(memory_format=memory_format)


def test_a_batch_shares_no_memory_with_the_next_nor_with_the_data():
    data = images()
    augment = RandomCropFlip(data, 4, True, CIFAR_MEAN, CIFAR_STD)
    starts = augment.starts(draw_epoch(0, 0, 12, 4, True))
    before, kept = augment(starts), data.clone()
    first = augment(starts)
    augment(starts.flip(0)).zero_()
    augment.clean(0, 12).zero_()
    assert torch.equal(first, before)
    assert torch.equal(augment(starts), before)
    assert torch.equal(data, kept)


def test_the_padded_set_holds_at_most_about_four_times_the_data():
    data = images(100)
    augment = RandomCropFlip(data, 4, True, CIFAR_MEAN, CIFAR_STD)
    held = augment._windows.untyped_storage().nbytes()
    assert held == 2 * 100 * 3 * 40 * 40  # 3.125 times; mirrored and not, padded to 40 x 40
    assert augment._interior.untyped_storage().data_ptr() == augment._windows.untyped_storage().data_ptr()


def chi_square(cells: torch.Tensor, number: int) -> float:
    """Return the chi-square statistic of integers 0..number-1 against uniform."""
    counts = torch.bincount(cells, minlength=number).double()
    expected = len(cells) / number
    return ((counts - expected) ** 2 / expected).sum().item()


def assert_uniform(cells: torch.Tensor, number: int) -> None:
    # Chi-square with n = number - 1 degrees of freedom has mean n and standard deviation sqrt(2 n); five of
    # them on either side are left by chance less than once in 10,000 times, and the seed is fixed.
    freedom = number - 1
    assert abs(chi_square(cells, number) - freedom) < 5 * (2 * freedom) ** 0.5


def test_offsets_and_flips_are_uniform_and_drawn_for_each_image_alone():
    draws = draw_epoch(0, 0, 50_000, 4, True)
    offset = 9 * draws.top + draws.left
    assert_uniform(offset, 81)
    assert_uniform(draws.flip, 2)
    assert_uniform(2 * offset + draws.flip, 162)  # crop and flip are independent of each other,
    assert_uniform(9 * draws.top[:-1] + draws.top[1:], 81)  # of those of the image before,
    assert_uniform(4 * draws.flip[:-2] + 2 * draws.flip[1:-1] + draws.flip[2:], 8)
    tenth = draws.order * 10 // 50_000
    assert_uniform(81 * tenth + offset, 810)  # of which image it is,
    following = draw_epoch(0, 1, 50_000, 4, True)
    assert_uniform(9 * draws.top + following.top, 81)  # and of the next epoch's


def test_without_flip_nothing_is_mirrored_and_without_padding_nothing_moves():
    draws = draw_epoch(0, 0, 1000, 0, False)
    assert not draws.flip.any()
    assert not draws.top.any()
    assert not draws.left.any()


def test_each_epoch_is_another_permutation_and_reproducible():
    seen = []
    for seed, epoch in ((0, -1), (0, 0), (0, 1), (1, -1), (1, 0), (1, 1)):
        draws, again = draw_epoch(seed, epoch, 500, 4, True), draw_epoch(seed, epoch, 500, 4, True)
        for name in ("order", "top", "left", "flip"):
            assert torch.equal(getattr(draws, name), getattr(again, name))
        assert torch.equal(draws.order.sort().values, torch.arange(500))
        seen.append(draws)
    for i, one in enumerate(seen):
        for other in seen[:i]:
            for name in ("order", "top", "left", "flip"):
                assert not torch.equal(getattr(one, name), getattr(other, name))


def test_draws_leave_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    draw_epoch(0, 0, 100, 4, True)
    assert torch.equal(torch.rand(3), expected)


def test_draws_do_not_change_between_versions():
    # Recorded numbers: a change here would silently change every seeded run.
    draws = draw_epoch(0, 0, 6, 4, True)
    recorded = [draws.order.tolist(), draws.top.tolist(), draws.left.tolist(), draws.flip.tolist()]
    assert recorded == [[0, 4, 5, 1, 2, 3], [2, 2, 6, 6, 4, 5], [6, 2, 5, 6, 0, 4], [0, 0, 0, 0, 1, 0]]


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match="padding=-1"):
        RandomCropFlip(images(), -1, True, CIFAR_MEAN, CIFAR_STD)
    with pytest.raises(ValueError, match="seed=-1"):
        draw_epoch(-1, 0, 10, 4, True)
    with pytest.raises(ValueError, match="epoch=-2"):
        draw_epoch(0, -2, 10, 4, True)
