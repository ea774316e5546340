"""Averages in a run: when they are updated, what is evaluated, and with which batch-norm statistics."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from experiments.engine.average import Average
from experiments.engine.configuration import check
from experiments.engine.errors import ConfigurationError
from experiments.engine.evaluation import evaluated_weights, measure
from experiments.engine.loop import Trainer
from experiments.engine.parts import build
from experiments.vision.classification import ImageClassification
from lookahead import Lookahead, NonMonotonicASGD, PolyakAverage, StochasticWeightAverage
from scripts.evaluate import evaluate
from tests.engine.test_resume import assert_same_run
from tests.helpers.running import configuration, history, run_in, run_in_child, signal_at_call, state
from tests.helpers.walks import Walk, averaged

SMOKE = ["task=digits", "scale=smoke", "schedule=constant", "optim.lr=0.1"]  # 7 updates an epoch, SWA from epoch 1 on
REESTIMATED = "evaluation.batch_norm=reestimated"


def epochs(parts, count):
    """Train without the engine and without an average; yield the parts after each epoch."""
    for epoch in range(count):
        for update in parts.task.updates(epoch):
            batch = update.parts[0]
            parts.task.loss(parts.task.model, batch).backward()
            parts.optimizer.step()
            parts.optimizer.zero_grad()
        yield epoch


def evaluation(parts):
    return measure(parts, ("train", "val"))


def recorded(folder):
    names = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
    return [{name: float(row[name]) for name in names} for row in history(folder)]


def assert_close(found, expected):
    """Means that differ by roundings move a loss by about 1e-6, and no accuracy."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_swa_run_equals_torch_s_recipe(tmp_path):
    run_in(tmp_path, *SMOKE, "optim=swa", "epochs=4")
    parts = build(configuration(*SMOKE, "optim=sgd"), torch.device("cpu"))
    reference, expected = AveragedModel(parts.task.model), []
    for epoch in epochs(parts, 4):
        if epoch == 0:
            expected.append(evaluation(parts))
            continue
        reference.update_parameters(parts.task.model)
        update_bn((update.parts[0].inputs for update in parts.task.updates(-1)), reference)
        reference.eval()
        parts.forward = reference
        expected.append(evaluation(parts))
        parts.forward = parts.task.model
    assert_close(recorded(tmp_path), expected)


def test_swa_over_lookahead_averages_slow_weights_and_evaluates_them_before_it_begins(tmp_path):
    la = [*SMOKE, "optim=la_sgd", "epochs=4"]
    run_in(tmp_path / "swa", *la, "average=swa", "average.start=2")
    run_in(tmp_path / "alone", *la)
    assert recorded(tmp_path / "swa")[:2] == recorded(tmp_path / "alone")[:2]
    assert recorded(tmp_path / "swa")[2:] != recorded(tmp_path / "alone")[2:]
    trained = [state(tmp_path / name) for name in ("swa", "alone")]
    assert all(torch.equal(value, trained[1]["model"][name]) for name, value in trained[0]["model"].items())
    parts = build(configuration(*la), torch.device("cpu"))
    slow = []
    for epoch in epochs(parts, 4):
        with parts.optimizer.slow_weights():
            slow.append([p.detach().double() for p in parts.task.model.parameters()])
        if epoch == 3:  # 28 updates, so three past a synchronization: slow weights are not the fast ones
            assert not torch.equal(slow[3][0], next(parts.task.model.parameters()).double())
    means = trained[0]["average"]["mean"]["mean"]
    for mean, a, b in zip(means.values(), slow[2], slow[3], strict=True):
        torch.testing.assert_close(mean.double(), (a + b) / 2, rtol=1e-6, atol=1e-8)  # one float32 rounding


def test_an_average_by_step_begins_at_its_start_and_takes_lookahead_s_fast_weights(tmp_path):
    arguments = [*SMOKE, "optim=la_sgd", "average=polyak", "average.decay=1", "average.start=5", "epochs=1"]
    run_in(tmp_path, *arguments)
    parts = build(configuration(*arguments), torch.device("cpu"))
    fast = []
    for update in parts.task.updates(0):
        batch = update.parts[0]
        parts.task.loss(parts.task.model, batch).backward()
        parts.optimizer.step()
        parts.optimizer.zero_grad()
        fast.append(next(parts.task.model.parameters()).detach().double())
    name = next(name for name, _ in parts.task.model.named_parameters())
    assert state(tmp_path)["average"]["mean"]["updates"] == 2
    mean = state(tmp_path)["average"]["mean"]["mean"][name]
    torch.testing.assert_close(mean.double(), (fast[5] + fast[6]) / 2, rtol=1e-6, atol=1e-8)


def test_nt_asgd_gets_each_validation_and_averages_from_the_trigger_on(tmp_path):
    run_in(tmp_path, *SMOKE, "optim=nt_asgd", "optim.average.n=0", "optim.lr=0.4", "epochs=4")
    losses = [row["val/loss"] for row in recorded(tmp_path)]
    assert losses[1] > losses[0]
    saved = state(tmp_path)["average"]["mean"]
    assert saved["losses"] == losses[:2]
    assert (saved["triggered"], saved["updates"]) == (True, 14)  # two epochs of seven


def test_an_average_by_epoch_counts_whole_epochs_only(tmp_path):
    arguments = [*SMOKE, "optim=swa", "optim.average.start=0", "evaluation.every_steps=5"]
    run_in(tmp_path, *arguments, "steps=10")  # evaluated at step 10, in the middle of the second epoch
    assert state(tmp_path)["average"]["mean"]["updates"] == 1
    run_in(tmp_path / "whole", *arguments, "steps=14")
    assert state(tmp_path / "whole")["average"]["mean"]["updates"] == 2


AVERAGES = {
    "swa over Lookahead": [*SMOKE, "optim=la_sgd", "average=swa", REESTIMATED],
    "nt_asgd": [*SMOKE, "optim=nt_asgd", "optim.average.n=0", "optim.lr=0.4"],
}


@pytest.fixture(scope="module", params=AVERAGES)
def whole(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    arguments = [*AVERAGES[request.param], "epochs=4", "runtime.checkpoint_every_steps=4"]
    run_in(folder, *arguments)
    return arguments, folder


# A run counts by the calls that it makes itself: a trial of both splits, four evaluations, and from the second average
# on a pass before each.
STOPS = {
    "in an inner loop, nothing averaged yet": ("update", 6),
    "after some of the averaging": ("update", 24),
    "in the evaluation where the average has just been updated": ("evaluate", 7),
    "in the pass that re-estimates statistics": ("batch_norm_inputs", 2),
    "in the last such pass, before the weights are written": ("batch_norm_inputs", -1),
}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_with_an_average_stopped_and_started_again_ends_with_the_same_bits(stop, signum, whole, tmp_path):
    arguments, reference = whole
    name, count = STOPS[stop]
    if count == -1:  # Lookahead evaluates slow weights in the first epoch too, where SGD's are the trained ones
        count = 5 if "optim=la_sgd" in arguments else 3
    owner = Trainer if name == "update" else ImageClassification
    assert run_in_child(tmp_path, *arguments, prepare=signal_at_call(owner, name, count, signum)) == -signum
    assert not (tmp_path / "summary.json").exists()
    assert run_in(tmp_path, *arguments)["status"] == "done"
    assert_same_run(tmp_path, reference)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("choice", [["optim=la_sgd"], ["optim=la_sgd", "average=swa"], ["optim=swa"]])
def test_re_estimated_statistics_are_those_of_every_evaluation_and_of_the_weights_kept(choice, precision, tmp_path):
    arguments = [*SMOKE, *choice, "epochs=2", f"precision={precision}"]
    run_in(tmp_path / "kept", *arguments, "evaluation.batch_norm=kept")
    run_in(tmp_path / "run", *arguments, REESTIMATED)
    assert recorded(tmp_path / "run")[1] != recorded(tmp_path / "kept")[1]
    trained = [state(tmp_path / name)["model"] for name in ("run", "kept")]
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[1])
    table = evaluate(tmp_path / "run", "cpu")
    assert table.columns[0] == ("slow" if choice == ["optim=la_sgd"] else "averaged")
    assert table.iloc[:, 0].to_dict() == table["recorded"].to_dict() == recorded(tmp_path / "run")[1]
    parts = build(configuration(*arguments), torch.device("cpu"))
    safetensors.torch.load_model(parts.task.model, tmp_path / "run" / "weights.safetensors")
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        assert evaluation(parts) == recorded(tmp_path / "run")[1]


def test_re_estimated_statistics_of_slow_weights_equal_torch_s(tmp_path):
    arguments = [*SMOKE, "optim=la_sgd", "epochs=1"]
    run_in(tmp_path, *arguments, REESTIMATED)
    parts = build(configuration(*arguments), torch.device("cpu"))
    list(epochs(parts, 1))
    with parts.optimizer.slow_weights():
        update_bn((update.parts[0].inputs for update in parts.task.updates(-1)), parts.task.model)
        assert evaluation(parts) == recorded(tmp_path)[0]


def test_weights_that_are_trained_keep_their_statistics(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageClassification, "batch_norm_inputs", lambda self: pytest.fail("not needed"))
    run_in(tmp_path / "one", *SMOKE, "optim=sgd", "epochs=1", REESTIMATED)
    run_in(tmp_path / "two", *SMOKE, "optim=nt_asgd", "epochs=1", REESTIMATED)  # no mean yet


def parts_of(model, average=None):
    """Parts with a task that gives no inputs for batch norm, as a model without it needs none."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return SimpleNamespace(task=SimpleNamespace(model=model), optimizer=optimizer, average=average)


def test_a_task_without_batch_norm_needs_no_inputs_for_it():
    model = Walk(2.0)
    average = Average(model, torch.optim.SGD(model.parameters()), StochasticWeightAverage, per="epoch")
    average.after("epoch", 0)
    model.go(4.0)
    with evaluated_weights(parts_of(model, average), "reestimated") as name:
        assert (name, model.weight.item()) == ("averaged", 2.0)


def test_events_count_once_from_the_start_on():
    model = Walk()
    average = Average(model, torch.optim.SGD(model.parameters()), StochasticWeightAverage, per="epoch", start=2)
    for number in (0, 1, 2, 2, 3):
        model.go(float(number + 1))
        average.after("epoch", number)
        model.go(100.0)
        average.after("step", number)
        average.observe({"val/loss": 1.0})
    assert averaged(average.mean) == 3.5  # (3 + 4) / 2
    resumed = Average(model, torch.optim.SGD(model.parameters()), StochasticWeightAverage, per="epoch", start=2)
    resumed.load_state_dict(average.state_dict())
    resumed.after("epoch", 3)
    assert averaged(resumed.mean) == 3.5


@pytest.mark.parametrize(
    ("mean", "wanted"),
    [
        (StochasticWeightAverage, True),
        (PolyakAverage, False),
        (lambda model: PolyakAverage(model, buffers=False), True),
        (lambda model: SimpleNamespace(), False),  # says nothing of buffers
    ],
)
def test_statistics_are_estimated_anew_where_buffers_are_not_averaged(mean, wanted):
    assert Average(Walk(), None, mean, per="step").wants_reestimated is wanted


@pytest.mark.parametrize(("per", "expected"), [("epoch", 0.0), ("step", -1.0)])
def test_an_epoch_s_weights_are_the_slow_ones_and_a_step_s_the_fast_ones(per, expected):
    model = Walk()
    optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=1.0), k=2)
    model.weight.grad = torch.ones(1)
    optimizer.step()
    average = Average(model, optimizer, StochasticWeightAverage, per=per)
    average.after(per, 0)
    assert (averaged(average.mean), model.weight.item()) == (expected, -1.0)


def test_an_average_begins_at_once_and_is_told_the_loss_of_validation_unless_asked_otherwise():
    average = Average(Walk(), None, NonMonotonicASGD, per="step")
    assert (average.next, average.metric) == (0, "val/loss")


def test_a_metric_that_is_not_measured_is_named():
    model = nn.Linear(1, 1)
    average = Average(model, None, NonMonotonicASGD, per="step", metric="val/los")
    with pytest.raises(ConfigurationError, match=r"average\.metric=val/los is not measured; did you mean val/loss"):
        average.observe({"val/loss": 1.0, "val/accuracy": 2.0})
    Average(model, None, PolyakAverage, per="step", metric="val/los").observe({"val/loss": 1.0})  # asks for none


@pytest.mark.parametrize(
    ("choice", "value"),
    [
        ("polyak", "per=minute"),
        ("swa", "start=-1"),
        ("nt_asgd", "n=-1"),
        ("nt_asgd", "n=2.5"),
        ("nt_asgd", "metric=3"),
    ],
)
def test_values_of_an_average_are_checked_before_any_work(choice, value):
    with pytest.raises(ConfigurationError, match=f"average.{value} is not possible; give "):
        check(configuration(*SMOKE, f"average={choice}", f"average.{value}"))


def test_the_summary_says_which_weights_were_evaluated_and_a_run_that_averaged_nothing_says_so(tmp_path, caplog):
    cases = {
        "averaged": ["optim=swa", "epochs=2"],  # smoke scale averages from epoch 1 on
        "slow": ["optim=la_sgd", "average=nt_asgd"],
        "weights": ["optim=nt_asgd"],
    }
    for which, overrides in cases.items():
        caplog.clear()
        assert run_in(tmp_path / which, *SMOKE, *overrides)["evaluated"] == which
        assert ("nothing was averaged" in caplog.text) == (which != "averaged")


@pytest.mark.parametrize("optim", ["swa", "nt_asgd", "la_sgd"])
def test_a_run_that_keeps_its_best_weights_says_which_they_are_and_warns_where_they_are_no_average(
    optim, tmp_path, caplog
):
    summary = run_in(tmp_path, *SMOKE, f"optim={optim}", "epochs=2", "keep={metric: train/loss, mode: max}")
    assert summary["evaluated"] == "best"
    assert (
        summary["kept"]
        == {
            "swa": {"epoch": 1, "step": 7, "weights": "weights"},
            "nt_asgd": {"epoch": 1, "step": 7, "weights": "weights"},
            "la_sgd": {"epoch": 1, "step": 7, "weights": "slow"},
        }[optim]
    )
    assert ("the best weights are no average" in caplog.text) == (optim != "la_sgd")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["average.start=3", "epochs=3"], "average.start=3 is after the run's end: it has 3 whole epochs, "),
        (["average.start=2", "steps=20"], "average.start=2 is after the run's end: it has 2 whole epochs, "),
        (
            ["average.start=21", "average.per=step", "epochs=3"],
            "start=21 is after the run's end: it has 21 whole steps",
        ),
        (
            ["average.start=20", "average.per=step", "steps=20"],
            "start=20 is after the run's end: it has 20 whole steps",
        ),
        (["average.start=0", "steps=6"], "it has 0 whole epochs, so that nothing would be averaged; give a longer run"),
    ],
)
def test_an_average_that_starts_after_the_end_is_refused_and_one_that_starts_just_before_is_not(
    overrides, message, tmp_path
):
    """An epoch at smoke scale has 7 updates."""
    arguments = [*SMOKE, "optim=sgd", "average=swa", *overrides]
    with pytest.raises(ConfigurationError) as error:
        run_in(tmp_path, *arguments)
    assert message in str(error.value)
    assert not any(tmp_path.iterdir())
    start = int(overrides[0].partition("=")[2])
    if start:
        build(configuration(*arguments, f"average.start={start - 1}"), torch.device("cpu"))
