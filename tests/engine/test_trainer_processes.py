"""The loop as one of several processes, whose others are played, on a task of one weight."""

from __future__ import annotations

import signal

from experiments.engine import loop, trainer_state
from tests.helpers.line import line_trainer, saved


class Two:
    """Stands for two processes that say the same, of which this is the one with the given rank."""

    alone, count = False, 2

    def __init__(self, rank, stop=0.0):
        self.rank, self.writes, self.stop, self.sent = rank, rank == 0, stop, 0

    def sum(self, values):
        loss, weight, *flags = values
        return [2 * loss, 2 * weight, *(flag + self.stop for flag in flags)]

    def gather(self, value):
        return [value] * 2

    def first(self, call):
        return call()

    def broadcast_tensors(self, tensors):
        self.sent += 1


def test_of_several_processes_all_stop_and_save_where_one_of_them_wants_to(tmp_path):
    trainer = line_trainer(tmp_path)
    trainer.start_clock()
    for stop, wanted in ((0.0, False), (1.0, True)):
        trainer.processes = Two(0, stop)
        trainer.read_loss()
        assert (trainer.stopping, trainer.save_wanted) == (wanted, wanted)
    trainer.processes = Two(0)
    trainer.save_wanted = False  # as after a save
    trainer.interruption.signum = signal.SIGTERM  # to this process
    trainer.read_loss()
    assert (trainer.stopping, trainer.save_wanted) == (True, False)
    trainer.interruption = None
    trainer.read_loss()
    assert trainer.stopping is False


def test_a_stop_that_another_process_wants_comes_at_the_end_of_the_epoch_unless_the_run_is_over(tmp_path):
    for epochs, done, step in ((2, False, 3), (1, True, 3)):
        trainer = line_trainer(tmp_path / str(epochs), epochs=epochs, evaluation__every_epochs=None)
        trainer.resume()
        trainer.start_clock()
        trainer.processes = Two(0, stop=1.0)
        trainer.evaluate_and_record = lambda epoch_over=False: True
        assert trainer._epochs() is done
        assert (trainer.position.step, trainer.position.epoch) == (step, 1)
        assert saved(trainer)["position"]["step"] == step


def test_a_checkpoint_has_the_sums_and_states_of_all_processes(tmp_path):
    trainer = line_trainer(tmp_path)
    trainer.start_clock()
    trainer.processes = two = Two(0)
    trainer.update(next(trainer.parts.task.updates(0)))
    trainer.save()
    state = saved(trainer)
    assert (state["loss_sum"], state["weight_sum"]) == (4.0, 4.0)
    assert (len(state["task"]), len(state["random"])) == (2, 2)
    assert two.sent == 1  # the first process's buffers, before the model is saved


def test_a_process_but_the_first_begins_with_draws_of_its_own(tmp_path, monkeypatch):
    seeded = []
    monkeypatch.setattr(loop, "seed_rank", lambda *given: seeded.append(given))
    for rank in (0, 1):
        trainer = line_trainer(tmp_path / str(rank), seed=7)
        trainer.start_clock()
        trainer.processes = Two(rank)
        trainer.resume()
    assert seeded == [(7, 0, 1)]


def test_with_another_number_of_processes_draws_begin_anew_from_seed_step_and_rank(tmp_path, monkeypatch):
    trainer = line_trainer(tmp_path, seed=7)
    trainer.resume()
    trainer.start_clock()
    trainer.update(next(trainer.parts.task.updates(0)))
    trainer.save()
    seeded = []
    monkeypatch.setattr(trainer_state, "seed_rank", lambda *given: seeded.append(given))
    for processes in (trainer.processes, Two(1)):
        resumed = line_trainer(tmp_path, seed=7)
        resumed.processes = processes
        resumed.resume()
    assert seeded == [(7, 1, 1)]
