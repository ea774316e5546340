"""A probe sees every update and leaves no trace in the run; what it finds is written and survives a kill."""

from __future__ import annotations

import signal

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.engine import loop
from experiments.engine.probe import Findings
from tests.engine.test_resume import assert_same_training
from tests.helpers.running import history, run_in, run_in_child, signal_at_call, state

RUN = ["task=digits", "scale=smoke", "epochs=2"]
MODEL = ["task.preset.model._target_=tests.helpers.plain_model.PlainModel", "+task.preset.model.p=0.3"]


class Watching:
    """Evaluates after every update, in every way that could disturb, and counts."""

    def __init__(self, parts):
        self.parts, self.updates, self.epochs, self.losses = parts, 0, 0, []

    def after(self, event, trainer):
        if event == "epoch":
            self.epochs += 1
            return
        self.updates += 1
        self.losses.append(trainer.measure(["val"])["val/loss"])
        with trainer.undisturbed(), torch.autocast("cpu", torch.bfloat16):  # passes of its own, in training mode
            self.parts.task.model.train()
            self.parts.task.model(torch.randn(4, 1, 8, 8))
            self.parts.task.model.eval()

    def metrics(self):
        return {"probe/updates": float(self.updates)}

    def findings(self):
        table = pd.DataFrame({"val/loss": self.losses})
        return Findings(
            {"watched": table}, {"losses": {"loss": np.array(self.losses), "epochs": np.array(self.epochs)}}
        )

    def state_dict(self):
        return {"updates": self.updates, "epochs": self.epochs, "losses": self.losses}

    def load_state_dict(self, saved):
        self.updates, self.epochs, self.losses = saved["updates"], saved["epochs"], list(saved["losses"])


PROBE = [f"+probe={{_target_: {__name__}.Watching, _partial_: true}}"]
CASES = {
    "slow weights, batch norm": [*RUN, "optim=la_sgd", "evaluation.batch_norm=reestimated"],
    "bf16": [*RUN, "optim=la_sgd", "precision=bf16"],
    "dropout, a fresh gradient": [*RUN, *MODEL, "optim=la_adam_adaptive", "optim.alpha.gradient=fresh"],
    "an average": [*RUN, "optim=polyak"],
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_with_a_probe_that_evaluates_after_every_update_ends_with_the_same_bits(case, tmp_path):
    run_in(tmp_path / "alone", *CASES[case])
    run_in(tmp_path / "watched", *CASES[case], *PROBE)
    assert state(tmp_path / "watched")["probes"]["probe"]["updates"] == 14
    assert_same_training(tmp_path / "alone", tmp_path / "watched")
    assert [
        {**row, "probe/updates": count} for row, count in zip(history(tmp_path / "alone"), ("7.0", "14.0"), strict=True)
    ] == (history(tmp_path / "watched"))


def test_what_a_probe_finds_is_written_and_goes_on_after_a_kill(tmp_path):
    arguments = [*RUN, *PROBE, "optim=la_sgd", "runtime.checkpoint_every_steps=4"]
    run_in(tmp_path / "whole", *arguments)
    table = pd.read_csv(tmp_path / "whole" / "watched.csv", float_precision="round_trip")
    assert len(table) == 14
    assert table["val/loss"].iloc[[6, 13]].tolist() == [float(row["val/loss"]) for row in history(tmp_path / "whole")]
    prepare = signal_at_call(loop.Trainer, "update", 10, signal.SIGKILL)
    assert run_in_child(tmp_path / "killed", *arguments, prepare=prepare) == -signal.SIGKILL
    run_in(tmp_path / "killed", *arguments)
    for name in ("watched.csv", "losses.npz"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert np.load(tmp_path / "whole" / "losses.npz")["epochs"] == 2


def test_a_probe_may_ask_for_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Watching, "after", lambda self, event, trainer: trainer.ask_to_save() if event == "update" else None
    )
    saved = []
    original = loop.Trainer.save
    monkeypatch.setattr(loop.Trainer, "save", lambda self: saved.append(self.position.step) or original(self))
    run_in(tmp_path, *RUN, *PROBE, "optim=sgd", "epochs=1", "runtime.checkpoint_every_s=null")
    assert sorted(set(saved)) == list(range(8))
