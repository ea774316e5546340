"""A domain from outside the engine's folders: nothing of the engine, and no root configuration, knows it."""

from __future__ import annotations

import importlib
import math
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.ports import free_port
from experiments.engine import loop, parts
from tests.engine.test_processes import assert_close
from tests.engine.test_resume import assert_same, assert_same_run
from tests.helpers.engine_processes import facts, start
from tests.helpers.running import history, run_in, run_in_child, signal_at_call, state

MODULE = '''
"""Walks over a random sequence with a recurrent network that carries its hidden state, as in language modeling."""

import copy, math

import torch
from torch import nn

from experiments.engine.task import Batch, Loss, Mean, Update


class Recurrent(nn.Module):
    def __init__(self, width, p):
        super().__init__()
        self.cell, self.out, self.dropout = nn.RNNCell(1, width), nn.Linear(width, 1), nn.Dropout(p)

    def forward(self, inputs, hidden):  # [T, B, 1] and [B, width]
        states = []
        for one in inputs:
            hidden = self.cell(one, hidden)
            states.append(hidden)
        return self.out(self.dropout(torch.stack(states))), hidden


class Walks:
    COLUMNS = 6

    def __init__(self, model, seed, device, *, length, penalty):
        if length < 10:
            raise ValueError(f"task.length={length} is below 10")
        self.model, self.seed, self.penalty = model, seed, penalty
        generator = torch.Generator().manual_seed(5)
        shape = (length, self.COLUMNS, 1)
        self.data = {name: torch.randn(*shape, generator=generator) for name in ("train", "val", "test")}
        self.hidden = None  # of this process's pieces of columns, [columns, width] each
        self._whole = None  # of all columns, where a checkpoint had it

    def _starts(self, epoch):
        generator = torch.Generator().manual_seed(1000 * self.seed + epoch)
        starts, position = [], 0
        while position < len(self.data["train"]) - 2:
            steps = int(torch.randint(2, 6, (), generator=generator))
            starts.append((position, min(steps, len(self.data["train"]) - 1 - position)))
            position += steps
        return starts

    def steps(self, epoch):
        return len(self._starts(epoch))

    def updates(self, epoch, start, share):
        columns = share.passes(self.COLUMNS)
        if start == 0 or self.hidden is None:
            self.hidden = {(c.start, c.stop): torch.zeros(c.stop - c.start, 8) for c in columns}
        else:
            whole = self._whole
            self.hidden = {(c.start, c.stop): whole[c] for c in columns} if whole is not None else self.hidden
        self._whole = None
        train = self.data["train"]
        for first, steps in self._starts(epoch)[start:]:
            parts = [
                Batch(train[first : first + steps, c], (train[first + 1 : first + steps + 1, c], (c.start, c.stop)),
                      size=c.stop - c.start, weight=float(steps * (c.stop - c.start)))
                for c in columns
            ]
            yield Update(parts, weight=float(steps * self.COLUMNS), size=self.COLUMNS, lr_scale=steps / 4)

    def loss(self, model, batch):
        targets, columns = batch.targets
        found, hidden = model(batch.inputs, self.hidden[columns])
        self.hidden[columns] = hidden.detach()
        error = (found - targets).square().mean()
        return Loss(error + self.penalty * found.square().mean(), Mean(error.detach() * batch.weight, batch.weight))

    @torch.no_grad()
    def evaluate(self, model, split, share, processes, tick):
        if split not in self.data:
            raise ValueError(f"there is no split {split}")
        was = self.model.training
        self.model.eval()
        try:
            tick()
            data = self.data[split][:, share.of(self.COLUMNS)]
            found, _ = model(data[:-1], torch.zeros(data.shape[1], 8))
            return {f"{split}/loss": Mean((found - data[1:]).square().sum(), data[1:].numel())}
        finally:
            self.model.train(was)

    def derive(self, metrics):
        return {name.replace("loss", "perplexity"): math.exp(min(value, 100.0)) for name, value in metrics.items()}

    def batch_norm_inputs(self):
        raise AssertionError("there is no batch norm")

    def state_dict(self):
        if self.hidden is None:
            return {}
        return {"columns": [list(key) for key in self.hidden], "hidden": [h.clone() for h in self.hidden.values()]}

    def load_state_dict(self, states):
        whole = torch.zeros(self.COLUMNS, 8)
        for state in states:
            for (first, last), hidden in zip(state.get("columns", []), state.get("hidden", [])):
                whole[first:last] = hidden
        self._whole = whole
        if self.hidden is not None:
            self.hidden = {(first, last): whole[first:last].clone() for first, last in self.hidden}
        else:
            self.hidden = {}
'''

TASK = """# Walks of numbers: a domain that only this test knows.
defaults:
  - override /schedule@_global_.schedule: plateau
  - _self_

name: walks
preset:
  model: {_target_: own_domain.Recurrent, width: 8, p: 0.2}
  batch_size: 6
  steps: 23
  splits: [val]
  final_splits: [test]
  keep: {metric: val/perplexity, mode: min}
_target_: own_domain.Walks
length: 40
penalty: 0.01
"""

RUN = [
    "task=walks",
    "optim=la_sgd",
    "optim.lr=0.1",
    "optim.weight_decay=0",
    "optim.clip=0.3",
    "evaluation.every_steps=4",
    "runtime.threads=1",
]


FINAL = ("val/loss", "val/perplexity", "test/loss", "test/perplexity")


@pytest.fixture(scope="module", autouse=True)
def domain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("domain")
    (folder / "own_domain.py").write_text(MODULE)
    (folder / "configs" / "task").mkdir(parents=True)
    (folder / "configs" / "task" / "walks.yaml").write_text(TASK)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("own_domain", None)


@pytest.fixture
def arguments(domain):
    return [*RUN, f"hydra.searchpath=[file://{domain / 'configs'}]"]


def test_it_trains_with_its_own_schedule_splits_and_metrics(arguments, tmp_path, caplog):
    caplog.set_level("INFO")
    summary = run_in(tmp_path, *arguments)
    rows = history(tmp_path)
    assert (summary["status"], summary["steps"], rows[-1]["step"]) == ("done", 23, "23")
    assert set(rows[0]) >= {"val/loss", "val/perplexity", "train/running_loss"}
    assert not {"train/loss", "test/loss"} & set(rows[0])
    for row in rows:
        assert float(row["val/perplexity"]) == pytest.approx(math.exp(float(row["val/loss"])))
    best = min(rows, key=lambda row: float(row["val/loss"]))
    assert (summary["evaluated"], summary["kept"]["step"]) == ("best", int(best["step"]))
    assert summary["final"]["val/loss"] == float(best["val/loss"])
    assert summary["final"]["test/perplexity"] == pytest.approx(math.exp(summary["final"]["test/loss"]))
    assert float(rows[-1]["train/running_loss"]) < float(rows[0]["train/running_loss"])
    words = ", ".join(f"{key} {summary['final'][key]:.4g}" for key in FINAL)
    assert f"done: {tmp_path} ({words}, " in caplog.messages[-1]
    run_in(tmp_path, *arguments)
    assert caplog.messages[-1] == f"{tmp_path} is finished already ({words}); delete the folder to run it again"


def test_the_weights_that_are_kept_are_those_of_the_best_row(arguments, tmp_path):
    from safetensors.torch import load_file

    summary = run_in(tmp_path, *arguments, "optim.lr=0.4", "optim.clip=null")
    own = importlib.import_module("own_domain")
    model = own.Recurrent(8, 0.0)
    model.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    task = own.Walks(model, 1, torch.device("cpu"), length=40, penalty=0.0)
    for split in ("val", "test"):
        mean = task.evaluate(model, split, loop.Share(), None, lambda: None)[f"{split}/loss"]
        assert float(mean.total) / mean.count == pytest.approx(summary["final"][f"{split}/loss"], rel=1e-6)
    assert summary["kept"]["step"] < 23  # at this rate it does not end with its best


@pytest.mark.parametrize("call", [2, 9, 17, 23])
def test_killed_and_gone_on_it_ends_with_the_same_bits(call, arguments, tmp_path):
    arguments = [*arguments, "runtime.checkpoint_every_steps=3"]
    run_in(tmp_path / "whole", *arguments)
    prepare = signal_at_call(loop.Trainer, "update", call, signal.SIGKILL)
    assert run_in_child(tmp_path / "killed", *arguments, prepare=prepare) == -signal.SIGKILL
    run_in(tmp_path / "killed", *arguments)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_gradients_are_clipped_to_the_norm_of_the_whole_batch(arguments, tmp_path, monkeypatch):
    norms = []
    step = torch.optim.SGD.step

    def watched(self, closure=None):
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.linalg.vector_norm(torch.stack([g.norm() for g in grads])).item())
        return step(self, closure)

    monkeypatch.setattr(parts, "try_steps", lambda *_: None)  # its step is none of the run
    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    run_in(tmp_path, *arguments, "runtime.micro_batches=2", "steps=6")
    assert len(norms) == 6
    assert max(norms) == pytest.approx(0.3, rel=1e-4)  # clipping divides by norm + 1e-6


@pytest.fixture(scope="module")
def two(domain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    chosen = [*RUN, f"hydra.searchpath=[file://{domain / 'configs'}]", "task.preset.model.p=0"]
    jobs = {name: [*chosen, *CASES[name]] for name in CASES}
    started = [{"overrides": its, "folder": str(folder / name), "port": free_port()} for name, its in jobs.items()]
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), str(domain)])
    return facts(folder, start(folder, 2, started, PYTHONPATH=path)), folder, jobs


CASES = {
    "sgd": ["optim=sgd"],
    "la_sgd": [],
    # The loss is asked for twice: at the second time from the same hidden state.
    "fresh": ["optim=la_adam_adaptive", "optim.alpha.gradient=fresh", "optim.lr=0.01"],
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_pieces_and_processes_train_as_a_whole_batch(name, two, tmp_path):
    found, folder, jobs = two
    number = list(CASES).index(name)
    assert found[0][number] == found[1][number]
    assert found[0][number]["status"] == "done"
    run_in(tmp_path / "whole", *jobs[name])
    run_in(tmp_path / "pieces", *jobs[name], "runtime.micro_batches=3")
    assert_close(tmp_path / "pieces", tmp_path / "whole")
    assert_close(folder / name, tmp_path / "whole")


def test_a_fresh_gradient_replays_dropout_and_leaves_the_carried_state_of_the_first_call(arguments, tmp_path):
    # With low = 1 nothing is pulled back: it trains as the inner optimizer, whose loss is asked for once.
    chosen = [*arguments, "optim.lr=0.01", "optim=la_adam_adaptive", "optim.alpha.gradient=fresh", "optim.alpha.low=1"]
    run_in(tmp_path / "twice", *chosen)
    run_in(tmp_path / "once", *arguments, "optim.lr=0.01", "optim=adamw")
    ours, theirs = state(tmp_path / "twice"), state(tmp_path / "once")
    for key in ("model", "task", "random", "loss_sum"):
        assert_same(ours[key], theirs[key], key)


def test_a_bad_value_of_its_own_is_one_of_the_configuration(arguments, tmp_path):
    from experiments.engine.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match=r"task\.length=3 is below 10"):
        run_in(tmp_path, *arguments, "task.length=3")


def test_the_command_line_wins_over_the_schedule_that_the_task_chooses(arguments):
    from tests.helpers.running import configuration

    assert configuration(*arguments).schedule.scheduler["_target_"].endswith("ReduceLROnPlateau")
    assert configuration(*arguments, "schedule=constant").schedule.scheduler["_target_"].endswith("ConstantLR")
