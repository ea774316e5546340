"""How tests wait for the processes of a run: for slow ones as long as they work, for ones that hang not for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tests.helpers import engine_processes

READS = "import sys; sys.stdin.read()"  # until its input is closed


@pytest.fixture
def two(tmp_path):
    """Two processes that wait for their input, and the files that they would have written."""
    processes = [subprocess.Popen([sys.executable, "-c", READS], stdin=subprocess.PIPE) for _ in range(2)]
    for rank in range(2):
        (tmp_path / f"facts-{rank}.json").write_text(f'[{{"rank": {rank}}}]')
        (tmp_path / f"log-{rank}.txt").write_text(f"the log of {rank}")
    yield processes
    for process in processes:
        process.stdin.close()
        process.kill()
        process.wait()


def clock(monkeypatch, happens) -> SimpleNamespace:
    """Put a clock in the place of the real one, of which each wait is 10 s, and `happens(time)` after it."""
    made = SimpleNamespace(now=0.0)

    def sleep(seconds):
        made.now += 10
        happens(made.now)

    monkeypatch.setattr(engine_processes, "time", SimpleNamespace(monotonic=lambda: made.now, sleep=sleep))
    return made


def end(process):
    process.stdin.close()
    process.wait()


def test_slow_processes_are_waited_for_as_long_as_one_of_them_works(two, tmp_path, monkeypatch):
    made = clock(monkeypatch, lambda now: [end(two[rank]) for rank in (0, 1) if now == 900 + 300 * rank])
    # The first does nothing; the second has 1 s in 250 s.
    monkeypatch.setattr(engine_processes, "cpu_seconds", lambda pid: made.now / 250 if pid == two[1].pid else 3.0)
    assert engine_processes.facts(tmp_path, two, idle_s=120) == [[{"rank": 0}], [{"rank": 1}]]
    assert made.now == 1200


def test_a_process_that_hangs_is_named_with_all_logs_and_ended(two, tmp_path, monkeypatch):
    made = clock(monkeypatch, lambda now: end(two[1]) if now == 200 else None)
    used = {two[0].pid: lambda: min(made.now, 300) / 100, two[1].pid: lambda: made.now / 100}
    monkeypatch.setattr(
        engine_processes, "cpu_seconds", lambda pid: used[pid]() if made.now < 200 or pid == two[0].pid else 0
    )
    with pytest.raises(AssertionError, match=r"\[0\] did not end:\nthe log of 0\nthe log of 1"):
        engine_processes.facts(tmp_path, two, idle_s=120)
    assert 300 <= made.now <= 300 + 120 + 20
    assert [process.poll() for process in two] == [-9, 0]


def test_the_time_of_processors_is_this_process_s_own():
    found = engine_processes.cpu_seconds(os.getpid())
    assert found == pytest.approx(time.process_time(), abs=0.1)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert engine_processes.cpu_seconds(process.pid) == 0
