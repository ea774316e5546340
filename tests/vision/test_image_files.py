"""Images in folders and archives: which there are, in which order, what is read of them, and what is refused."""

from __future__ import annotations

import errno
import os
import resource
import warnings

import numpy as np
import pytest
from PIL import Image
from timm.data.readers import reader_image_in_tar

from experiments.vision import image_files
from experiments.vision.image_files import ImageFiles, ImageSplit, in_files
from experiments.vision.made_images import made
from tests.helpers.images import CLASSES, archive, picture, write_images


@pytest.fixture
def root(tmp_path):
    return write_images(tmp_path / "imagenet", {"train": 3, "val": 2})


def found(root, **settings) -> ImageFiles:
    return in_files(root.parent, root.name, **settings)


def names(split: ImageSplit) -> list[str]:
    paths = [split.reader.name(number) for number in split.numbers]
    return [path.split("/")[-1] for path in paths]


def pixels(split: ImageSplit) -> list[np.ndarray]:
    return [np.asarray(split.image(place)) for place in range(len(split))]


def test_images_come_by_class_and_name_with_the_number_of_their_class(root):
    files = found(root)
    assert files.classes == CLASSES
    assert names(files.train) == ["0.JPEG", "1.JPEG", "2.JPEG"] * 3
    assert files.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert files.val.labels.tolist() == [0, 0, 1, 1, 2, 2]
    expected = np.asarray(Image.open(root / "train" / "n02" / "1.JPEG"))
    assert np.array_equal(pixels(files.train)[4], expected)


def test_the_first_images_of_each_class_can_be_asked_for(root):
    files = found(root, train_per_class=2, val_per_class=1)
    assert names(files.train) == ["0.JPEG", "1.JPEG"] * 3
    assert files.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert files.val.labels.tolist() == [0, 1, 2]
    assert len(found(root, train_per_class=100).train) == 9


def test_classes_are_ordered_by_name_as_torchvision_has_them_whatever_numbers_are_in_them(root):
    for split in ("train", "val"):
        for old, new in zip(CLASSES, ("c10", "c9", "c09"), strict=True):
            (root / split / old).rename(root / split / new)
    files = found(root)
    assert files.classes == ("c09", "c10", "c9")
    paths = [files.train.reader.name(number) for number in files.train.numbers]
    assert [path.split("/")[-2] for path in paths] == ["c09"] * 3 + ["c10"] * 3 + ["c9"] * 3


def test_names_of_any_bytes_are_kept(root):
    folder = root / "train" / "n02"
    for number, name in enumerate((b"\xff.JPEG", "\u00e9.JPEG".encode())):
        (folder / f"{number}.JPEG").rename(folder / os.fsdecode(name))
    split = found(root).train
    for place in range(len(split)):
        assert split.image(place).mode == "RGB"
    paths = {split.reader.name(number) for number in split.numbers}
    assert paths == {str(path) for path in (root / "train").rglob("*.JPEG")}


@pytest.mark.parametrize(("soft", "expected"), [(1024, 1512), (4096, 4096), (resource.RLIM_INFINITY, None)])
def test_a_thousand_archives_may_be_open(soft, expected, monkeypatch):
    limits = [soft, 1 << 20]
    monkeypatch.setattr(resource, "getrlimit", lambda what: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda what, values: limits.__setitem__(0, values[0]))
    image_files._allow_open_files(1000)
    assert limits[0] == (soft if expected is None else expected)
    limits[:] = [256, 1200]
    image_files._allow_open_files(1000)
    assert limits[0] == 1200  # the most that may be asked for


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            OSError("image file is truncated"),
            "cannot be read as an image (image file is truncated); put a whole copy",
        ),
        (
            FileNotFoundError(errno.ENOENT, "gone"),
            "cannot be read as an image ([Errno 2] gone); put a whole copy",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "cannot be read ([Errno 24] Too many open files)"),
    ],
)
def test_what_is_no_fault_of_the_image_asks_for_no_other_copy(error, advice, root):
    line = found(root).train.unreadable(0, error)
    assert f"n01/0.JPEG {advice}" in line
    assert ("whole copy" in line) == ("whole copy" in advice)


def test_a_class_that_val_lacks_leaves_the_numbers_of_the_others(root):
    for path in (root / "val" / "n01").iterdir():
        path.unlink()
    assert found(root).val.labels.tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("form", ["one archive", "one archive with its folder", "one per class", "one of those"])
def test_archives_hold_what_folders_hold_in_the_same_order(form, root, tmp_path):
    other = tmp_path / "archives"
    for split in ("train", "val"):
        if form in ("one per class", "one of those"):
            (other / split).mkdir(parents=True)
            for name in CLASSES:
                archive(root / split / name, other / split / f"{name}.tar")
            if form == "one of those":  # as ImageNet's training images come
                archive(other / split, other / f"{split}.tar")
                (other / split).rename(tmp_path / split)
        else:
            other.mkdir(exist_ok=True)
            archive(root / split, other / f"{split}.tar", f"{split}/" if "folder" in form else "")
    plain, packed = found(root), found(other)
    assert packed.classes == plain.classes
    for split in ("train", "val"):
        one, two = getattr(plain, split), getattr(packed, split)
        assert one.labels.tolist() == two.labels.tolist()
        assert all(np.array_equal(a, b) for a, b in zip(pixels(one), pixels(two), strict=True))


def test_the_order_is_not_that_in_which_the_file_system_lists_archives(root, tmp_path, monkeypatch):
    for split in ("train", "val"):
        (tmp_path / "archives" / split).mkdir(parents=True)
        for name in CLASSES:
            archive(root / split / name, tmp_path / "archives" / split / f"{name}.tar")
    seen = []
    for turned in (1, -1):
        listed = reader_image_in_tar.glob
        monkeypatch.setattr(
            reader_image_in_tar, "glob", lambda *a, listed=listed, turned=turned, **k: sorted(listed(*a, **k))[::turned]
        )
        seen.append(pixels(found(tmp_path / "archives").train))
        monkeypatch.undo()
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))


def test_a_digest_is_that_of_names_and_classes_whatever_holds_the_files(root, tmp_path):
    digests = {split: getattr(found(root), split).digest() for split in ("train", "val")}
    assert digests["train"] != digests["val"]
    assert digests["train"] != found(root, train_per_class=2).train.digest()
    other = tmp_path / "archives"
    other.mkdir()
    for split in ("train", "val"):
        archive(root / split, other / f"{split}.tar")
    assert {split: getattr(found(other), split).digest() for split in digests} == digests
    made_once, made_again = made(train_per_class=2), made(train_per_class=2)
    assert made_once.train.digest() == made_again.train.digest() != made_once.val.digest()


@pytest.mark.parametrize("change", ["renamed", "moved", "of a renamed class"])
def test_a_digest_shows_files_of_other_names_and_classes(change, root):
    before = found(root).train.digest()
    path = root / "train" / "n01" / "2.JPEG"
    if change == "renamed":
        path.rename(path.with_name("3.JPEG"))
    elif change == "moved":
        path.rename(root / "train" / "n02" / "3.JPEG")
    else:
        for split in ("train", "val"):
            (root / split / "n10").rename(root / split / "n11")
    assert found(root).train.digest() != before


def one_image(root, image: Image.Image, **options) -> np.ndarray:
    image.save(root / "train" / "n01" / "0.JPEG", "JPEG", **options)
    return np.asarray(found(root).train.image(0))


def test_a_grey_image_gets_three_equal_channels(root):
    read = one_image(root, picture(1).convert("L"))
    assert read.shape == (40, 60, 3)
    assert np.array_equal(read[..., 0], read[..., 1])
    assert np.array_equal(read[..., 0], read[..., 2])


def test_a_cmyk_image_is_converted_as_pillow_does(root):
    read = one_image(root, picture(2).convert("CMYK"), quality=95)
    # Through CMYK and JPEG and back: near what it was, as mean absolute pixels of 255.
    assert np.abs(read.astype(float) - np.asarray(picture(2))).mean() < 8


def test_an_exif_orientation_is_not_applied_as_in_the_code_of_the_paper(root):
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    turned = one_image(root, picture(3), exif=exif)
    assert np.array_equal(turned, one_image(root, picture(3)))
    assert turned.shape == (40, 60, 3)


def test_a_damaged_exif_entry_is_read_without_a_warning(root):
    broken = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00\x1a\x01"
    picture(4).save(root / "train" / "n01" / "0.JPEG", exif=broken)
    with pytest.warns(UserWarning, match="orrupt EXIF"):  # so does the code of the paper
        Image.open(root / "train" / "n01" / "0.JPEG").getexif()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(root).train.image(0).size == (60, 40)


def test_a_png_under_the_name_of_a_jpeg_is_read(root):
    picture(5).save(root / "train" / "n01" / "0.JPEG", "PNG")
    assert np.array_equal(np.asarray(found(root).train.image(0)), np.asarray(picture(5)))


def damage(root, split: str, what: str):
    path = root / split
    if what == "missing":
        path.rename(root / "elsewhere")
    elif what == "empty":
        for image in path.rglob("*.JPEG"):
            image.unlink()
    elif what == "a file":
        path.rename(root / "elsewhere")
        path.write_text("a note in its place")
    elif what == "archive beside folders":
        archive(path / "n01", path / "n04.tar")
    elif what == "flat":
        next(path.rglob("*.JPEG")).rename(path / "stray.JPEG")
    elif what == "unknown class":
        (path / "n02").rename(path / "n03")
    elif what == "empty archive":
        path.rename(root / "elsewhere")
        (root / "nothing").mkdir()
        archive(root / "nothing", root / f"{split}.tar")
    elif what == "cut archive":
        archive(path, root / f"{split}.tar")
        path.rename(root / "elsewhere")
        content = (root / f"{split}.tar").read_bytes()
        (root / f"{split}.tar").write_bytes(content[: len(content) * 2 // 3])


LAYOUT = "wanted in .*imagenet.*: train/<class>/"


@pytest.mark.parametrize(
    ("split", "what", "error", "message"),
    [
        ("train", "missing", FileNotFoundError, f"imagenet/train is missing; {LAYOUT}"),
        ("val", "missing", FileNotFoundError, f"imagenet/val is missing; {LAYOUT}"),
        ("train", "empty", ValueError, f"imagenet/train cannot be listed .there are no images in it.; {LAYOUT}"),
        ("val", "empty", ValueError, f"imagenet/val cannot be listed .there are no images in it.; {LAYOUT}"),
        ("train", "a file", ValueError, f"imagenet/train is a file; {LAYOUT}"),
        ("val", "flat", ValueError, f"^stray.JPEG in .*val is in no folder of a class; sort .*; {LAYOUT}"),
        ("val", "unknown class", ValueError, "imagenet/val has the class n03, which .*imagenet/train lacks"),
        ("train", "unknown class", ValueError, "imagenet/val has the class n02, which .*imagenet/train lacks"),
        ("val", "empty archive", ValueError, f"val.tar cannot be listed .there are no images in it.; {LAYOUT}"),
        ("train", "archive beside folders", ValueError, r"train has both folders .n01. and archives .n04\.tar.; move"),
        ("train", "cut archive", ValueError, f"train.tar cannot be listed .unexpected end of data.; {LAYOUT}"),
    ],
)
def test_what_cannot_be_a_set_of_images_is_named(split, what, error, message, root):
    damage(root, split, what)
    with pytest.raises(error, match=message) as raised:
        found(root)
    assert "\n" not in str(raised.value)


def test_another_folder_than_is_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/images/train is missing"):
        in_files(tmp_path, "images")


def test_made_images_are_the_same_every_time_and_of_both_shapes():
    one, two = made(train_per_class=2, val_per_class=1, classes=3), made(train_per_class=2, val_per_class=1, classes=3)
    assert one.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert one.val.labels.tolist() == [0, 1, 2]
    assert all(np.array_equal(a, b) for a, b in zip(pixels(one.train), pixels(two.train), strict=True))
    assert {one.train.image(0).size, one.train.image(1).size} == {(40, 56), (56, 40)}
    assert not np.array_equal(one.train.image(0), one.val.image(0))
    more = made(train_per_class=2, val_per_class=4, classes=3)
    assert np.array_equal(pixels(more.train)[5], pixels(one.train)[5])


@pytest.mark.parametrize("given", [{"classes": 0}, {"train_per_class": 0}, {"val_per_class": None}])
def test_fewer_made_images_than_one_are_refused(given):
    (name,) = given
    with pytest.raises(ValueError, match=f"task.images.{name}={given[name]} is below 1"):
        made(**given)
