"""The image data sets: what they hold, and what missing or damaged files lead to."""

import hashlib
import io
import pickle
import socket
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR100
from torchvision.datasets import cifar as torchvision_cifar

from experiments.vision.datasets import ImageData, cifar10, cifar100, digits, synthetic


def fake_files() -> dict[str, bytes]:
    """Return CIFAR-100's three files in torchvision's format, holding 20 training and 10 test images."""
    rng = np.random.RandomState(0)

    def pickled(count: int) -> bytes:
        images = rng.randint(0, 256, (count, 3 * 32 * 32)).astype(np.uint8)
        return pickle.dumps({"data": images, "fine_labels": [i % 100 for i in range(count)]})

    return {
        "train": pickled(20),
        "test": pickled(10),
        "meta": pickle.dumps({"fine_label_names": ["apple"] * 100}),
    }


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def files(monkeypatch) -> dict[str, bytes]:
    """Fake CIFAR-100 files, whose checksums torchvision takes for the official ones."""
    content = fake_files()
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5(content["train"])]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5(content["test"])]])
    meta = {"filename": "meta", "key": "fine_label_names", "md5": md5(content["meta"])}
    monkeypatch.setattr(CIFAR100, "meta", meta)
    return content


@pytest.fixture
def offline(monkeypatch) -> None:
    """Let every download fail as without a network."""

    def fail(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torchvision_cifar, "download_and_extract_archive", fail)


def write(root: Path, content: dict[str, bytes]) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def in_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_whole_files_are_read_without_a_download(tmp_path, files, offline):
    write(tmp_path, files)
    data = cifar100(tmp_path)
    raw = pickle.loads(files["train"])
    expected = torch.from_numpy(raw["data"]).view(20, 3, 32, 32)  # a row is the red, green and blue plane
    assert data.train_images.dtype == torch.uint8
    assert torch.equal(data.train_images, expected)
    assert data.train_labels.dtype == torch.int64
    assert data.train_labels.tolist() == list(range(20))
    assert data.val_images.shape == (10, 3, 32, 32)


def test_both_cifars_are_normalized_with_the_constants_of_the_papers_code(tmp_path, files, offline):
    write(tmp_path, files)
    data = cifar100(tmp_path)
    # recipe: .49137, .48235, .44667 and .24706, .24353, .26157, given to five digits
    assert data.mean == pytest.approx((0.49137, 0.48235, 0.44667), abs=5e-6)
    assert data.std == pytest.approx((0.24706, 0.24353, 0.26157), abs=5e-6)


def test_the_swa_code_has_constants_of_its_own_and_unknown_ones_are_refused_first(tmp_path, files, offline):
    write(tmp_path, files)
    data = cifar100(tmp_path, constants="swa")
    assert (data.mean, data.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    with pytest.raises(ValueError, match=r"task\.dataset\.constants=imagenet is none of cutout, swa"):
        cifar100(tmp_path / "none", constants="imagenet")


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_missing_file_is_named_with_its_folder_in_one_line(tmp_path, files, offline, name):
    del files[name]
    folder = write(tmp_path, files)
    with pytest.raises(FileNotFoundError) as caught:
        cifar100(tmp_path)
    message = str(caught.value)
    assert f"{folder / name} is missing" in message
    assert message.endswith(f"into {folder}")
    assert "\n" not in message
    assert in_folder(folder) == files


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_truncated_file_is_called_damaged_and_left_as_it_was(tmp_path, files, offline, name):
    files[name] = files[name][:-100]
    folder = write(tmp_path, files)
    with pytest.raises(FileNotFoundError, match=rf"/{name} is damaged \(checksum differs\), and the download"):
        cifar100(tmp_path)
    assert in_folder(folder) == files
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-100-python"]


def test_an_empty_folder_names_the_first_file_of_either_cifar(tmp_path, offline):
    with pytest.raises(FileNotFoundError, match=r"data_batch_1 is missing.*cifar-10-batches-py$"):
        cifar10(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"train is missing.*cifar-100-python$"):
        cifar100(tmp_path)


def test_a_data_folder_that_cannot_be_made_still_names_the_missing_file(tmp_path, offline):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(FileNotFoundError, match="train is missing"):
        cifar100(tmp_path / "file")


def test_a_download_that_delivers_damaged_files_replaces_nothing(tmp_path, files, monkeypatch):
    folder = write(tmp_path, {"train": b"mine", "test": files["test"]})

    def deliver(url, root, filename, md5):
        write(Path(root), files | {"meta": b"damaged"})

    monkeypatch.setattr(torchvision_cifar, "download_and_extract_archive", deliver)
    with pytest.raises(FileNotFoundError, match=r"train is damaged"):
        cifar100(tmp_path)
    assert in_folder(folder) == {"train": b"mine", "test": files["test"]}


def test_a_successful_download_mends_what_is_missing_or_damaged(tmp_path, files, monkeypatch):
    folder = write(tmp_path, {"train": b"damaged"})

    def deliver(url, root, filename, md5):
        write(Path(root), files)

    monkeypatch.setattr(torchvision_cifar, "download_and_extract_archive", deliver)
    assert len(cifar100(tmp_path).train_images) == 20
    assert in_folder(folder) == files
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-100-python"]


def test_an_archive_that_is_there_is_extracted_without_a_network(tmp_path, files, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    (tmp_path / CIFAR100.filename).write_bytes(buffer.getvalue())
    monkeypatch.setattr(CIFAR100, "tgz_md5", md5(buffer.getvalue()))
    monkeypatch.setattr(CIFAR100, "url", "https://invalid.invalid/never-asked.tar.gz")
    assert len(cifar100(tmp_path).val_images) == 10
    assert in_folder(tmp_path / "cifar-100-python") == files
    assert (tmp_path / CIFAR100.filename).read_bytes() == buffer.getvalue()


def test_subsets_are_the_first_images(tmp_path, files, offline):
    write(tmp_path, files)
    whole, part = cifar100(tmp_path), cifar100(tmp_path, train_subset=7, val_subset=3)
    assert torch.equal(part.train_images, whole.train_images[:7])
    assert torch.equal(part.train_labels, whole.train_labels[:7])
    assert torch.equal(part.val_images, whole.val_images[:3])
    assert torch.equal(part.val_labels, whole.val_labels[:3])
    assert (part.mean, part.std) == (whole.mean, whole.std)


def test_pooled_images_are_the_means_of_blocks_of_pixels(tmp_path, files, offline):
    write(tmp_path, files)
    whole, pooled = cifar100(tmp_path), cifar100(tmp_path, pool=2)
    for images, means in ((whole.train_images, pooled.train_images), (whole.val_images, pooled.val_images)):
        corners = [images[:, :, row::2, column::2].double() for row in (0, 1) for column in (0, 1)]
        expected = sum(corners) / 4
        assert means.shape == (len(images), 3, 16, 16)
        assert means.dtype == torch.uint8
        assert (means.double() - expected).abs().max() <= 0.5  # rounded, not cut off
    assert torch.equal(pooled.train_labels, whole.train_labels)
    assert torch.equal(cifar100(tmp_path, pool=1).train_images, whole.train_images)


@pytest.mark.parametrize("pool", [3, 0, True, 2.0, "2"])
def test_a_pool_that_does_not_divide_the_images_is_refused_before_any_file_is_read(tmp_path, pool):
    with pytest.raises(ValueError, match=rf"task\.dataset\.pool={pool} is none of 1, 2, 4, 8, 16, 32"):
        cifar100(tmp_path / "none", pool=pool)


@pytest.mark.parametrize(("name", "count"), [("train_subset", 1437), ("val_subset", 360)])
def test_a_subset_outside_its_range_is_refused(name, count):
    for wrong in (0, -1, count + 1):
        with pytest.raises(ValueError, match=rf"{name}={wrong} is outside 1\.\.{count}"):
            digits(**{name: wrong})
    assert digits(**{name: count}).train_images.shape[0] == 1437


def test_digits_are_split_once_and_for_all_and_scaled_to_bytes():
    from sklearn.datasets import load_digits

    data = digits()
    assert data.train_images.shape == (1437, 1, 8, 8)
    assert data.val_images.shape == (360, 1, 8, 8)
    assert data.train_images.max() == 255
    # 16 levels of 255 / 16 = 15.94: rounding to bytes loses nothing, so the permuted originals come back
    images = torch.cat((data.train_images, data.val_images))[:, 0].double() * 16 / 255
    labels = torch.cat((data.train_labels, data.val_labels))
    bunch, order = load_digits(), np.random.RandomState(0).permutation(1797)
    assert np.array_equal(images.round().numpy(), bunch.images[order])
    assert np.array_equal(labels.numpy(), bunch.target[order])
    normalized = (data.train_images.double() / 255 - data.mean[0]) / data.std[0]
    assert normalized.mean().item() == pytest.approx(0, abs=1e-12)
    assert normalized.std(correction=0).item() == pytest.approx(1, abs=1e-12)


def test_synthetic_images_are_the_same_every_time_and_can_be_told_apart():
    data, again = synthetic(train_subset=200, val_subset=100), synthetic(train_subset=50, val_subset=100)
    assert torch.equal(data.val_images, again.val_images)
    # The nearest class mean of the training images classifies the others: the signal equals the noise in each
    # of 3,072 pixels, so that a mistake is out of the question.
    train, val = data.train_images.float().flatten(1), data.val_images.float().flatten(1)
    means = torch.stack([train[data.train_labels == label].mean(dim=0) for label in range(10)])
    assert torch.equal(torch.cdist(val, means).argmin(dim=1), data.val_labels)
    assert not torch.equal(data.train_images[:100], data.val_images)


def test_synthetic_images_take_the_shape_asked_for():
    data = synthetic(train_subset=6, val_subset=4, classes=3, channels=1, size=8)
    assert data.train_images.shape == (6, 1, 8, 8)
    assert data.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    for name in ("train_subset", "val_subset", "classes", "channels", "size"):
        with pytest.raises(ValueError, match=f"{name}=0 is below 1"):
            synthetic(**{name: 0})


def test_constants_that_do_not_fit_the_channels_are_refused():
    images, labels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="mean has 1 entries and std 3"):
        ImageData(images, labels, images, labels, (0.5,), (0.5, 0.5, 0.5))


def test_a_download_leaves_the_socket_timeout_as_it_was(tmp_path, offline):
    before = socket.getdefaulttimeout()
    with pytest.raises(FileNotFoundError):
        cifar100(tmp_path)
    assert socket.getdefaulttimeout() == before
