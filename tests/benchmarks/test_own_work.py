"""Lookahead's own work in an update, on a clock that is moved by hand."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks import own_work, trainers
from benchmarks.own_work import OwnWork, summed_up


def test_a_synchronization_is_shared_out_over_its_loop():
    one = [50, 1, 7, 2, 4]  # up to the step, before the inner step, that one, after it, the rest
    synchronizing = [50, 1, 7, 12, 4]
    apart = [1000]  # between updates
    seconds = one + apart + synchronizing + apart + one + apart + synchronizing
    found = summed_up([float(value) for value in seconds], k=2)
    assert found == OwnWork(update=69.0, between=3.0, synchronizing=13.0, k=2)
    assert found.seconds == 8.0
    assert found.percent == pytest.approx(800 / 69)


def test_with_k_1_every_step_synchronizes():
    found = summed_up([50.0, 1.0, 7.0, 12.0, 4.0], k=1)
    assert (found.between, found.synchronizing, found.seconds) == (0.0, 13.0, 13.0)


class Inner:
    def __init__(self, clock):
        self.clock = clock

    def step(self):
        self.clock.now += 7


class Outer:
    """In the place of Lookahead: 1 s before the inner step, 2 s after it, and 10 more in every third step."""

    k = 3

    def __init__(self, clock):
        self.clock, self.inner, self.steps = clock, Inner(clock), 0

    def step(self):
        self.steps += 1
        self.clock.now += 1
        self.inner.step()
        self.clock.now += 12 if self.steps % self.k == 0 else 2


class Trainer:
    """In the place of the engine's, 4 updates after a start."""

    def __init__(self, clock):
        self.clock, self.device = clock, torch.device("cpu")
        self.parts = SimpleNamespace(optimizer=Outer(clock))
        self.position = SimpleNamespace(step=0)

    def update(self, update):
        self.clock.now += 50
        self.parts.optimizer.step()
        self.clock.now += 4
        self.position.step += 1


def test_what_the_inner_step_and_the_passes_take_is_not_lookahead_s(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(own_work.time, "perf_counter", lambda: clock.now)
    trainer = Trainer(clock)
    for _ in range(4):  # off a synchronization
        trainer.update(None)
    taken = []
    updates = (taken.append(number) for number in range(100))
    found = own_work.own_work(trainer, updates, loops=2)
    assert found == OwnWork(update=64.0, between=3.0, synchronizing=13.0, k=3)
    assert len(taken) == 2 + 3 + 2 * 3  # to the next synchronization, a loop to warm up, and those that are timed
    for optimizer in (trainer.parts.optimizer, trainer.parts.optimizer.inner):
        assert "step" not in vars(optimizer)


def test_a_step_that_a_scheduler_has_put_there_is_put_back(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    trainer = Trainer(clock)
    own = trainer.parts.optimizer.step
    trainer.parts.optimizer.step = own
    own_work.own_work(trainer, iter(range(100)), loops=1)
    assert vars(trainer.parts.optimizer)["step"] is own


def test_it_fits_the_engine_s_trainer_and_its_lookahead(tmp_path):
    given = ["task=digits", "scale=smoke", "optim=la_sgd", "runtime.device=cpu", "runtime.threads=1"]
    trainer = trainers.started(trainers.quiet(*given), tmp_path)
    found = own_work.own_work(trainer, trainers.endless_updates(trainer), loops=2)
    assert found.k == 5
    assert 0 < found.between < found.update
    assert 0 < found.percent < 100
    assert trainer.position.step == 15
