"""What a summary says, and the bar of progress."""

from __future__ import annotations

import json

from experiments.engine.progress import Progress
from tests.helpers.running import run_in


def test_the_summary_says_what_a_number_needs_beside_it(tmp_path):
    run_in(tmp_path, "task=digits", "scale=smoke", "optim=la_sgd", "seed=4", "runtime.commit=abc")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["schema"] == 2
    assert (summary["status"], summary["seed"], summary["commit"], summary["scale"]) == ("done", 4, "abc", "smoke")
    assert summary["parameters"] == 24058
    assert summary["versions"]["torch"].startswith("2.")
    assert "cores" in summary["device"]
    assert set(summary["final"]) == {"train/running_loss", "train/loss", "train/accuracy", "val/loss", "val/accuracy"}
    assert (summary["epochs"], summary["steps"], summary["samples"]) == (2, 14, 400)


def test_the_bar_shows_loss_rate_and_time_left(capfd):
    progress = Progress("bar", total_steps=10, done_steps=2, name="digits sgd")
    progress.bar.mininterval = 0
    progress.step(3, loss=0.5, samples_per_second=1234.0)
    progress.bar.refresh()
    shown = capfd.readouterr().err
    progress.close()
    for part in ("digits sgd", "5.00/10.0", "loss=0.5000", "samples/s=1,234", "<"):
        assert part in shown
