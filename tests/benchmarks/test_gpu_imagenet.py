"""ImageNet's part of the report on a GPU, on a CPU at tiny sizes, and where it finds a fault that is planted."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu_checks, gpu_imagenet, trainers
from benchmarks.gpu_checks import RATE
from benchmarks.own_work import OwnWork
from benchmarks.pictures import lay_out
from tests.helpers.images import write_images

CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path):
    files = sorted(write_images(tmp_path / "pictures", {"train": 2}).rglob("*.JPEG"))
    return lay_out(tmp_path / "images", files, 12, classes=3)


def test_batches_agree_and_a_wrong_pixel_label_or_format_is_seen(root, monkeypatch):
    assert [check.passed for check in gpu_imagenet.batches(CPU, root, 4, 24)] == [True, True]
    loaded = gpu_imagenet.loaded

    def faults(what):
        calls = []

        def wrong(*given):
            calls.append(1)
            for number, (inputs, labels) in enumerate(loaded(*given)):
                last = number == 2 and len(calls) > 1
                if what == "pixel" and last:
                    inputs[-1, 0, 0, 0] += 2e-6
                elif what == "no number" and last:
                    inputs[-1, 0, 0, 0] = float("nan")
                elif what == "label" and last:
                    labels = labels.roll(1) + 1
                elif what == "format" and len(calls) > 1:
                    inputs = inputs.contiguous()
                yield inputs, labels

        return wrong

    never, sometimes = [False, False], [True, False]
    for what, passed in (("pixel", never), ("no number", never), ("label", never), ("format", sometimes)):
        monkeypatch.setattr(gpu_imagenet, "loaded", faults(what))
        found = gpu_imagenet.batches(CPU, root, 4, 24)
        assert [check.passed for check in found] == passed
        assert found[0].name.endswith("contiguous")


def test_images_fill_the_compared_updates_and_no_smaller_batch_comes(tmp_path, monkeypatch):
    counts = []
    monkeypatch.setattr(gpu_imagenet, "write_made", lambda folder: [])
    monkeypatch.setattr(gpu_imagenet, "lay_out", lambda root, files, count: counts.append(count) or root)
    for batch_size in (256, 3):
        gpu_imagenet.images_for(tmp_path, batch_size)
    assert counts == [20 * 256, 1002]


def test_the_configuration_is_imagenet_s_with_the_network_and_batch_asked_for(root):
    config = gpu_imagenet.configured(root, 4, 24)("resnet152", "hardware=cuda", "runtime.device=cpu")
    assert config.model._target_ == "experiments.vision.torchvision_resnets.resnet152"
    assert (config.batch_size, config.task.size, config.task.images.folder) == (4, 24, str(root))
    assert (config.precision, config.runtime.compile, config.runtime.channels_last) == ("bf16", "reduce-overhead", True)


def small(made):
    """Return what composes a tiny network on images made in code, whatever the network asked for."""

    def configure(model, *given):
        made.append((model, given))
        sizes = ["task=imagenet", "scale=smoke", "runtime.threads=1", "runtime.keep_memory=false"]
        return trainers.quiet(*sizes, *(each for each in given if each not in sizes))

    return configure


@pytest.mark.slow
def test_fast_updates_are_compared_with_eager_float32_ones_and_their_speed_is_said(tmp_path):
    made = []
    fast = ["hardware=cpu"]
    found = gpu_imagenet.resnet50(CPU, fast, tmp_path, small(made))
    assert [model for model, _ in made] == ["resnet50"] * 2
    assert [set(gpu_checks.EAGER) <= set(given) for _, given in made] == [True, False]
    assert all(f"optim.lr={RATE}" in given for _, given in made)
    assert [check.passed for check in found] == [True] * 4 + [None]
    assert [check.name.startswith("ResNet-50, ") for check in found] == [True] * 4 + [False]
    assert "loss at update 20" in found[0].name
    assert found[-1].name == "ResNet-8 at 32 px, batch 16, fp32, channels_last, not compiled"
    assert found[-1].found.endswith("; the goal on one H100 is 2,500 where data keep up")


def test_the_rate_is_that_of_the_batch_and_lookahead_s_part_is_its_own_work(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_imagenet, "timed", lambda device, work: work() or (0.0, 3 * 0.08))
    monkeypatch.setattr(gpu_imagenet, "own_work", lambda *_: OwnWork(0.1, 0.001, 0.006, 5))
    monkeypatch.setattr(gpu_imagenet, "peak_memory", lambda device: 3 * 2**30)
    trainer = trainers.started(small([])("any", "optim=la_sgd", "runtime.device=cpu"), tmp_path)
    check = gpu_imagenet.speed(trainer, count=3)
    assert check.found == "200 images/s (80.0 ms per update), 3.0 GiB at most, Lookahead 2.00 % of an update"
    assert check.passed is None
    assert trainer.position.step == 5 + 3


def test_resnet_152_is_timed_in_the_setting_that_it_is_given(tmp_path):
    made = []
    (check,) = gpu_imagenet.resnet152(CPU, ["hardware=cpu", "optim=la_sgd"], tmp_path, small(made))
    assert made == [("resnet152", ("hardware=cpu", "optim=la_sgd"))]
    assert "fp32, channels_last, not compiled" in check.name
