"""What the loop tells the parts of a run, on a task of one weight: bar, average, probe, schedule and updater."""

from __future__ import annotations

import pytest

from experiments.engine import loop
from tests.helpers.line import Clock, column, line_trainer, saved, stopped_at


def test_the_bar_is_told_of_updates_their_loss_and_samples_a_second(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, 0.0)
    trainer = line_trainer(tmp_path, epochs=1, runtime__read_loss_every=2)
    told, begun = [], []

    class Told:
        def __init__(self, style, total, done, name):
            begun.append((style, total, done, name))

        def step(self, count, loss, rate):
            told.append((count, round(loss, 6), rate))

        def row(self, row, epochs):
            told.append((row["epoch"], epochs))

        def close(self):
            told.append("closed")

    monkeypatch.setattr(loop, "Progress", Told)
    update = trainer.update

    def slow(one):
        clock.now += 2.0
        update(one)

    trainer.update = slow
    trainer.train()
    assert begun == [("none", 3, 0, "line sgd")]
    # Four samples in four seconds, of mean loss .95; then one in two.
    assert told == [(2, 0.95, 1.0), (1, 0.92, 0.5), (1, 1), "closed"]
    stopped_at(tmp_path / "other", 2, steps=5)
    line_trainer(tmp_path / "other", steps=5).train()
    assert begun[1:] == [("none", 5, 0, "line sgd"), ("none", 5, 2, "line sgd")]


def test_what_an_average_is_told(tmp_path):
    told = []

    class Told:
        """Stands for an average without a mean so far."""

        has_mean, mean = False, None

        def after(self, event, number):
            told.append((event, number))

        def observe(self, metrics):
            told.append(("observe", sorted(metrics)))

        def state_dict(self):
            return {"told": len(told)}

        def load_state_dict(self, state):
            told.append(("loaded", state))

    trainer = line_trainer(tmp_path, steps=4)
    trainer.parts.average = average = Told()
    average.mean = average
    trainer.train()
    observed = ("observe", ["train/loss", "val/loss"])
    steps = [("step", number) for number in range(4)]
    assert told == [*steps[:3], ("epoch", 0), observed, steps[3], observed]  # the second epoch is cut short
    again = line_trainer(tmp_path, steps=4)
    again.parts.average = average
    again.resume()
    assert told[-1] == ("loaded", {"told": 7})


def test_a_probe_sees_every_update_and_epoch_after_its_evaluation(tmp_path):
    trainer = line_trainer(tmp_path)
    seen = []

    class Seen:
        def after(self, event, trainer):
            seen.append((event, trainer.position.step, trainer.position.evaluated_step))

        def metrics(self):
            return {"probe/seen": float(len(seen))}

        def state_dict(self):
            return {"seen": len(seen)}

        def load_state_dict(self, state):
            seen.append(state)

    trainer.probes.probes["own"] = Seen()
    trainer.train()
    assert seen[:4] == [("update", 1, -1), ("update", 2, -1), ("update", 3, -1), ("epoch", 3, 3)]
    assert seen[-1] == ("epoch", 6, 6)
    assert column(trainer, "probe/seen") == ["3.0", "7.0"]
    assert saved(trainer)["probes"] == {"own": {"seen": 8}}


def test_a_schedule_that_asks_for_metrics_gets_those_of_this_very_epoch(tmp_path):
    trainer = line_trainer(tmp_path, epochs=3, evaluation__every_epochs=2)
    told = []
    trainer.parts.schedule.after = lambda event, metrics=None: told.append((event, metrics and metrics["epoch"]))
    trainer.train()
    assert [each for each in told if each[0] == "epoch"] == [("epoch", None), ("epoch", 2), ("epoch", 3)]
    assert [each for each in told if each[0] == "step"] == [("step", None)] * 9


@pytest.mark.parametrize(
    ("mode", "dynamic", "fixed"),
    [(None, False, False), ("default", False, True), ("default", True, False), ("default", None, False)],
)
def test_one_size_alone_is_compiled_where_it_is_not_dynamic(mode, dynamic, fixed, tmp_path):
    trainer = line_trainer(tmp_path, runtime__compile=mode, runtime__compile_dynamic=dynamic)
    assert trainer.updater.fixed is fixed
