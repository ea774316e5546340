"""A process that stands still ends the others, which would wait for it for ever."""

from __future__ import annotations

import json
import os
import signal

from experiments.engine.loop import Trainer
from tests.helpers.forked_processes import forked
from tests.helpers.running import run_in, signal_at_call


def test_a_process_that_hangs_ends_the_others_after_the_time_that_is_set(tmp_path):
    overrides = ["task=digits", "scale=smoke", "optim=sgd", "runtime.process_timeout_s=5", "runtime.threads=1"]

    def call(rank):
        os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
        if rank == 1:
            signal_at_call(Trainer, "update", 3, signal.SIGSTOP)()
        return run_in(tmp_path / "run", *overrides)["status"]

    waiting, hanging = forked(tmp_path, call)
    try:
        waiting.join(100)
        assert not waiting.is_alive()
        assert hanging.is_alive()
    finally:
        hanging.kill()
        hanging.join()
        waiting.kill()
    kind, message = json.loads((tmp_path / "0.json").read_text())
    assert kind == "ProcessLost"
    assert message == (
        "another of the 2 processes ended (process 1 does not answer, or was killed); the same command goes on"
    )
    assert not (tmp_path / "run" / "lock").exists()
