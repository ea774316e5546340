"""Runs of task=imagenet: the paper's values, resumed runs, and images that cannot be read."""

from __future__ import annotations

import signal
from itertools import pairwise

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from experiments.engine import loop
from experiments.engine.errors import ConfigurationError
from experiments.engine.experiment import SCALES
from experiments.engine.identity import run_name
from experiments.vision.image_files import UnreadableImage
from tests.engine.test_resume import assert_same_training
from tests.helpers.images import write_images
from tests.helpers.running import configuration, history, newest_checkpoint, run_in, run_in_child, signal_at_call

# 50 images of 4 updates per epoch.
RUN = ["task=imagenet", "scale=smoke", "epochs=2", "runtime.threads=1"]
TASKS = ("imagenet", "imagenet_aggressive")
FILES = [
    "task.images._target_=experiments.vision.image_files.in_files",
    "~task.images.classes",
    "task.num_classes=3",
    "batch_size=8",
]


@pytest.mark.parametrize("optim", ["sgd", "la_sgd"])
@pytest.mark.parametrize(("task", "epochs", "cuts"), [(TASKS[0], 90, [30, 60]), (TASKS[1], 60, [30, 48, 58])])
def test_the_paper_s_values_are_those_of_section_5_2_and_appendix_c2(task, epochs, cuts, optim):
    config = configuration(f"task={task}", f"optim={optim}")
    assert (config.epochs, config.batch_size, list(config.schedule.milestones)) == (epochs, 256, cuts)
    assert config.schedule.gamma == 0.1
    assert (config.optim.lr, config.optim.momentum, config.optim.weight_decay) == (0.1, 0.9, 1e-4)
    assert "nesterov" not in config.optim.optimizer
    if optim == "la_sgd":
        assert (config.optim.k, config.optim.alpha, config.optim.inner_state) == (5, 0.5, "maintain")
    assert (config.task.size, config.task.resize, config.task.smallest_crop, config.task.flip) == (224, 256, 0.08, True)
    assert (list(config.evaluation.splits), config.evaluation.every_epochs) == (["val"], 1)
    assert (config.task.num_classes, config.task.eval_batch_size, config.precision) == (1000, 256, "fp32")


@pytest.mark.parametrize(("model", "parameters"), [("resnet50", 25_557_032), ("resnet152", 60_192_808)])
def test_the_networks_are_torchvision_s_without_their_last_scale_at_zero(model, parameters):
    config = configuration("task=imagenet", f"model={model}")
    with torch.device("meta"):
        made = instantiate(config.model)
    assert type(made).__module__ == "torchvision.models.resnet"
    assert sum(parameter.numel() for parameter in made.parameters()) == parameters
    assert (made.layer2[0].conv1.stride, made.layer2[0].conv2.stride) == ((1, 1), (2, 2))  # "v1.5"


def test_a_block_s_last_scale_begins_at_one():
    config = configuration("task=imagenet", "model=resnet50", "task.num_classes=2")
    assert instantiate(config.model).layer1[0].bn3.weight.min() == 1
    assert instantiate(config.model, zero_init_residual=True).layer1[0].bn3.weight.max() == 0


@pytest.mark.parametrize("model", ["resnet50", "resnet152"])
def test_images_of_other_than_three_channels_are_no_input_of_these_networks(model):
    with pytest.raises((ValueError, InstantiationException), match=r"model\.in_channels=1 is not .*; they take 3"):
        instantiate(configuration("task=digits", f"model={model}").model)


def test_both_schedules_stay_apart_with_all_their_cuts_at_every_scale():
    for scale in SCALES:
        plain, aggressive = (configuration(f"task={task}", f"scale={scale}") for task in TASKS)
        assert plain.epochs > aggressive.epochs
        for config, cuts in ((plain, 2), (aggressive, 3)):
            edges = [0, *config.schedule.milestones, config.epochs]
            assert len(edges) == cuts + 2
            assert all(one < other for one, other in pairwise(edges)), (scale, edges)


def test_names_of_runs_tell_tasks_networks_and_batch_norm_but_not_workers():
    assert run_name(configuration("task=imagenet")) == "imagenet-la_sgd"
    assert run_name(configuration("task=imagenet_aggressive", "optim=sgd")) == "imagenet_aggressive-sgd"
    given = ["runtime.workers=7", "runtime.data_dir=/somewhere", "runtime.evaluation_batch_size=3"]
    chosen = ["task=imagenet", "model=resnet152", "batch_norm_images=64", *given]
    assert run_name(configuration(*chosen)) == "imagenet-la_sgd,batch_norm_images=64,model=resnet152"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run_in(folder, *RUN)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("call", "workers"), [(3, 2), (6, 0)])
def test_killed_in_mid_epoch_it_goes_on_with_the_same_images_and_crops_to_the_same_bits(call, workers, whole, tmp_path):
    arguments = [*RUN, f"runtime.workers={workers}", "runtime.checkpoint_every_steps=1"]
    prepare = signal_at_call(loop.Trainer, "update", call, signal.SIGKILL)
    assert run_in_child(tmp_path, *arguments, prepare=prepare) == -signal.SIGKILL
    assert torch.load(newest_checkpoint(tmp_path), weights_only=True)["position"]["step"] == call - 1
    run_in(tmp_path, *arguments)
    assert history(tmp_path) == history(whole)
    assert_same_training(tmp_path, whole)


@pytest.fixture
def files(tmp_path):
    root = write_images(tmp_path / "imagenet", {"train": 6, "val": 2})
    return root, [*RUN, *FILES, f"runtime.data_dir={tmp_path}"]


def test_images_in_files_are_trained_on(files, tmp_path):
    summary = run_in(tmp_path / "run", *files[1])
    assert summary["samples"] == 30
    assert set(summary["final"]) == {"train/running_loss", "val/loss", "val/accuracy", "val/top5_accuracy"}
    assert summary["final"]["val/top5_accuracy"] == 100  # of three classes


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_ends_the_run_which_goes_on_once_it_is_mended(workers, files, tmp_path):
    root, arguments = files
    path = root / "val" / "n10" / "1.JPEG"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableImage, match=f"{path} cannot be read as an image .*truncated"):
        run_in(tmp_path / "run", *arguments, f"runtime.workers={workers}")
    path.write_bytes(content)
    assert run_in(tmp_path / "run", *arguments, f"runtime.workers={workers}")["status"] == "done"


def test_a_wrong_folder_is_named_before_a_run_s_folder_has_anything(files, tmp_path):
    with pytest.raises(ConfigurationError, match=r"other/train is missing; wanted in .*other"):
        run_in(tmp_path / "run", *files[1], "task.images.folder=other")
    with pytest.raises(ConfigurationError, match=r"task\.num_classes=4, but the training images are of 3 classes"):
        run_in(tmp_path / "run", *files[1], "task.num_classes=4")
    assert list((tmp_path / "run").iterdir()) == []
