"""The benchmark of ImageNet: what a turn counts, what is said of the goals, and the recipe that it compares with."""

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from PIL import Image
from torch.nn import functional as F
from torchvision import transforms

from benchmarks import imagenet, imagenet_results, turns
from benchmarks.imagenet_results import FAST, LOADER, LOOP, OURS, PLAIN, STEP, Case, Share, findings, rows_of
from benchmarks.pictures import lay_out, photographs, write_made
from benchmarks.plain_imagenet import PlainImageNet
from experiments.vision.image_files import in_files
from tests.helpers.images import write_images

CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path) -> Path:
    files = sorted(write_images(tmp_path / "pictures", {"train": 2}).rglob("*.JPEG"))
    return lay_out(tmp_path / "images", files, 12, classes=3)


def options(root=None, *given):
    sizes = ["--size", "24", "--batch-size", "4", "--updates", "2", "--loader-batch-size", "3", "--loader-batches", "2"]
    return imagenet.parser().parse_args([*sizes, "--workers", "0", "--root", str(root), "--threads", "1", *given])


def test_images_are_links_to_the_files_in_the_layout_of_imagenet(tmp_path):
    files = [tmp_path / f"{name}.JPEG" for name in "ab"]
    for shade, path in enumerate(files):
        Image.new("RGB", (8, 8), (100 * shade, 0, 0)).save(path)
    split = in_files(tmp_path, lay_out(tmp_path / "images", files, 8, classes=3).name).train
    by_label = {}
    for place, label in enumerate(split.labels.tolist()):
        by_label.setdefault(label, []).append(split.image(place).getpixel((4, 4))[0] > 50)
    # 0, 1 and 2 fill the classes with a, b and a; then come b and a, of classes 1 and 0, and so on.
    assert by_label == {0: [False] * 3, 1: [True] * 4, 2: [False]}
    with pytest.raises(ValueError, match="2 images do not fill 3 classes"):
        lay_out(tmp_path / "few", files, 2, classes=3)


def test_made_images_are_as_large_as_imagenet_s(tmp_path):
    files = write_made(tmp_path / "made", 2)
    assert [Image.open(path).size for path in files] == [(500, 375)] * 2
    assert all(60_000 < path.stat().st_size < 160_000 for path in files)
    assert files[0].read_bytes() != files[1].read_bytes()


def test_photographs_are_found_where_they_are(tmp_path):
    assert photographs(tmp_path) == {}
    write_images(tmp_path / "imagenette_mini", {"train": 2})
    ((name, files),) = photographs(tmp_path).items()
    assert name == "photographs, 224 x 224"
    assert len(files) == 6


def test_the_plain_recipe_shows_what_torchvision_s_transforms_show_and_each_image_once(root):
    plain = PlainImageNet("resnet18", root, CPU, 5, 0, size=24)
    dataset = plain.loader.dataset
    crop = transforms.Compose([transforms.RandomResizedCrop(24), transforms.RandomHorizontalFlip()])
    normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for place, (path, label) in enumerate(dataset.samples):
        torch.manual_seed(place)
        expected = normalize(transforms.functional.to_tensor(crop(Image.open(path))))
        torch.manual_seed(place)
        image, target = dataset[place]
        assert torch.equal(image, expected)
        assert target == label
    targets = [target for _, target in plain.batches()]
    assert [len(target) for target in targets] == [5, 5, 2]
    assert sorted(torch.cat(targets).tolist()) == sorted(dataset.targets)
    orders = [torch.cat([target for _, target in plain.batches()]).tolist() for _ in range(8)]
    assert any(order != orders[0] for order in orders)


def test_the_plain_update_is_one_step_of_sgd_and_reads_the_loss(root):
    plain = PlainImageNet("resnet18", root, CPU, 6, 0, size=32, rate=0.02)
    ((images, target), *_) = plain.batches()
    model = torchvision.models.resnet18(num_classes=3)
    model.load_state_dict(plain.model.state_dict())
    weights = list(model.parameters())
    loss = F.cross_entropy(model(images), target)
    gradients = torch.autograd.grad(loss, weights)
    plain.update(images, target)
    for p, before, gradient in zip(plain.model.parameters(), weights, gradients, strict=True):
        torch.testing.assert_close(p, before - 0.02 * (gradient + 1e-4 * before), rtol=1e-4, atol=1e-6)
    assert plain.losses.avg == pytest.approx(loss.item(), rel=1e-5)
    assert plain.losses.count == 6
    assert plain.top5.avg == 100  # of three classes
    plain.restart()
    assert plain.losses.count == 0


class Counted:
    """In the place of a candidate: an epoch has batches of 10 images, and each update takes 2 s of a clock."""

    def __init__(self, clock):
        self.clock, self.read, self.updates = clock, 0, 0

    def batches(self):
        for number in range(100):
            self.read += 1
            self.clock.now += 1.0
            yield number

    def update(self, batch):
        self.updates += 1
        self.clock.now += 2.0

    def size(self, batch):
        return 10

    def finish(self):
        self.clock.now += 3.0  # what was queued
        return 0.5


@pytest.mark.parametrize(
    ("part", "rate", "read", "updates"),
    [(LOADER, 10 * 4 / (4 + 3), 4, 0), (STEP, 10 * 6 / (6 * 2 + 3), 2, 6), (LOOP, 10 * 6 / (6 * 3 + 3), 6, 6)],
)
def test_a_turn_counts_images_and_waits_for_what_was_queued(part, rate, read, updates, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(imagenet.time, "perf_counter", lambda: clock.now)
    side = Counted(clock)
    turn = imagenet.turn_of(part, side, options("none", "--updates", "6", "--loader-batches", "4"))
    assert turn(None)[:2] == (pytest.approx(rate), 0.5)
    assert (side.read, side.updates) == (read, updates)


@pytest.mark.parametrize("part", [LOADER, STEP, LOOP])
@pytest.mark.parametrize("name", [PLAIN, OURS])
def test_both_candidates_take_their_turns(name, part, root, tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "HARDWARE", "cpu")
    monkeypatch.setattr(imagenet, "GPU", False)
    given = options(root)
    configured = imagenet.imagenet_configuration
    monkeypatch.setattr(imagenet, "imagenet_configuration", lambda *a: configured(*a, "task.num_classes=3"))
    side = imagenet.candidate(name, given, 4, tmp_path)
    rate, loss, memory = imagenet.turn_of(part, side, given)(None)
    assert rate > 0
    assert (loss > 0.1) == (part != LOADER)
    assert memory > 2**20


def test_the_fast_candidate_is_set_by_hardware_and_wraps_lookahead_around_sgd(root):
    config = imagenet.configuration(options(root), 4, "hardware=cpu")
    assert config.runtime.channels_last
    assert (config.optim.name, config.batch_size, config.task.size, config.runtime.workers) == ("la_sgd", 4, 24, 0)
    assert config.optim.lr == pytest.approx(0.1 * 4 / 256)
    assert not imagenet.configuration(options(root), 4).runtime.channels_last


class Answering(contextlib.AbstractContextManager):
    """In the place of a process: the n-th one answers what is planned for it."""

    made: list["Answering"]
    answers: list

    def __init__(self, script, arguments, environment=None):
        self.arguments, self.environment, self.asked = arguments, environment, []
        self.plan = iter(self.answers[len(self.made)])
        self.made.append(self)

    def ask(self, question=None):
        self.asked.append(question)

    def answer(self):
        return next(self.plan)

    def __exit__(self, *error):
        pass


@pytest.fixture
def answering(monkeypatch):
    Answering.made = []
    for module in (imagenet, turns):
        monkeypatch.setattr(module, "Worker", Answering)
    return Answering


def test_the_first_round_warms_up(answering):
    rounds = [[(1.0, 9.0, 5), (10.0, 8.0, 6), (20.0, 7.0, 7)], [(2.0, 9.0, 5), (30.0, 8.0, 6), (40.0, 7.0, 8)]]
    answering.answers = rounds
    plain, fast = imagenet.measure(STEP, "photographs", (PLAIN, FAST), ["--x"], rounds=2)
    assert (plain.rates, fast.rates) == ([10.0, 20.0], [30.0, 40.0])
    assert (plain.losses, fast.memory) == ([9.0, 8.0, 7.0], 8)
    assert [worker.arguments for worker in answering.made] == [
        ["--x", "--part", STEP, "--only", PLAIN],
        ["--x", "--part", STEP, "--only", FAST],
    ]


def test_two_processes_meet_share_the_threads_and_the_slowest_counts(answering, monkeypatch):
    works = [{"update": 2.0, "between": own, "synchronizing": own, "k": 5} for own in (0.01, 0.03)]
    answering.answers = [[work] for work in works]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    share = imagenet.measure_share("resnet50", 2, options("r", "--threads", "5", "--share-loops", "7"), [])
    assert share.percent == pytest.approx(1.5)
    assert (share.processes, share.device) == (2, "cpu")
    assert [worker.environment["RANK"] for worker in answering.made] == ["0", "1"]
    assert {worker.environment["WORLD_SIZE"] for worker in answering.made} == {"2"}
    assert len({worker.environment["MASTER_PORT"] for worker in answering.made}) == 1
    assert all(worker.arguments[-4:] == ["--threads", "2", "--batch-size", "4"] for worker in answering.made)
    assert [worker.asked for worker in answering.made] == [[7], [7]]


@pytest.mark.parametrize(("gpus", "device", "batch_size", "loops"), [(1, "cpu", 8, 2), (2, "cuda", 256, 20)])
def test_processes_without_a_gpu_each_are_on_the_cpu_with_batches_for_it(
    gpus, device, batch_size, loops, answering, monkeypatch
):
    answering.answers = [[{"update": 2.0, "between": 0.01, "synchronizing": 0.01, "k": 5}]] * 2
    monkeypatch.setattr(imagenet, "HARDWARE", "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    given = options("r", "--batch-size", "256", "--share-loops", "20")
    share = imagenet.measure_share("resnet50", 2, given, ["--batch-size", "256"])
    assert (share.device, share.batch_size) == (device, batch_size)
    assert [worker.asked for worker in answering.made] == [[loops]] * 2
    command = answering.made[0].arguments
    assert imagenet.parser().parse_args(command).batch_size == batch_size
    assert imagenet.parser().parse_args(command).device == device


CASES = [
    Case(STEP, "photographs", PLAIN, [10.0, 20.0, 10.0], memory=2**20),
    Case(STEP, "photographs", FAST, [12.0, 26.0, 9.0], memory=2**21),
    Case(LOADER, "photographs", PLAIN, [100.0, 100.0, 100.0]),
    Case(LOADER, "photographs", FAST, [99.0, 99.0, 101.0]),
    Case(LOADER, "made", PLAIN, [100.0]),
    Case(LOADER, "made", FAST, [100.0]),
]


def test_candidates_are_compared_with_the_plain_one_of_their_part_and_images_round_by_round():
    rows = rows_of(CASES)
    assert [row["times plain"] for row in rows] == ["1.00", "1.20", "1.00", "0.99", "1.00", "1.00"]
    assert (rows[1]["images/s (median)"], rows[1]["lowest"], rows[1]["highest"]) == (12.0, 9.0, 26.0)
    assert rows[1]["peak memory (MiB)"] == 2


@pytest.mark.parametrize(("goal", "met"), [(1.2, "met"), (1.21, "missed")])
def test_what_is_said_of_the_goals(goal, met, monkeypatch):
    monkeypatch.setattr(imagenet_results, "GOAL", goal)
    found = findings(CASES, [])
    assert found[0] == (
        f"{STEP} (photographs), {FAST}: 1.20 times plain (rounds 0.90 to 1.30). "
        f"The goal of at least {goal:.1f} times is {met}."
    )
    assert [sentence.rpartition(" ")[2] for sentence in found[1:]] == ["missed.", "met."]
    assert all("at least 1.0 times" in sentence for sentence in found[1:])  # of a loader: not slower


@pytest.mark.parametrize(("own", "met"), [(0.0099, "met"), (0.0101, "missed")])
def test_lookahead_s_share_has_a_goal(own, met):
    (sentence,) = findings([], [Share(1.0, own, own, 5, "resnet50", 2, "cpu", 8)])
    assert sentence.startswith("Lookahead's share of an update of resnet50, in 2 processes on the CPU, batch of 8: ")
    assert sentence.endswith(f"The goal of under 1 % is {met}.")


def test_a_partial_run_writes_only_where_it_is_told_to(tmp_path, monkeypatch, capsys):
    shares = [Share(1.0, 0.001, 0.005, 5, "resnet50", 1, "cpu", 8)]
    monkeypatch.setattr(imagenet, "measure_all", lambda *_: (CASES, shares))
    monkeypatch.setattr(imagenet, "RESULTS", tmp_path / "recorded")
    imagenet.main(["--rounds", "3"])
    assert "Not written" in capsys.readouterr().out
    imagenet.main(["--rounds", "3", "--out", str(tmp_path / "out")])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    imagenet.main([])
    record = json.loads((tmp_path / "recorded" / "imagenet.json").read_text())
    assert len(record["cases"]) == len(CASES) + 1
    assert record["cases"][1]["rates"] == [12.0, 26.0, 9.0]
    assert "Lookahead's share" in (tmp_path / "recorded" / "imagenet.md").read_text()


def test_without_photographs_images_are_made_and_every_part_is_measured_on_them(tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(imagenet, "measure", lambda part, pictures, *rest: measured.append((part, pictures)) or [])
    monkeypatch.setattr(imagenet, "measure_share", lambda model, count, *rest: (model, count))
    monkeypatch.setattr(imagenet, "lay_out", lambda root, files, images, classes: measured.append(images) or root)
    monkeypatch.setattr(imagenet, "GPU", False)
    _, shares = imagenet.measure_all(options("r", "--data-dir", str(tmp_path)), [], tmp_path)
    made = "made in code, 500 x 375"
    assert measured == [1000, (LOADER, made), (STEP, made), (LOOP, made)]
    assert shares == [("resnet50", 1), ("resnet50", 2)]
    measured.clear()
    write_images(tmp_path / "imagenette_mini", {"train": 1})
    given = options("r", "--data-dir", str(tmp_path), "--loader-batch-size", "600")
    monkeypatch.setattr(imagenet, "GPU", True)
    _, shares = imagenet.measure_all(given, [], tmp_path)
    assert measured[:2] == [1200, (LOADER, "photographs, 224 x 224")]
    assert shares == [("resnet50", 1), ("resnet152", 1), ("resnet50", 2)]


@pytest.mark.slow
def test_lookahead_s_share_is_found_in_two_processes_of_the_engine(tmp_path):
    files = sorted(write_images(tmp_path / "pictures", {"train": 1}).rglob("*.JPEG"))
    root = lay_out(tmp_path / "images", files, 1000)
    given = ["--size", "32", "--batch-size", "4", "--share-loops", "1", "--workers", "0", "--root", str(root)]
    share = imagenet.measure_share("resnet50", 2, imagenet.parser().parse_args(given), given)
    assert 0 < share.between < share.synchronizing < share.update
    assert share.k == 5
