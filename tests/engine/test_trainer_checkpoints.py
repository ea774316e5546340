"""When the loop saves and stops, and goes on, by hand on a task of one weight."""

from __future__ import annotations

import math

import pytest
import torch

from experiments.engine.errors import RunFolderError
from tests.helpers.line import Clock, line_trainer, saved, steps_saved, stopped_at, trained
from tests.helpers.running import history


def test_a_signal_ends_the_run_after_its_update_with_all_that_it_needs(tmp_path):
    trainer = stopped_at(tmp_path, 5, k=2)
    assert (trainer.position.step, trainer.position.epoch, trainer.position.batch) == (5, 1, 2)
    state = saved(trainer)
    assert state["position"] == vars(trainer.position)
    assert state["position"]["samples"] == 9
    assert state["loss_sum"] == trainer.updater.loss_sum.item() != 0
    assert state["weight_sum"] == 4.0  # of the two updates since the evaluation
    assert (state["last_row"], state["last_lr"], state["commits"]) == (trainer.last_row, 0.05, ["abc"])
    assert state["history"] == {"bytes": (tmp_path / "history.csv").stat().st_size}
    assert state["task"] == [{"carried": 5}]
    assert (state["average"], state["probes"], len(state["random"])) == (None, {}, 1)
    assert state["best"] == {"value": -math.inf, "weights": None, "row": {}}
    assert state["config"]["optim"] == {"name": "sgd", "lr": 0.1}


def test_what_a_stopped_run_ends_with_is_what_a_whole_one_does(tmp_path):
    keep = {"metric": "val/loss", "mode": "min"}
    whole = trained(tmp_path / "whole", k=2, epochs=3, keep=keep)
    for step in (1, 3, 5, 9):
        folder = tmp_path / str(step)
        if step == 9:
            trained(folder, k=2, epochs=3, keep=keep)
        else:
            stopped_at(folder, step, k=2, epochs=3, keep=keep)
            with (folder / "history.csv").open("a") as file:
                file.write("a row after the checkpoint\n")
            trained(folder, k=2, epochs=3, keep=keep)
        assert history(folder) == history(whole.folder)
        end, expected = saved(line_trainer(folder)), saved(whole)
        for name in ("model", "random", "task", "best", "loss_sum", "weight_sum", "last_lr", "schedule", "config"):
            assert str(end[name]) == str(expected[name]), name
        assert {**end["position"], "wall_s": 0} == {**expected["position"], "wall_s": 0}


def test_a_run_that_goes_on_with_other_code_has_both_commits(tmp_path):
    stopped_at(tmp_path, 2)
    trainer = line_trainer(tmp_path)
    trainer.commits = ["def"]
    trainer.resume()
    assert trainer.commits == ["abc", "def"]
    trainer.resume()
    assert trainer.commits == ["abc", "def"]


def test_a_checkpoint_is_written_at_the_start_and_after_the_last_epoch_alone(tmp_path):
    trainer = line_trainer(tmp_path)
    steps = steps_saved(trainer)
    trainer.train()
    assert steps == [0, 6]
    assert trainer.finished()
    again = line_trainer(tmp_path)
    steps = steps_saved(again)
    assert again.train() is True  # nothing is left to do
    assert (steps, again.position.step) == ([], 6)


def test_checkpoints_come_every_so_many_updates_and_when_they_are_asked_for(tmp_path):
    trainer = line_trainer(tmp_path / "every", runtime__checkpoint_every_steps=2)
    steps = steps_saved(trainer)
    trainer.train()
    assert steps == [0, 2, 4, 6, 6]  # the last one once the epoch is over
    trainer = line_trainer(tmp_path / "asked")
    steps, update = steps_saved(trainer), trainer.update

    def asking(one):
        update(one)
        if trainer.position.step == 4:
            trainer.ask_to_save()

    trainer.update = asking
    trainer.train()
    assert steps == [0, 4, 6]


def test_checkpoints_come_after_so_many_seconds_where_the_loss_is_read(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, 0.0)
    trainer = line_trainer(tmp_path, epochs=3, runtime__checkpoint_every_s=10, runtime__read_loss_every=1)
    steps, update = steps_saved(trainer), trainer.update

    def slow(one):
        clock.now += 4.0
        update(one)

    trainer.update = slow
    trainer.train()
    assert steps == [0, 3, 6, 9, 9]  # 12 s after the one before, and at the end
    steps.clear()
    late = line_trainer(tmp_path / "exact", epochs=1, runtime__checkpoint_every_s=4, runtime__read_loss_every=1)
    steps, update = steps_saved(late), late.update
    late.update = slow
    late.train()
    assert steps == [0, 1, 2, 3, 3]


def test_rows_without_a_checkpoint_are_not_overwritten(tmp_path):
    (tmp_path / "history.csv").write_text("epoch\n1\n")
    with pytest.raises(RunFolderError, match=r"history\.csv has rows but there is no checkpoint; move .* away"):
        line_trainer(tmp_path).train()
    assert (tmp_path / "history.csv").read_text() == "epoch\n1\n"


def test_a_checkpoint_of_other_values_is_refused(tmp_path):
    stopped_at(tmp_path, 2)
    with pytest.raises(RunFolderError, match=r"recorded with other values \(optim\.lr 0\.1 there, 0\.2 here\)"):
        line_trainer(tmp_path, optim__lr=0.2).train()


def test_a_run_that_goes_on_writes_no_checkpoint_before_it_is_due(tmp_path):
    stopped_at(tmp_path, 2)
    resumed = line_trainer(tmp_path)
    steps = steps_saved(resumed)
    resumed.train()
    assert steps == [6]


def test_the_best_evaluation_so_far_is_remembered_over_a_stop(tmp_path):
    keep = {"metric": "val/loss", "mode": "max"}  # the loss falls, so the first one is the best
    stopped_at(tmp_path, 5, keep=keep)
    resumed = trained(tmp_path, keep=keep)
    assert (resumed.best.row["epoch"], resumed.best.row["step"]) == (1, 3)
    assert resumed.best.weights["weight"].item() == pytest.approx(0.7)


def test_a_probe_goes_on_counting_after_a_stop(tmp_path):
    class Counting:
        """Counts what it was told of."""

        count = 0

        def after(self, event, trainer):
            self.count += 1

        def metrics(self):
            return {}

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    stopped = line_trainer(tmp_path)
    stopped.probes.probes["own"] = Counting()
    stopped.resume()
    stopped.start_clock()
    for update in stopped.parts.task.updates(0):
        stopped.update(update)
    stopped.save()
    resumed = line_trainer(tmp_path)
    resumed.probes.probes["own"] = probe = Counting()
    resumed.resume()
    assert probe.count == 3


def test_draws_go_on_after_a_stop_where_they_were(tmp_path):
    stopped = line_trainer(tmp_path)
    stopped.resume()
    stopped.start_clock()
    torch.manual_seed(5)
    stopped.save()
    expected = torch.rand(2)
    resumed = line_trainer(tmp_path)
    torch.manual_seed(6)
    resumed.resume()
    assert torch.equal(torch.rand(2), expected)
