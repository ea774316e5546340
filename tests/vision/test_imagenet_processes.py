"""ResNet-50 of task=imagenet in several processes: weights, batches, another number of them on resuming, one killed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import time
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.engine.errors import UserError
from experiments.engine.loop import Trainer
from experiments.vision.imagenet import ImageNet
from tests.helpers.forked_processes import forked
from tests.helpers.images import picture, write_images
from tests.helpers.running import history, newest_checkpoint, run_in, signal_at_call, state

# 10 images of 32 pixels in batches of 8 and 2, in passes of 4, 4 and 2, whose sizes batch norm sees. Synchronizations
# come after the updates 2 and 4 of two epochs.
RUN = [
    *("task=imagenet", "scale=smoke", "runtime.threads=1"),
    *("model=resnet50", "model._target_=tests.helpers.narrow_resnet.narrow_resnet50"),
    *("task.images.train_per_class=1", "task.images.val_per_class=1", "batch_size=8", "batch_norm_images=4"),
    *("epochs=2", "optim=la_sgd", "optim.k=2", "optim.lr=0.01", "runtime.read_loss_every=1"),
    "evaluation.batch_norm=reestimated",  # the running ones are of the first process's passes alone
]


def digest(tensors: list[Tensor]) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def watched(facts: dict[str, list[Any]]) -> None:
    """Have every update of this process note its images as shown, and the weights that it leaves, to the bit."""
    update = Trainer.update

    def noting(self: Trainer, one) -> None:
        parts = [part for part in one.parts if part.weight]
        shown = [digest([*both]) for part in parts for both in zip(part.inputs, part.targets, strict=True)]
        update(self, one)
        model, optimizer = self.parts.task.model, self.parts.optimizer
        facts["shown"].append(shown)
        facts["fast"].append(digest(list(model.parameters())))
        with optimizer.slow_weights():
            facts["slow"].append(digest(list(model.parameters())))

    Trainer.update = noting


def started(tmp_path: Path, folder: Path, count: int, *overrides: str, signum=signal.SIGUSR1, rank=0, call=0, own=None):
    """Start the run in `folder` with `count` processes, one of which gets a signal at its update number `call`.

    `own` are overrides of the last process alone.
    """
    tmp_path.mkdir(parents=True, exist_ok=True)

    def child(number: int) -> dict[str, Any]:
        if count > 1:
            os.environ.update(RANK=str(number), WORLD_SIZE=str(count), LOCAL_RANK=str(number))
        facts: dict[str, Any] = {"shown": [], "fast": [], "slow": []}
        watched(facts)
        signal.signal(signal.SIGUSR1, lambda *_: None)  # to whom the run passes it on, once it has saved
        if number == rank:
            signal_at_call(Trainer, "update", call, signum)()
        try:
            last = (own or ()) if number + 1 == count else ()
            summary = run_in(folder, *RUN, *overrides, *last)
            return facts | {"status": "stopped" if summary is None else summary["status"]}
        except (UserError, ValueError) as error:
            return facts | {"status": type(error).__name__, "message": str(error)}

    return forked(tmp_path, child, count)


def ended(tmp_path: Path, processes: list) -> list[dict[str, Any]]:
    for process in processes:
        process.join(120)
        assert not process.is_alive()
    return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(len(processes))]


def batches(facts: list[dict[str, Any]]) -> list[list[str]]:
    """Return the images of each global batch, as shown, in the order of the processes."""
    return [[*chain(*parts)] for parts in zip(*(each["shown"] for each in facts), strict=True)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts, in one process and in two: what they noted, and their folders."""
    folder, found = tmp_path_factory.mktemp("whole"), {}
    for count in (1, 2):
        facts = ended(folder / f"of-{count}", started(folder / f"of-{count}", folder / f"run-{count}", count))
        assert [fact["status"] for fact in facts] == ["done"] * count
        found[count] = facts, folder / f"run-{count}"
    yield found
    shutil.rmtree(folder)


def assert_close(folder: Path, other: Path) -> None:
    """Sums of float32 gradients in another order, 1e-7 each, which ResNet-50's 50 layers and 4 updates enlarge."""
    ours, theirs = state(folder), state(other)
    for name, tensor in theirs["model"].items():
        if tensor.is_floating_point() and "running" not in name:
            torch.testing.assert_close(ours["model"][name], tensor, rtol=1e-3, atol=1e-4)
    for row, others in zip(history(folder), history(other), strict=True):
        assert row["samples"] == others["samples"]
        for key in ("train/running_loss", "val/loss"):
            assert float(row[key]) == pytest.approx(float(others[key]), rel=1e-3), key


@pytest.mark.slow
def test_fast_and_slow_weights_are_the_same_on_both_processes_to_the_bit_after_every_update(whole):
    (first, second), _ = whole[2]
    assert len(first["slow"]) == 4
    assert (first["fast"], first["slow"]) == (second["fast"], second["slow"])
    for facts in (first, second):
        changed = [one != other for one, other in pairwise(facts["slow"])]
        assert changed == [True, False, True]  # after the updates 2 and 4: every k = 2
        assert [fast == slow for fast, slow in zip(facts["fast"], facts["slow"], strict=True)] == [False, True] * 2


@pytest.mark.slow
def test_two_processes_show_the_batches_of_one_and_come_to_its_weights(whole):
    one, two = (batches(whole[count][0]) for count in (1, 2))
    assert one == two
    assert [len(batch) for batch in one] == [8, 2] * 2
    assert [len(whole[2][0][rank]["shown"][1]) for rank in (0, 1)] == [2, 0]  # the last batch is one pass
    assert len({image for batch in one for image in batch}) == 20  # each image is cropped anew in each epoch
    assert_close(whole[2][1], whole[1][1])


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_another_number_of_processes_goes_on_with_the_same_batches_slow_weights_and_phase(
    before, after, whole, tmp_path
):
    # Stopped in mid-epoch, and between two synchronizations.
    facts = ended(tmp_path / "a", started(tmp_path / "a", tmp_path / "run", before, call=1, rank=before - 1))
    assert [fact["status"] for fact in facts] == ["stopped"] * before
    saved = state(tmp_path / "run")
    assert (saved["position"]["step"], saved["position"]["batch"]) == (1, 1)
    assert saved["optimizer"]["param_groups"][0]["lookahead_step"] == 1
    found = ended(tmp_path / "b", started(tmp_path / "b", tmp_path / "run", after))
    assert [fact["status"] for fact in found] == ["done"] * after
    assert batches(facts) + batches(found) == batches(whole[1][0])
    # The first update after it ends with a synchronization.
    assert [one == other for one, other in zip(found[0]["fast"], found[0]["slow"], strict=True)] == [True, False, True]
    assert_close(tmp_path / "run", whole[1][1])
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_a_process_killed_in_mid_epoch_is_named_and_the_same_command_goes_on_from_the_checkpoint(whole, tmp_path):
    options = ("runtime.checkpoint_every_steps=1",)
    processes = started(tmp_path / "a", tmp_path / "run", 2, *options, signum=signal.SIGKILL, rank=1, call=4)
    processes[1].join(120)
    assert processes[1].exitcode == -signal.SIGKILL
    killed = time.monotonic()
    processes[0].join(60)
    assert processes[0].exitcode == 0
    assert time.monotonic() - killed < 60
    fact = json.loads((tmp_path / "a" / "0.json").read_text())
    assert (fact["status"], fact["message"]) == (
        "ProcessLost",
        "another of the 2 processes ended (process 1 was killed); the same command goes on",
    )
    assert torch.load(newest_checkpoint(tmp_path / "run"), weights_only=True)["position"]["step"] == 3
    found = ended(tmp_path / "b", started(tmp_path / "b", tmp_path / "run", 2, *options))
    assert [each["status"] for each in found] == ["done", "done"]
    for rank in (0, 1):  # as if nothing had happened, to the bit: two processes sum in one order
        assert found[rank]["slow"] == whole[2][0][rank]["slow"][3:]
        assert found[rank]["shown"] == whole[2][0][rank]["shown"][3:]
    assert history(tmp_path / "run") == history(whole[2][1])
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_processes_that_do_not_divide_a_batch_train_as_one_to_the_last_digits(tmp_path, monkeypatch):
    # The task's own loss is of float32 logits, whatever the network gives; processes that are forked have this one.
    monkeypatch.setattr(ImageNet, "loss", lambda _, model, batch: F.cross_entropy(model(batch.inputs), batch.targets))
    # Ten images in five passes of two: the processes have four, four and two of each batch.
    network = ("model=resnet8", "model._target_=tests.helpers.narrow_resnet.Float64ResNet8")
    arguments = (*network, "batch_size=10", "batch_norm_images=2")
    found = {}
    for count in (1, 3):
        folder = tmp_path / f"of-{count}"
        found[count] = ended(folder, started(folder, tmp_path / f"run-{count}", count, *arguments))
        assert [fact["status"] for fact in found[count]] == ["done"] * count
    assert [[len(shown) for shown in fact["shown"]] for fact in found[3]] == [[4, 4], [4, 4], [2, 2]]
    assert batches(found[3]) == batches(found[1])
    one, three = (state(tmp_path / f"run-{count}")["model"] for count in (1, 3))
    for name, tensor in one.items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(three[name], tensor, rtol=1e-11, atol=1e-13)
    rows = [history(tmp_path / f"run-{count}")[-1] for count in (1, 3)]
    assert float(rows[0]["train/running_loss"]) == pytest.approx(float(rows[1]["train/running_loss"]), rel=1e-12)
    shutil.rmtree(tmp_path)


@pytest.fixture
def files(tmp_path):
    """Eighteen images of three classes in files, of which one is grey and one CMYK; the arguments of a run on them."""
    root = write_images(tmp_path / "data" / "imagenet", {"train": 6, "val": 2})
    picture(1).convert("L").save(root / "train" / "n01" / "0.JPEG")
    picture(2).convert("CMYK").save(root / "train" / "n01" / "1.JPEG")
    images = ("task.images._target_=experiments.vision.image_files.in_files", "~task.images.classes")
    sizes = ("task.num_classes=3", "task.images.train_per_class=null", "task.images.val_per_class=null")
    return root, (*images, *sizes, f"runtime.data_dir={root.parent}", "epochs=1")


@pytest.mark.slow
def test_a_file_cut_off_is_named_by_all_processes_and_the_run_goes_on_once_it_is_mended(files, tmp_path):
    root, arguments = files
    path = root / "val" / "n10" / "1.JPEG"  # of the second process
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    first, second = ended(tmp_path, started(tmp_path, tmp_path / "run", 2, *arguments, "runtime.workers=1"))
    assert second["status"] == "UnreadableImage"
    assert second["message"].startswith(f"{path} cannot be read as an image (image file is truncated")
    assert first["status"] == "ProcessLost"
    assert f"(process 1: {path} cannot be read as an image" in first["message"]
    path.write_bytes(content)
    again = ended(tmp_path, started(tmp_path, tmp_path / "run", 2, *arguments, "runtime.workers=1"))
    assert [fact["status"] for fact in again] == ["done", "done"]
    assert all(len(shown) == 8 for shown in batches(again)[:2])
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["one is missing", "one has another name"])
def test_processes_that_see_other_images_are_refused_before_anything_is_written(what, files, tmp_path):
    root, arguments = files
    other = tmp_path / "other" / "imagenet"
    shutil.copytree(root, other)
    image = other / "train" / "n02" / "3.JPEG"
    if what == "one is missing":
        image.unlink()
        expected = r"training images 17 there, 18 here; digest of the names of training images \w+ there, \w+ here"
    else:
        image.rename(image.with_name("3b.JPEG"))
        expected = r"digest of the names of training images \w+ there, \w+ here"
    own = [f"runtime.data_dir={other.parent}"]
    for fact in ended(tmp_path, started(tmp_path, tmp_path / "run", 2, *arguments, own=own)):
        assert fact["status"] == "ConfigurationError"
        line = rf"the processes see other data \({expected}\); here is process 0, there 1"
        assert re.fullmatch(line, fact["message"]), fact["message"]
    assert list((tmp_path / "run").iterdir()) == []
