"""The ImageNet task: its batches on any number of processes, its evaluation, and what it refuses."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.transforms import functional

from experiments.engine.evaluation import check_splits
from experiments.engine.processes import ALONE
from experiments.engine.task import Share
from experiments.vision.augment import draw_epoch
from experiments.vision.image_files import in_files
from experiments.vision.image_loading import MEAN, STD, Views, loaded, training_transform
from experiments.vision.imagenet import ImageNet
from experiments.vision.made_images import made
from tests.helpers.images import write_images

IMAGES = partial(made, train_per_class=9, val_per_class=4, classes=7)  # 63 and 28
CPU = torch.device("cpu")


class Means(nn.Module):
    """Logits from the mean of each channel: fast, and different for every image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.norm = nn.Linear(3, 7), nn.BatchNorm2d(3)

    def forward(self, images):
        return self.linear(self.norm(images).mean((2, 3)))


def task(images=IMAGES, **settings) -> ImageNet:
    defaults = {"num_classes": 7, "channels": 3, "batch_size": 16, "seed": 1, "size": 16, "resize": 20, "workers": 0}
    return ImageNet(Means(), images, device=CPU, data_dir="unused", **(defaults | settings))


def shown(subject: ImageNet, epoch: int, start: int = 0, share: Share = Share()) -> list[tuple]:  # noqa: B008
    """Return (inputs, labels) of each update of this process, its parts put together; without parts of weight 0."""
    found = []
    for update in subject.updates(epoch, start, share):
        parts = [part for part in update.parts if part.weight]
        assert all(part.size == len(part.inputs) == len(part.targets) == part.weight for part in parts)
        both = [[part.inputs for part in parts], [part.targets for part in parts]]
        found.append((update.size, *(torch.cat(each) if each else None for each in both)))
    return found


def assert_same(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for (size, inputs, labels), (other_size, others, other_labels) in zip(ours, theirs, strict=True):
        assert size == other_size
        assert torch.equal(inputs, others)
        assert torch.equal(labels, other_labels)


def test_an_epoch_shows_every_image_once_in_the_order_and_with_the_crops_of_seed_and_epoch():
    subject, files = task(seed=3), IMAGES("unused")
    order = draw_epoch(3, 2, 63, 0, False).order
    found = shown(subject, 2)
    assert [size for size, _, _ in found] == [16, 16, 16, 15]
    assert subject.steps() == 4
    assert torch.equal(torch.cat([labels for _, _, labels in found]), torch.tensor(files.train.labels)[order])
    views = Views(files.train, training_transform(16, 0.08, True), (3, 2))
    ((inputs, _),) = loaded(views, [order.tolist()], 0, CPU, False)
    assert torch.equal(torch.cat([inputs for _, inputs, _ in found]), inputs)
    assert len(set(order.tolist())) == 63


def test_an_epoch_started_at_batch_i_is_the_tail_of_the_whole_with_workers_and_without():
    whole = shown(task(), 4)
    for start in range(5):
        assert_same(shown(task(), 4, start), whole[start:])
    assert_same(shown(task(workers=2), 4, 1), whole[1:])


def test_other_epochs_and_seeds_show_other_batches():
    first = [shown(task(seed=seed), epoch)[0] for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for i, (_, one, _) in enumerate(first):
        assert not any(torch.equal(one, other) for _, other, _ in first[:i])


@pytest.mark.parametrize(
    "shares",
    [
        [Share(rank, 2) for rank in range(2)],
        [Share(rank, 5, micro=3) for rank in range(5)],
        [Share(0, 1, micro=4)],
        [Share(0, 1, pass_size=6)],
        [Share(rank, 2, pass_size=6) for rank in range(2)],
        [Share(rank, 17) for rank in range(17)],  # more processes than images in a batch
    ],
)
def test_the_parts_of_all_processes_are_the_same_global_batches(shares):
    whole = shown(task(), 1)
    apart = [shown(task(), 1, share=share) for share in shares]
    for number, (size, inputs, labels) in enumerate(whole):
        own = [each[number] for each in apart]
        assert {its for its, _, _ in own} == {size}
        assert torch.equal(torch.cat([its for _, its, _ in own if its is not None]), inputs)
        assert torch.equal(torch.cat([its for _, _, its in own if its is not None]), labels)


def test_a_process_with_nothing_of_a_batch_passes_two_images_of_weight_0():
    updates = list(task(batch_size=2).updates(0, 0, Share(3, 5)))
    assert len(updates) == 32
    for update in updates:
        (part,) = update.parts
        assert (part.size, part.weight) == (0, 0.0)
    assert [len(update.parts[0].inputs) for update in updates] == [2] * 31 + [1]
    assert [update.weight for update in updates] == [2.0] * 31 + [1.0]


def test_batch_norm_sees_as_many_images_as_it_is_told_to():
    sizes = [[part.size for part in update.parts] for update in task().updates(0, 0, Share(pass_size=6))]
    assert sizes == [[6, 6, 4]] * 3 + [[6, 6, 3]]


def measured(subject: ImageNet, split: str, shares, model=None) -> dict[str, tuple[float, float]]:
    total: dict[str, tuple[float, float]] = {}
    for share in shares:
        for name, mean in subject.evaluate(model or subject.model, split, share, ALONE, lambda: None).items():
            before = total.get(name, (0.0, 0.0))
            total[name] = (before[0] + float(mean.total), before[1] + mean.count)
    return total


def by_hand(subject: ImageNet, split) -> dict[str, float]:
    """Evaluate an image at a time, in double precision."""
    model = subject.model.double().eval()
    loss = first = five = 0.0
    for place in range(len(split)):
        image, label = functional.resize(split.image(place), 20), int(split.labels[place])
        image = functional.normalize(functional.to_tensor(functional.center_crop(image, 16)).double(), MEAN, STD)
        with torch.no_grad():
            logits = model(image[None])[0]
        loss += (logits.logsumexp(0) - logits[label]).item()
        better = int((logits > logits[label]).sum())
        first, five = first + (better == 0), five + (better < 5)
    model.float().train()
    count = len(split)
    return {"loss": loss / count, "accuracy": 100 * first / count, "top5_accuracy": 100 * five / count}


@pytest.mark.parametrize(
    ("ranks", "batch", "workers"), [(1, 256, 0), (1, 5, 0), (1, 9, 2), (3, 5, 0), (8, 3, 0), (30, 2, 0)]
)
def test_every_validation_image_counts_once_on_any_number_of_processes(ranks, batch, workers):
    subject = task(eval_batch_size=batch, workers=workers)
    found = measured(subject, "val", [Share(rank, ranks) for rank in range(ranks)])
    assert {count for _, count in found.values()} == {28}
    expected = by_hand(subject, subject.val)
    assert found.keys() == {f"val/{name}" for name in expected}
    for name, value in expected.items():
        total, count = found[f"val/{name}"]
        assert total / count == pytest.approx(value, rel=1e-5)  # float32; an image of 28 is 3.6 percent
    assert 0 < expected["accuracy"] < expected["top5_accuracy"] < 100


def test_the_training_images_can_be_measured_clean_augmented_or_not_at_all():
    subject = task()
    found = measured(subject, "train", [Share()])
    expected = by_hand(subject, subject.train)
    assert {name: total / count for name, (total, count) in found.items()} == pytest.approx(
        {f"train/{name}": value for name, value in expected.items()}, rel=1e-5
    )
    augmented = task(train_pass="augmented")
    first = measured(augmented, "train", [Share(), Share()])
    assert first == measured(augmented, "train", [Share(), Share()])
    assert first["train/loss"][1] == 126
    inputs, labels = (torch.cat(each) for each in list(zip(*shown(augmented, -1), strict=True))[1:])
    with torch.no_grad():
        loss = nn.functional.cross_entropy(augmented.model.eval()(inputs), labels)
    assert first["train/loss"][0] / 126 == pytest.approx(loss.item(), rel=1e-5)
    assert measured(task(train_pass="none"), "train", [Share()]) == {}


def test_evaluation_leaves_mode_statistics_and_generator_and_needs_no_gradients():
    subject, seen = task(), []

    def wrapper(images):
        seen.append((len(images), torch.is_grad_enabled(), subject.model.training))
        return subject.model(images)

    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    state = torch.get_rng_state()
    measured(subject, "val", [Share()], wrapper)
    assert seen == [(28, False, False)]
    assert subject.model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in subject.model.state_dict().items())


def test_ticks_come_before_anything_is_read_and_before_each_batch_and_may_interrupt():
    subject, ticks = task(eval_batch_size=10), []
    subject.evaluate(subject.model, "val", Share(), ALONE, lambda: ticks.append(1))
    assert len(ticks) == 1 + 3

    def interrupt() -> None:
        raise KeyboardInterrupt

    subject.batches = None  # would fail
    with pytest.raises(KeyboardInterrupt):
        subject.evaluate(subject.model, "val", Share(), ALONE, interrupt)


def test_a_check_of_the_splits_reads_no_image():
    subject = task()
    subject.batches = None  # would fail
    check_splits(subject, ["train", "val"])
    with pytest.raises(Exception, match=r"evaluation\.splits: there is no test; choose from train, val"):
        check_splits(subject, ["test"])


def test_batch_norm_is_estimated_from_whole_training_batches_the_same_every_time():
    subject = task(batch_size=32)
    one, two = list(subject.batch_norm_inputs()), list(subject.batch_norm_inputs())
    assert [len(inputs) for inputs in one] == [32, 31]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_inputs_come_in_the_memory_format_asked_for():
    formats = []
    subject = task(channels_last=True)
    for update in subject.updates(0):
        formats += [part.inputs.is_contiguous(memory_format=torch.channels_last) for part in update.parts]
    measured(
        subject,
        "val",
        [Share()],
        lambda images: formats.append(images.is_contiguous(memory_format=torch.channels_last)) or subject.model(images),
    )
    assert formats == [True] * 5


def never(folder):
    raise AssertionError("images were looked for")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 .* at least 1"),
        ({"eval_batch_size": 2.5}, "eval_batch_size=2.5 .* whole number"),
        ({"seed": -1}, "seed=-1"),
        ({"num_classes": 0}, r"task\.num_classes=0"),
        ({"channels": 1}, r"task\.channels=1 .* give 3"),
        ({"size": 0}, r"task\.size=0 .* at least 1"),
        ({"size": 30, "resize": 20}, r"task\.resize=20 .* at least 30"),
        ({"smallest_crop": 0}, r"task\.smallest_crop=0 .* above 0, at most 1"),
        ({"smallest_crop": 1.5}, r"task\.smallest_crop=1\.5"),
        ({"smallest_crop": True}, r"task\.smallest_crop=True"),
        ({"flip": 1}, r"task\.flip=1 .* true or false"),
        ({"channels_last": None}, r"task\.channels_last=None"),
        ({"workers": -1}, r"runtime\.workers=-1 .* at least 0"),
        ({"workers": "many"}, r"runtime\.workers=many"),
        ({"train_pass": "noisy"}, r"evaluation\.train_pass=noisy is none of clean, augmented, none"),
        ({"model_classes": 10}, r"model\.num_classes=10, but the task has 7 classes"),
        ({"images": None}, r"task\.images=None .* _target_"),
        ({"images": partial(never, train_per_class=0)}, r"task\.images\.train_per_class=0 .* at least 1"),
        ({"images": partial(never, val_per_class="a")}, r"task\.images\.val_per_class=a"),
        ({"images": partial(never, folder=5)}, r"task\.images\.folder=5 .* name of a folder"),
    ],
)
def test_settings_out_of_range_are_refused_before_any_image_is_looked_for(settings, message):
    with pytest.raises(ValueError, match=message):
        task(**({"images": never} | settings))


def test_values_at_the_ends_of_their_ranges_are_taken():
    task(workers=None, size=20, resize=20, smallest_crop=1, batch_size=63, model_classes=7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 64}, r"batch_size=64 is not an integer in 1\.\.63"),
        ({"num_classes": 1000}, r"task\.num_classes=1000, but the training images are of 7 classes \(class 0"),
        ({"num_classes": 6}, r"task\.num_classes=6, but the training images are of 7 classes"),
    ],
)
def test_settings_that_do_not_fit_the_images_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        task(**settings)


def test_images_in_files_are_found_below_the_data_folder(tmp_path):
    write_images(tmp_path / "sample", {"train": 2, "val": 1}, tuple("abcdefg"))
    images = partial(in_files, folder="sample")
    subject = ImageNet(
        Means(), images, num_classes=7, channels=3, batch_size=4, seed=0, device=CPU, data_dir=tmp_path, workers=0
    )
    assert (len(subject.train), len(subject.val)) == (14, 7)
    ((first,), *_) = (update.parts for update in subject.updates(0))
    assert first.inputs.shape == (4, 3, 224, 224)
    ((inputs, labels),) = subject.batches("val", Share())
    assert inputs.shape == (7, 3, 224, 224)
    assert labels.tolist() == list(range(7))


def test_the_images_that_all_processes_must_see_are_summed_up():
    summary = task().data_summary()
    files = IMAGES("unused")
    assert summary == {
        "training images": 63,
        "validation images": 28,
        "digest of the names of training images": files.train.digest(),
        "digest of the names of validation images": files.val.digest(),
    }


def test_nothing_is_carried_from_batch_to_batch():
    subject = task()
    assert subject.state_dict() == {}
    assert subject.derive({"val/loss": 1.0}) == {}
    subject.load_state_dict([{}, {}])
    with pytest.raises(ValueError, match=r"ImageNet carries no state, but was given .'position'"):
        subject.load_state_dict([{"position": 3}])
