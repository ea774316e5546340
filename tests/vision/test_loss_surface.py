"""The probe of Figure 1 looks ahead from a synchronization, and the run does not notice."""

from __future__ import annotations

import itertools
import math
import signal
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from experiments.engine import loop
from experiments.engine.errors import ConfigurationError
from experiments.engine.resolvers import ending_after
from experiments.vision import loss_surface
from experiments.vision.branch import copy_for_same_weights, vector_of
from experiments.vision.loss_surface import LossSurface, axes_around, follow
from experiments.vision.small_conv import SmallConv
from tests.engine.test_resume import assert_same_training
from tests.helpers.running import configuration, history, run_in, run_in_child, signal_at_call, state

# 7 updates per epoch, the rate cut twice after the first: the inner loop of the second one begins after update 10, and
# both it and SGD's branch, to update 16, go on into the third.
RUN = ["task=digits", "scale=smoke", "epochs=3", "optim=la_sgd", "optim.k=5"]
PROBE = [
    *RUN,
    "probe=loss_surface",
    "probe.start=1",
    "probe.sgd_updates=6",
    "probe.grid=[3,2]",
    "probe.batch_norm_batches=3",
]
FIRST, K, SGD = 10, 5, 6
SETTINGS = {"lr": 0.1 * 0.2**2, "momentum": 0.9, "weight_decay": 1e-3}  # of the digits' recipe, both cuts at once


class Watching(LossSurface):
    """Keeps what the run and its branches go through, for comparison."""

    kept: ClassVar[dict] = {}

    def after(self, event, trainer):
        kept, step = self.kept, trainer.position.step
        if event == "update" and step == FIRST:
            parts = trainer.parts
            kept["trainer"], kept["run"] = trainer, [vector_of(parts.task.model)]
            kept["model"] = {name: tensor.clone() for name, tensor in parts.task.model.state_dict().items()}
            momenta = [parts.optimizer.inner.state[p]["momentum_buffer"] for p in parts.task.model.parameters()]
            kept["momenta"] = [momentum.clone() for momentum in momenta]
            kept["sgd"] = follow(trainer, copy_for_same_weights(parts.optimizer.inner), SGD)
            kept["lookahead"] = follow(trainer, copy_for_same_weights(parts.optimizer), SGD)
        elif event == "update" and FIRST < step <= FIRST + SGD:
            kept["run"].append(vector_of(trainer.parts.task.model))
        super().after(event, trainer)


def arrays(folder):
    with np.load(folder / "loss_surface.npz") as found:
        return dict(found)


def assert_same_surface(folder, other):
    found, expected = arrays(folder), arrays(other)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run whose grid has the three points that define the plane among its six."""
    folder, patch = tmp_path_factory.mktemp("watched"), pytest.MonkeyPatch()

    def through_the_three(points, grid, margin):
        assert grid == (3, 2)
        assert margin == 0.25
        assert len(points) == K + 1 + 2 + SGD + 1
        middle, last = points[K // 2], points[K]
        return [torch.stack([points[0, 0], middle[0], last[0]]), torch.stack([points[0, 1], middle[1]])]

    patch.setattr(loss_surface, "axes_around", through_the_three)
    Watching.kept = {}
    run_in(folder, *PROBE, f"probe._target_={__name__}.Watching")
    patch.undo()
    return folder, Watching.kept


def test_a_run_with_a_surface_ends_with_the_same_bits(watched, tmp_path):
    run_in(tmp_path, *RUN)
    assert_same_training(tmp_path, watched[0])
    assert history(tmp_path) == history(watched[0])


def test_what_is_followed_on_a_copy_is_what_the_run_does_then(watched):
    kept = watched[1]
    for number, (ahead, run) in enumerate(zip(kept["lookahead"], kept["run"], strict=True)):
        assert torch.equal(ahead, run), number
    for number in range(K):  # before the synchronization, SGD's and the fast weights are the same
        assert torch.equal(kept["sgd"][number], kept["run"][number]), number
    assert not torch.equal(kept["sgd"][K], kept["run"][K])
    # Equation 1 with alpha = .5: the synchronized weights are half way from the first to the last fast ones.
    half = torch.lerp(kept["sgd"][0], kept["sgd"][K], 0.5)
    assert torch.equal(kept["run"][K], half)


def test_sgd_s_branch_is_plain_sgd_from_the_same_weights_momenta_and_batches(watched):
    kept = watched[1]
    model = SmallConv(10)
    model.load_state_dict(kept["model"])
    optimizer = torch.optim.SGD(model.parameters(), **SETTINGS, fused=True)
    for p, momentum in zip(model.parameters(), kept["momenta"], strict=True):
        optimizer.state[p]["momentum_buffer"] = momentum.clone()
    task = kept["trainer"].parts.task
    batches = [*itertools.islice(task.updates(1), 3, None), *task.updates(2)][:SGD]  # the first has number 3 of 7
    assert torch.equal(vector_of(model), kept["sgd"][0])
    for number, update in enumerate(batches, start=1):
        (batch,) = update.parts
        optimizer.zero_grad()
        F.cross_entropy(model(batch.inputs), batch.targets).backward()
        optimizer.step()
        assert torch.equal(vector_of(model), kept["sgd"][number]), number


def direct(task, weights, batches):
    """Return accuracy and loss on the test set, with statistics that are means over the first training batches."""
    model = SmallConv(10)
    start = 0
    for p in model.parameters():
        p.data = weights[start : start + p.numel()].view(p.shape)
        start += p.numel()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # torch's own cumulative mean
    for inputs in itertools.islice(task.batch_norm_inputs(), batches):
        model(inputs)
    model.eval()
    images, labels = (torch.cat(tensors) for tensors in zip(*task._val_batches(loop.Share()), strict=True))
    with torch.no_grad():
        logits = model(images)
    return 100 * (logits.argmax(1) == labels).double().mean().item(), F.cross_entropy(logits, labels).item()


def test_the_surface_at_the_three_points_and_the_paths_are_as_measured_directly(watched):
    folder, kept = watched
    found, task = arrays(folder), kept["trainer"].parts.task
    sgd = [direct(task, weights, 3) for weights in kept["sgd"]]
    slow = [direct(task, kept["run"][number], 3) for number in (0, K)]
    for path, expected in (("fast", sgd[: K + 1]), ("sgd", sgd), ("slow", slow)):
        accuracy, loss = zip(*expected, strict=True)
        np.testing.assert_allclose(found[f"{path}_accuracy"], accuracy, atol=1e-9)
        np.testing.assert_allclose(found[f"{path}_loss"], loss, rtol=1e-5)
    for place, number in (((0, 0), 0), ((1, 1), K // 2), ((0, 2), K)):  # [y, x]
        assert found["accuracy"][place] == pytest.approx(sgd[number][0], abs=1e-9)
        assert found["loss"][place] == pytest.approx(sgd[number][1], rel=1e-5)
    assert len(np.unique(found["loss"])) == 6


def test_paths_lie_where_their_weights_are(watched):
    folder, kept = watched
    found, points = arrays(folder), kept["sgd"]
    assert (found["step"], found["k"]) == (FIRST, K)
    assert [found[name].shape for name in ("fast", "slow", "sgd")] == [(K + 1, 2), (2, 2), (SGD + 1, 2)]
    length = (points[K] - points[0]).double().norm().item()
    assert found["fast"][0].tolist() == [0, 0]
    assert found["fast"][K].tolist() == pytest.approx([length, 0], abs=1e-6)
    assert found["fast"][K // 2, 1] > 0
    assert found["slow"].ravel().tolist() == pytest.approx([0, 0, length / 2, 0], abs=1e-6)
    assert found["slow_distance"].tolist() == pytest.approx([0, 0], abs=1e-6)
    np.testing.assert_array_equal(found["fast"], found["sgd"][: K + 1])
    in_plane = found["fast_distance"] < 1e-6
    assert in_plane.tolist() == [number in (0, K // 2, K) for number in range(K + 1)]
    # Pythagoras: a point is as far from the origin as its coordinates and its distance from the plane say.
    for number in range(SGD + 1):
        apart = (points[number] - points[0]).double().norm().item()
        assert math.hypot(*found["sgd"][number], found["sgd_distance"][number]) == pytest.approx(apart, rel=1e-5)


def test_the_grid_covers_the_paths_and_a_margin_of_the_longer_side():
    points = torch.tensor([[0.0, 1.0], [8.0, -1.0], [4.0, 3.0]], dtype=torch.float64)
    x, y = axes_around(points, (5, 3), 0.25)
    assert x.tolist() == [-2, 1, 4, 7, 10]
    assert y.tolist() == [-3, 1, 5]


def test_nothing_of_the_weights_is_recorded_or_stays_in_checkpoints(watched):
    assert max(array.size for array in arrays(watched[0]).values()) == 2 * (SGD + 1)
    kept = state(watched[0])["probes"]["probe"]
    assert kept["frame"] is None
    assert len(kept["values"]) == 6


KEPT = [*PROBE, "probe.batch_norm=kept", "runtime.checkpoint_every_steps=4"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run_in(folder, *KEPT, "evaluation.every_steps=10")
    return folder


def test_kept_statistics_are_those_of_the_run_when_the_inner_loop_begins(whole):
    (row,) = (row for row in history(whole) if row["step"] == str(FIRST))  # slow and fast weights are the same then
    assert arrays(whole)["fast_loss"][0] == float(row["val/loss"])


MEASURED = SGD + 2  # along the paths


@pytest.mark.parametrize(
    ("owner", "name", "count", "signum"),
    [
        (loop.Trainer, "update", FIRST + 3, signal.SIGKILL),  # goes on from update 12, inside the inner loop
        (LossSurface, "_measured", MEASURED + 4, signal.SIGKILL),  # from update 8, before it
        (LossSurface, "_measured", MEASURED + 4, signal.SIGTERM),  # from update 10, with half of the grid
        (LossSurface, "_measured", 3, signal.SIGTERM),  # along the paths, before the grid
    ],
)
def test_a_run_stopped_anywhere_has_the_same_surface_in_the_end(owner, name, count, signum, whole, tmp_path):
    exit_code = run_in_child(tmp_path, *KEPT, prepare=signal_at_call(owner, name, count, signum))
    assert exit_code == -signum
    if signum == signal.SIGTERM:
        stopped = state(tmp_path)
        assert stopped["position"]["step"] == FIRST
        assert len(stopped["probes"]["probe"]["values"]) == max(0, count - MEASURED - 1)
        assert stopped["probes"]["probe"]["frame"] is not None
    run_in(tmp_path, *KEPT)
    assert_same_surface(tmp_path, whole)


def test_a_surface_that_a_signal_cuts_at_the_run_s_last_update_is_measured_to_the_end(whole, tmp_path):
    arguments = [*KEPT, f"steps={FIRST}"]
    prepare = signal_at_call(LossSurface, "_measured", MEASURED + 4, signal.SIGTERM)
    assert run_in_child(tmp_path, *arguments, prepare=prepare) == -signal.SIGTERM
    run_in(tmp_path, *arguments)
    assert_same_surface(tmp_path, whole)


class Compiled:
    """A model as torch.compile returns it, for which no truth can be told; it keeps the sizes that it trains on."""

    sizes: ClassVar[list[int]] = []

    def __init__(self, model, **options):
        self.model = model

    def __call__(self, inputs):
        if self.model.training:
            self.sizes.append(len(inputs))
        return self.model(inputs)

    def __len__(self):
        raise TypeError("it does not support len()")


def test_a_compiled_run_has_the_same_surface_and_takes_small_batches_uncompiled_in_branches_too(
    whole, tmp_path, monkeypatch
):
    Compiled.sizes = []
    monkeypatch.setattr(torch, "compile", Compiled)
    run_in(tmp_path, *KEPT, "runtime.compile=default")
    assert_same_surface(tmp_path, whole)
    # Of 21 updates of the run, 6 of SGD's branch and 5 of Lookahead's, an epoch's last one is of 8 images.
    assert Compiled.sizes == [32] * (21 - 3 + 6 - 1 + 5 - 1)


def test_sgd_may_stop_before_the_inner_loop_ends(tmp_path, watched):
    run_in(tmp_path, *PROBE, "probe.sgd_updates=2", f"steps={FIRST}")
    found, longer = arrays(tmp_path), arrays(watched[0])
    np.testing.assert_array_equal(found["fast"], longer["fast"])
    np.testing.assert_array_equal(found["sgd"], longer["sgd"][:3])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            ["probe.start=2", "epochs=2"],
            r"probe\.start=2 is .* begins after update 15, but the run has 14; give an ear",
        ),
        (["steps=9"], r"probe\.start=1 is an inner loop that begins after update 10, but the run has 9"),
        (["epochs=null", "steps=9"], r"begins after update 10, but the run has 9"),
        (["probe.start=-1"], r"probe\.start=-1 is not possible; give a whole number of at least 0"),
        (["probe.start=0.5"], r"probe\.start=0\.5 is not possible"),
        (["probe.sgd_updates=0"], r"probe\.sgd_updates=0 is not possible; give a whole number of at least 1"),
        (["probe.grid=[3]"], r"probe\.grid=\[3\] is not possible; give two whole numbers of at least 2, such as \[21"),
        (["probe.grid=[3,1]"], r"probe\.grid=\[3, 1\] is not possible"),
        (["probe.grid=[3,2.5]"], r"probe\.grid=\[3, 2\.5\] is not possible"),
        (["probe.grid=12"], r"probe\.grid=12 is not possible"),
        (["probe.grid='21'"], r"probe\.grid=21 is not possible"),
        (["probe.margin=-0.1"], r"probe\.margin=-0\.1 is not possible; give a number of at least 0"),
        (["probe.margin=.inf"], r"probe\.margin=(\.)?inf is not possible"),
        (["probe.margin=null"], r"probe\.margin=None is not possible"),
        (["probe.batch_norm=anew"], r"probe\.batch_norm=anew is not possible; give reestimated or kept"),
        (["probe.batch_norm_batches=0"], r"probe\.batch_norm_batches=0 is not .* null or a whole number of at least 1"),
        (["optim.k=1"], r"optim\.k=1 is not possible with probe=loss_surface: .* give at least 2"),
    ],
)
def test_what_is_not_possible_is_refused_before_anything_is_written(given, words, tmp_path):
    with pytest.raises(ConfigurationError, match=words):
        run_in(tmp_path / "run", *PROBE, *given)
    assert not list((tmp_path / "run").glob("*.*"))


def test_a_run_without_lookahead_has_no_inner_loop(tmp_path):
    arguments = [word for word in PROBE if not word.startswith("optim")]
    with pytest.raises(ConfigurationError, match="needs slow weights, which SGD has not; choose optim=la_sgd"):
        run_in(tmp_path, *arguments, "optim=sgd")


def test_weights_on_a_line_are_refused_when_they_are_known_and_the_run_can_still_be_read(tmp_path):
    words = r"inner loop after update 10 lie on a line.* give another probe\.start or a greater optim\.k, now 5"
    with pytest.raises(ConfigurationError, match=words):
        run_in(tmp_path, *PROBE, "optim.lr=1e-300", "runtime.checkpoint_every_steps=4")
    assert state(tmp_path)["position"]["step"] == 8


def test_an_inner_loop_may_be_as_short_as_three_points_need(tmp_path):
    run_in(tmp_path, *PROBE, "optim.k=2", "steps=8", "probe.grid=[2,2]")
    found = arrays(tmp_path)
    assert found["step"] == 8
    assert (found["fast_distance"] < 1e-6).all()


@pytest.mark.parametrize(("scale", "start"), [("paper", 100), ("short", 15), ("smoke", 1)])
def test_the_experiment_ends_after_the_epoch_of_its_plane_on_the_schedule_of_the_whole_run(scale, start):
    config = configuration("experiment=loss_surface", f"scale={scale}")
    whole_run = configuration("task=cifar100", "optim=la_sgd", f"scale={scale}")
    assert (config.probe.start, config.epochs) == (start, start + 1)
    assert config.schedule == whole_run.schedule
    assert config.schedule.milestones[0] < start or scale == "smoke"
    assert (config.optim.k, config.optim.alpha, config.optim.inner_state) == (10, 0.8, "reset")
    assert config.model._target_.rpartition(".")[2] == ("resnet8" if scale == "smoke" else "resnet32")


@pytest.mark.parametrize("start", ["null", "later", "-3", "0.5"])
def test_the_experiment_refuses_a_start_by_its_own_name(start, tmp_path):
    with pytest.raises(ConfigurationError, match=rf"probe\.start={start.replace('null', 'None')} is not possible"):
        run_in(tmp_path, "experiment=loss_surface", "scale=smoke", f"probe.start={start}")


def test_a_run_that_ends_after_an_epoch_has_one_epoch_more_than_its_number():
    assert [ending_after(epoch) for epoch in (0, 100, -1, None, True)] == [1, 101, 1, 1, 1]
