"""The benchmark of the training loop: what it makes of the answers of its processes."""

import contextlib

from benchmarks import training


class Answering(contextlib.AbstractContextManager):
    """In the place of a process: the n-th answers 10^n images/s, the loss n and 2^n bytes; notes when it was asked."""

    made: list["Answering"]
    events: list[tuple[str, int]]

    def __init__(self, script, arguments):
        self.number, self.loop = len(self.made), arguments[-1]
        self.made.append(self)

    def ask(self):
        self.events.append(("ask", self.number))

    def answer(self):
        self.events.append(("answer", self.number))
        return 10**self.number, float(self.number), 2**self.number

    def __exit__(self, *error):
        self.events.append(("end", self.number))


def test_runs_at_once_work_at_the_same_time_and_their_rates_are_added(monkeypatch, capsys):
    Answering.made, Answering.events = [], []
    monkeypatch.setattr(training, "Worker", Answering)
    rates, losses, memory = training.measure([training.FAST, training.AT_ONCE], ["--images", "7"], rounds=2)
    assert [worker.loop for worker in Answering.made] == [training.FAST] + 4 * [training.AT_ONCE]
    one_round = [("ask", 0), ("answer", 0), *(("ask", n) for n in (1, 2, 3, 4)), *(("answer", n) for n in (1, 2, 3, 4))]
    assert Answering.events == 3 * one_round + [("end", n) for n in (4, 3, 2, 1, 0)]
    assert rates == {training.FAST: [1, 1], training.AT_ONCE: [11110, 11110]}  # the first round warms up
    assert losses == {training.FAST: [0.0] * 3, training.AT_ONCE: [1.0] * 3}
    assert memory == {training.FAST: 1, training.AT_ONCE: 2 + 4 + 8 + 16}
