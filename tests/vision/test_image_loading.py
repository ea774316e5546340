"""Images on their way to the device: transforms, draws of their own for each image, and workers."""

from __future__ import annotations

import os
import random
import signal

import numpy as np
import pytest
import torch
from timm.data.loader import PrefetchLoader
from torchvision import transforms
from torchvision.transforms import functional

from experiments.engine.errors import UserError
from experiments.vision import image_loading
from experiments.vision.image_files import ImageSplit, UnreadableImage, in_files
from experiments.vision.image_loading import (
    Views,
    evaluation_transform,
    image_seed,
    loaded,
    training_transform,
    usual_workers,
)
from tests.helpers.images import archive, picture, write_images

CPU = torch.device("cpu")
NORMALIZE = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CROP = training_transform(24, 0.08, True)


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> ImageSplit:
    root = write_images(tmp_path_factory.mktemp("images"), {"train": 4, "val": 1})
    return in_files(root.parent, root.name).train


def batches(split, pieces, workers=0, transform=CROP, draws=(3, 0), channels_last=False):
    return list(loaded(Views(split, transform, draws), iter(pieces), workers, CPU, channels_last))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for (one, labels), (other, their_labels) in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(labels, their_labels)


@pytest.mark.parametrize(("width", "height"), [(500, 375), (300, 451), (200, 100)])
def test_a_validation_image_is_that_of_the_paper_s_code(width, height):
    image = picture(1, width, height)
    reference = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), NORMALIZE]
    )(image)
    shown = evaluation_transform(224, 256)(image)
    assert (shown.dtype, shown.shape) == (torch.uint8, (3, 224, 224))
    torch.testing.assert_close(NORMALIZE(shown / 255), reference)


def test_a_batch_is_that_of_the_paper_s_code_with_each_image_s_own_draws(split):
    ((inputs, labels),) = batches(split, [[7, 2, 11]], draws=(5, 4))
    expected = []
    for place in (7, 2, 11):
        torch.manual_seed(image_seed(5, 4, place))
        image = split.image(place)
        box = transforms.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3))
        image = functional.resized_crop(image, *box, [24, 24])
        image = functional.hflip(image) if torch.rand(1) < 0.5 else image
        expected.append(NORMALIZE(functional.to_tensor(image)))
    torch.testing.assert_close(inputs, torch.stack(expected))
    assert (inputs.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert labels.tolist() == [1, 0, 2]


def test_crops_cover_the_areas_ratios_and_places_of_the_recipe_and_half_are_mirrored():
    ramp = np.arange(256, dtype=np.uint8)
    across, down = np.tile(ramp, (256, 1)), np.tile(ramp[:, None], (1, 256))
    image = functional.to_pil_image(np.stack([across, down, np.zeros_like(across)], 2))
    shown = training_transform(16, 0.08, True)
    boxes, mirrored = [], 0
    torch.manual_seed(0)
    for _ in range(600):
        across, down, _ = shown(image).double()
        left, right, top, bottom = across[8, 0], across[8, -1], down[0, 8], down[-1, 8]
        mirrored += int(left > right)
        # Of 16 pixels the outer two are 15 sixteenths of the crop apart.
        width, height = abs(right - left) * 16 / 15, (bottom - top) * 16 / 15
        boxes.append((width * height / 256**2, width / height, min(left, right) / 256))
    area, ratio, left = np.array(boxes).T
    assert 0.07 < area.min() < 0.1
    assert 0.85 < area.max() < 1.02
    assert 0.45 < np.median(area) < 0.6  # uniform from .08 to 1, but for what does not fit
    assert 0.72 < ratio.min() < 0.79
    assert 1.27 < ratio.max() < 1.4
    assert abs(np.log(ratio).mean()) < 0.05
    assert left.min() < 0.03
    assert left.max() > 0.5
    assert abs(mirrored - 300) < 62  # five standard deviations of 600 throws of a coin


def test_no_image_is_mirrored_where_that_is_switched_off():
    ramp = functional.to_pil_image(np.tile(np.arange(200, dtype=np.uint8), (200, 1)))
    torch.manual_seed(0)
    still = training_transform(8, 0.5, False)
    assert all(shown[0, 0, 0] < shown[0, 0, -1] for shown in (still(ramp) for _ in range(20)))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_gives_the_same_batches(workers, split):
    pieces = [[0, 5, 2], [7], [8, 9, 1, 3], [4, 6]]
    assert_same(batches(split, pieces, workers), batches(split, pieces))


def test_an_image_is_shown_the_same_way_whatever_else_is_in_its_batch(split):
    ((alone, _),) = batches(split, [[6]])
    ((among, _),) = batches(split, [[1, 6, 9]])
    assert torch.equal(among[1], alone[0])


def test_seeds_epochs_and_images_have_draws_of_their_own(split):
    seeds = {image_seed(seed, epoch, place) for seed in (0, 1, 2) for epoch in (-1, 0, 1) for place in range(20)}
    assert len(seeds) == 180
    # Nor is the first image's that of the epoch's order.
    assert image_seed(0, 0, 0) != int(np.random.SeedSequence((0, 1)).generate_state(1, np.uint64)[0]) >> 1
    one, two = (batches(split, [[3]], draws=draws) for draws in ((0, 0), (0, 1)))
    assert not torch.equal(one[0][0], two[0][0])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_generators_of_the_run_stay_as_they_are(workers, split):
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    batches(split, [[0, 1], [2]], workers)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("channels_last", "layout"), [(False, torch.contiguous_format), (True, torch.channels_last)])
def test_inputs_come_in_the_memory_format_asked_for(channels_last, layout, workers, split):
    found = batches(split, [[0, 1], [7]], workers, channels_last=channels_last)
    assert [inputs.is_contiguous(memory_format=layout) for inputs, _ in found] == [True, True]
    # The first image's pixels one by one: by its columns of three channels, or by channels.
    pixels = found[0][0].as_strided((3 * 24 * 24,), (1,))
    first = found[0][0][0].permute(1, 2, 0) if channels_last else found[0][0][0]
    assert torch.equal(pixels, first.reshape(-1))
    assert_same(found, batches(split, [[0, 1], [7]]))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("what", ["cut off", "no image", "gone"])
def test_a_file_that_cannot_be_read_is_named_in_one_line(what, workers, tmp_path):
    root = write_images(tmp_path / "images", {"train": 2, "val": 1})
    split = in_files(tmp_path, "images").train
    path = root / "train" / "n02" / "1.JPEG"
    content = path.read_bytes()
    if what == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if what == "cut off" else b"<html>not found</html>")
    reason = {"cut off": "image file is truncated", "no image": "no format that Pillow knows", "gone": "No such file"}
    with pytest.raises(UnreadableImage, match=rf"{path} cannot be read as an image \(.*{reason[what]}") as raised:
        batches(split, [[0, 1], [2, 3]], workers)
    assert "\n" not in str(raised.value)
    assert "Traceback" not in str(raised.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_archive_gives_the_batches_of_the_folder_and_names_what_it_cannot_read(workers, split, tmp_path):
    root = write_images(tmp_path / "images", {"train": 4, "val": 1})
    pieces = [[0, 5, 2], [7], [11, 3]]
    archive(root / "train", tmp_path / "packed.tar")
    (root / "train").rename(tmp_path / "unpacked")
    (tmp_path / "packed.tar").rename(root / "train.tar")
    assert_same(batches(in_files(tmp_path, "images").train, pieces, workers), batches(split, pieces))
    broken = tmp_path / "unpacked" / "n02" / "1.JPEG"
    broken.write_bytes(broken.read_bytes()[:300])
    archive(tmp_path / "unpacked", root / "train.tar")
    with pytest.raises(UnreadableImage, match=r"^n02/1\.JPEG of the class n02 in .*/train\.tar cannot be read"):
        batches(in_files(tmp_path, "images").train, pieces, workers)


class Dying:
    def __call__(self, image):
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return CROP(image)


def test_a_worker_that_is_killed_ends_in_one_line_that_names_the_key(split):
    with pytest.raises(
        UserError, match=r"a process that reads images ended .*(killed|exited unexpectedly).* runtime\.workers=1"
    ) as raised:
        batches(split, [[0]], 1, Dying())
    assert "\n" not in str(raised.value)


class Signalled:
    """Sends its worker a signal at each image."""

    def __init__(self, *signums: int) -> None:
        self.signums = signums

    def __call__(self, image):
        for signum in self.signums:
            os.kill(os.getpid(), signum)
        return CROP(image)


def test_signals_to_the_whole_job_are_left_to_the_run_s_own_process(split):
    every = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(signum) for signum in every]
    assert_same(batches(split, [[0]], 1, Signalled(*every)), batches(split, [[0]]))
    assert [signal.getsignal(signum) for signum in every] == before


def test_a_worker_that_is_told_twice_to_end_does_so_as_the_run_s_process_waits_for_it_at_its_exit(split):
    with pytest.raises(UserError, match="a process that reads images ended"):
        batches(split, [[0, 1]], 1, Signalled(signal.SIGTERM))


def test_other_errors_than_a_worker_s_are_left_as_they_are(split):
    def broken(samples):
        raise RuntimeError("out of memory")

    views = Views(split, CROP, (0, 0))
    loader = image_loading._Whole(torch.utils.data.DataLoader(views, batch_size=2, collate_fn=broken))
    with pytest.raises(RuntimeError, match="out of memory"):
        list(loader)


@pytest.mark.parametrize(("local", "expected"), [(None, 12), ("1", 12), ("4", 3), ("50", 1), ("odd", 12), ("0", 12)])
def test_the_cores_are_shared_among_the_processes_of_a_host(local, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)), raising=False)
    for name in ("LOCAL_WORLD_SIZE", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert usual_workers() == expected


@pytest.mark.parametrize(
    ("cores", "given", "local", "expected"),
    [
        (128, None, None, 16),  # more only where they are asked for
        (128, "4", None, 4),  # Slurm's share, where tasks are not bound to their cores
        (2, "4", None, 2),
        (128, "64", "8", 8),  # torchrun's processes in one task of Slurm
        (128, "odd", "32", 4),
    ],
)
def test_the_cores_are_those_that_slurm_gave_a_task_and_not_too_many(cores, given, local, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    for name, value in (("SLURM_CPUS_PER_TASK", given), ("LOCAL_WORLD_SIZE", local)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert usual_workers() == expected


def test_a_mistake_in_a_transform_is_not_called_a_damaged_image(split):
    def wrong(image):
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        Views(split, wrong)[0]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_cpu_gets_what_timm_s_loader_makes_of_the_pixels_to_the_bit(split, channels_last, workers):
    pixels = [Views(split, CROP, (1, 0))[place] for place in range(5)]
    whole = image_loading._collated(pixels, channels_last, normalize=False)
    assert whole[0].dtype == torch.uint8
    ((expected, labels),) = PrefetchLoader([whole], image_loading.MEAN, image_loading.STD, device=CPU)
    ((found, found_labels),) = batches(split, [list(range(5))], workers, draws=(1, 0), channels_last=channels_last)
    assert torch.equal(found, expected)
    assert torch.equal(found_labels, labels)
    assert found.stride() == expected.stride() == whole[0].stride()
