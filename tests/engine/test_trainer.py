"""The loop by hand on a task of one weight: what it evaluates, records and tells, and how it ends."""

from __future__ import annotations

import math
import signal

import pytest
import torch

from experiments.engine.errors import Diverged
from experiments.engine.interruption import Interruption
from experiments.engine.loop import Position
from tests.helpers.line import Clock, column, line_trainer, saved, stopped_at, trained
from tests.helpers.running import history


def test_two_epochs_by_hand(tmp_path, monkeypatch):
    Clock(monkeypatch, 0.0)
    trainer = trained(tmp_path)
    # Each update takes the rate from the weight: .1 in the first epoch, .05 in the second.
    # Of the five samples of an epoch, two see the weight before it, two the next one, and one the third.
    weights = [1.0, 0.9, 0.8, 0.7, 0.65, 0.6, 0.55]
    running = [(2 * a + 2 * b + c) / 5 for a, b, c in (weights[:3], weights[3:6])]
    rows = history(tmp_path, drop=())
    assert list(rows[0]) == [
        "epoch", "step", "samples", "wall_s", "lr", "train/running_loss", "train/loss", "val/loss",
    ]  # fmt: skip
    for row, expected in zip(rows, [(1, 3, 5, 0.1, running[0], 0.7), (2, 6, 10, 0.05, running[1], 0.55)], strict=True):
        epoch, step, samples, rate, loss, last = expected
        assert (row["epoch"], row["step"], row["samples"], row["wall_s"]) == (
            str(epoch),
            str(step),
            str(samples),
            "0.0",
        )
        assert float(row["lr"]) == rate
        assert float(row["train/running_loss"]) == pytest.approx(loss)
        assert float(row["train/loss"]) == float(row["val/loss"]) == pytest.approx(last)
    assert trainer.position == Position(epoch=2, batch=0, step=6, samples=10, evaluations=2, evaluated_step=6)
    assert trainer.parts.task.model.training
    assert trainer.parts.task.carried == 6


@pytest.mark.parametrize(
    ("epochs", "every", "measured"),
    [
        (6, 4, [1, 5, 6]),  # the first, every fourth after it, and the last
        (5, 2, [1, 3, 5]),
        (4, 3, [1, 4]),
        (3, 1, [1, 2, 3]),
        (3, None, [1, 2, 3]),
        (2, 9, [1, 2]),
    ],
)
def test_the_pass_over_the_training_set_is_thinned_out_but_for_the_last_epoch(epochs, every, measured, tmp_path):
    trainer = trained(tmp_path, epochs=epochs, evaluation__train_pass_every=every)
    rows = history(tmp_path)
    assert [int(row["epoch"]) for row in rows if row["train/loss"]] == measured
    assert all(row["val/loss"] and row["train/running_loss"] for row in rows)
    assert len(rows) == epochs
    assert trainer.parts.task.evaluated.count("train") == len(measured)
    assert trainer.last_row["train/loss"] == pytest.approx(float(rows[-1]["train/loss"]))


def test_the_pass_over_the_training_set_comes_at_the_last_step_too(tmp_path):
    trained(tmp_path, steps=7, evaluation__every_steps=2, evaluation__train_pass_every=10)
    rows = history(tmp_path)
    assert [row["step"] for row in rows] == ["2", "3", "4", "6", "7"]
    assert [row["step"] for row in rows if row["train/loss"]] == ["2", "7"]


def test_a_thinned_pass_goes_on_counting_after_a_stop(tmp_path):
    options = {"epochs": 6, "evaluation__train_pass_every": 4}
    whole = trained(tmp_path / "whole", **options)
    stopped = stopped_at(tmp_path / "stopped", 10, **options)
    assert stopped.position.evaluations == 3
    trained(tmp_path / "stopped", **options)
    assert history(tmp_path / "stopped") == history(whole.folder)


def test_the_time_of_a_run_is_that_of_all_its_parts(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, 0.0)
    stopped = line_trainer(tmp_path, Interruption())
    update = stopped.update

    def slow(one):
        clock.now += 2.0
        update(one)
        if stopped.position.step == 2:
            stopped.interruption.signum = signal.SIGTERM

    stopped.update = slow
    stopped.train()
    assert stopped.position.wall_s == 4.0
    clock.now += 1000.0  # nor what lies between
    resumed = line_trainer(tmp_path)
    update, resume = resumed.update, resumed.resume

    def slower(one):
        clock.now += 3.0
        update(one)

    def slow_to_resume():
        resume()
        clock.now += 50.0  # reading what is there is no training

    resumed.update, resumed.resume = slower, slow_to_resume
    resumed.train()
    assert resumed.position.wall_s == 4.0 + 4 * 3.0
    assert [float(row["wall_s"]) for row in history(tmp_path, drop=())] == [7.0, 16.0]


def test_losses_are_read_every_so_many_updates(tmp_path):
    trainer = line_trainer(tmp_path, epochs=1, runtime__read_loss_every=2)
    trainer.resume()
    trainer.start_clock()
    seen = []
    for update in trainer.parts.task.updates(0):
        trainer.update(update)
        seen.append((trainer.steps_unread, trainer.samples_unread, round(trainer.running_loss, 6)))
    assert [each[:2] for each in seen] == [(1, 2), (0, 0), (1, 1)]
    assert math.isnan(seen[0][2])
    assert [each[2] for each in seen[1:]] == [0.95, 0.95]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_and_nothing_of_it_is_kept(value, tmp_path):
    trainer = line_trainer(tmp_path, runtime__read_loss_every=2)
    loss = trainer.parts.task.loss
    trainer.parts.task.loss = lambda model, batch: loss(model, batch) * (value if trainer.position.step == 4 else 1.0)
    with pytest.raises(Diverged) as raised:
        trainer.train()
    assert str(raised.value) == (
        f"the training loss is {value} in epoch 2, within the last 2 updates before step 5 (lr 0.05); "
        "lower optim.lr, now 0.1"
    )
    assert saved(trainer)["position"]["step"] == 0
    assert len(history(tmp_path)) == 1


def test_an_evaluation_that_is_not_finite_is_recorded_and_ends_the_run(tmp_path):
    trainer = line_trainer(tmp_path)
    evaluate = trainer.parts.task.evaluate
    trainer.parts.task.evaluate = lambda *given: evaluate(*given) | {"val/accuracy": math.nan}
    with pytest.raises(Diverged, match=r"^val/accuracy is nan at step 3; lower optim\.lr, now 0\.1$"):
        trainer.train()
    assert column(trainer, "val/accuracy") == ["nan"]


def test_steps_end_a_run_wherever_they_fall_and_are_evaluated_once(tmp_path):
    for steps, rows in ((1, ["1"]), (3, ["3"]), (4, ["3", "4"]), (6, ["3", "6"])):
        trainer = trained(tmp_path / str(steps), steps=steps, epochs=100)
        assert column(trainer, "step") == rows
        assert trainer.position.step == steps
        assert saved(trainer)["position"]["evaluated_step"] == steps


def test_evaluations_every_so_many_updates_and_epochs(tmp_path):
    found = {}
    for every_steps, every_epochs in ((2, 1), (2, None), (3, None), (None, 2), (4, 2)):
        evaluation = {"evaluation__every_steps": every_steps, "evaluation__every_epochs": every_epochs}
        trainer = trained(tmp_path / f"{every_steps}-{every_epochs}", epochs=3, **evaluation)
        found[every_steps, every_epochs] = [int(step) for step in column(trainer, "step")]
    assert found == {
        (2, 1): [2, 3, 4, 6, 8, 9],
        (2, None): [2, 4, 6, 8, 9],
        (3, None): [3, 6, 9],
        (None, 2): [6, 9],
        (4, 2): [4, 6, 8, 9],
    }


def test_an_evaluation_leaves_no_trace_and_the_best_weights_are_kept(tmp_path):
    trainer = line_trainer(tmp_path, keep={"metric": "val/loss", "mode": "min"})
    trainer.resume()
    trainer.start_clock()
    before = torch.get_rng_state()
    found = trainer.measure(["val"])
    assert found == {"val/loss": 1.0}
    assert torch.equal(torch.get_rng_state(), before)
    assert trainer.parts.task.model.training
    assert trainer.best.weights is None  # unless asked
    trainer.measure(["val"], keep=True)
    assert trainer.best.row == {"epoch": 1, "step": 0, "weights": "weights", "val/loss": 1.0}


def test_slow_weights_are_evaluated_and_a_signal_gives_the_evaluation_up(tmp_path):
    trainer = trained(tmp_path / "whole", k=2, epochs=1)
    # 1 -> .8 in two updates, of which half is taken: .9; the third one is past the synchronization.
    assert float(history(tmp_path / "whole")[0]["val/loss"]) == pytest.approx(0.9)
    assert trainer.parts.task.model.weight.item() == pytest.approx(0.8)
    interruption = Interruption()
    trainer = line_trainer(tmp_path / "stopped", interruption, k=2)
    evaluate = trainer.parts.task.evaluate

    def interrupted(model, split, share, processes, tick):
        interruption.signum = signal.SIGTERM
        return evaluate(model, split, share, processes, tick)

    trainer.parts.task.evaluate = interrupted
    assert trainer.train() is False
    assert (trainer.position.step, trainer.position.evaluated_step, trainer.position.epoch) == (3, -1, 0)
    assert not (tmp_path / "stopped" / "history.csv").exists()
    trained(tmp_path / "stopped", k=2)
    assert history(tmp_path / "stopped") == history(trained(tmp_path / "again", k=2).folder)


def test_the_rate_of_a_row_is_that_of_the_last_update(tmp_path):
    trainer = line_trainer(tmp_path, epochs=2)
    assert trainer.last_lr == 0.1
    trainer.train()
    assert column(trainer, "lr") == ["0.1", "0.05"]
    assert trainer.last_lr == 0.05


def test_the_best_of_a_run_s_evaluations_are_kept(tmp_path):
    trainer = trained(tmp_path, keep={"metric": "val/loss", "mode": "max"})
    assert (trainer.best.row["epoch"], trainer.best.row["step"]) == (1, 3)  # the loss falls
