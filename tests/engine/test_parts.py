"""The parts of a run from its configuration, wrapped for several processes and compilation, and probes as one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from experiments.engine import parts as module
from experiments.engine.errors import ConfigurationError
from experiments.engine.parts import Parts, build
from experiments.engine.probe import Findings, Probes
from experiments.engine.processes import ALONE, Processes
from lookahead import Lookahead

CPU = torch.device("cpu")
TEXT = f"""
seed: 3
model: {{_target_: torch.nn.Linear, in_features: 2, out_features: 1}}
optim: {{optimizer: {{_target_: torch.optim.SGD, _partial_: true, lr: 0.1}}}}
schedule:
  scheduler: {{_target_: torch.optim.lr_scheduler.StepLR, _partial_: true, step_size: 1}}
  per: epoch
average: null
task:
  _target_: {__name__}.Task
  name: x
  preset: {{epochs: 3}}
  recipes: {{sgd: {{lr: 1}}}}
  padding: 4
runtime: {{channels_last: false, compile: null, compile_dynamic: false, cuda_graph: false, micro_batches: 1}}
batch_norm_images: null
epochs: 3
steps: null
"""


class Task:
    """Keeps what it is made of; a padding below zero is refused."""

    def __init__(self, model, seed, device, padding):
        if padding < 0:
            raise ValueError(f"task.padding={padding} is negative")
        self.model, self.given = model, (seed, device, padding)

    def steps(self, epoch):
        return 5


def config(**changes):
    made = OmegaConf.create(TEXT)
    for path, value in changes.items():
        OmegaConf.update(made, path.replace("__", "."), value)
    return made


@pytest.fixture
def wrapped(monkeypatch):
    """Note what is compiled and what is wrapped for several processes."""
    calls = []

    def compiled(model, **options):
        calls.append(("compile", model, options))
        return f"compiled {len([call for call in calls if call[0] == 'compile'])}"

    def distributed(model, **options):
        calls.append(("distribute", model, options))
        return "distributed"

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(module, "DistributedDataParallel", distributed)
    return calls


def test_a_task_gets_model_seed_and_device_and_what_is_its_own():
    found = build(config(), CPU)
    assert found.task.given == (3, CPU, 4)
    assert isinstance(found.task.model, nn.Linear)
    assert found.optimizer.param_groups[0]["params"] == list(found.task.model.parameters())
    assert found.average is None
    assert type(found.optimizer) is torch.optim.SGD
    assert found.forward is found.trained is found.uncompiled is found.task.model
    torch.manual_seed(3)
    assert torch.equal(found.task.model.weight, nn.Linear(2, 1).weight)


def test_lookahead_and_an_average_are_made_where_they_are_asked_for():
    found = build(
        config(
            optim__lookahead={"_target_": "lookahead.Lookahead", "_partial_": True, "k": 7},
            average={"mean": {"_target_": "lookahead.PolyakAverage", "_partial_": True, "decay": 0.9}, "per": "step"},
        ),
        CPU,
    )
    assert isinstance(found.optimizer, Lookahead)
    assert found.average.per == "step"
    assert found.average.optimizer is found.optimizer


def test_what_a_constructor_refuses_is_one_of_the_configuration():
    with pytest.raises(ConfigurationError, match=r"^task\.padding=-1 is negative$"):
        build(config(task__padding=-1), CPU)


def test_the_task_is_made_by_the_first_process_alone_first(monkeypatch):
    order = []

    class Two(Processes):
        @property
        def alone(self):
            return True  # wrapped for no others

        def first_alone(self):
            order.append("the first alone")
            return super().first_alone()

    monkeypatch.setattr(Task, "__init__", lambda self, **given: order.append("task") or vars(self).update(given))
    build(config(), CPU, Two())
    assert order == ["the first alone", "task"]


def parts(**more):
    return Parts(SimpleNamespace(model="model"), "model", None, None, None, **more)


def test_what_is_trained_is_what_is_called_unless_it_is_another():
    assert (parts().trained, parts().uncompiled) == ("model", "model")
    other = parts(trained="a", uncompiled="b")
    assert (other.trained, other.uncompiled) == ("a", "b")


def test_compilation_comes_after_the_wrap_for_several_processes(wrapped):
    two, cuda = Processes(0, 2), torch.device("cuda", 1)
    found = module._called(config(), parts(), CPU, ALONE)
    assert (found.forward, found.trained, found.uncompiled, wrapped) == ("model", "model", "model", [])
    found = module._called(config(), parts(), CPU, two)
    assert (found.forward, found.trained, found.uncompiled) == ("model", "distributed", "distributed")
    assert wrapped == [("distribute", "model", {"device_ids": None, "broadcast_buffers": False})]
    wrapped.clear()
    asked = config(runtime__compile="reduce-overhead", runtime__compile_dynamic=None)
    options = {"mode": "reduce-overhead", "dynamic": None}
    found = module._called(asked, parts(), CPU, ALONE)
    assert (found.forward, found.trained, found.uncompiled) == ("compiled 1", "compiled 1", "model")
    assert wrapped == [("compile", "model", options)]
    wrapped.clear()
    found = module._called(asked, parts(), cuda, two)
    assert (found.forward, found.trained, found.uncompiled) == ("compiled 1", "compiled 2", "distributed")
    assert wrapped == [
        ("distribute", "model", {"device_ids": [cuda], "broadcast_buffers": False}),
        ("compile", "model", options),
        ("compile", "distributed", options),
    ]


def test_a_model_that_says_so_is_never_compiled(wrapped):
    model = SimpleNamespace(compilable=False)
    made = Parts(SimpleNamespace(model=model), model, None, None, None)
    found = module._called(config(runtime__compile="default"), made, CPU, ALONE)
    assert found.forward is found.trained is found.uncompiled is model
    assert wrapped == []


def test_channels_last_is_asked_of_the_weights_where_it_is_chosen():
    conv = {"_target_": "torch.nn.Conv2d", "in_channels": 2, "out_channels": 3, "kernel_size": 2}
    for wanted in (True, False):
        chosen = config(runtime__channels_last=wanted)
        chosen.model = conv
        weight = build(chosen, CPU).task.model.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) is wanted


class Counting:
    """A probe that counts, and finds what its name says."""

    def __init__(self, name):
        self.name, self.seen = name, []

    def after(self, event, trainer):
        self.seen.append((event, trainer))

    def metrics(self):
        return {f"{self.name}/seen": float(len(self.seen))}

    def findings(self):
        table = pd.DataFrame({"x": [0.1 + 0.2]})
        return Findings({f"{self.name}_table": table}, {f"{self.name}_array": {"a": np.arange(3)}})

    def state_dict(self):
        return {"seen": len(self.seen)}

    def load_state_dict(self, state):
        self.seen = ["before"] * state["seen"]


def test_several_probes_are_one(tmp_path):
    one, two = Counting("one"), Counting("two")
    both = Probes({"a": one, "b": two})
    both.after("update", "the trainer")
    assert one.seen == two.seen == [("update", "the trainer")]
    assert both.metrics() == {"one/seen": 1.0, "two/seen": 1.0}
    assert both.state_dict() == {"a": {"seen": 1}, "b": {"seen": 1}}
    both.load_state_dict({"a": {"seen": 2}, "b": {"seen": 3}, "c": {}})
    assert (len(one.seen), len(two.seen)) == (2, 3)
    both.findings().write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "one_array.npz", "one_table.csv", "two_array.npz", "two_table.csv",
    ]  # fmt: skip
    assert (tmp_path / "one_table.csv").read_text() == "x\n0.30000000000000004\n"
    assert np.load(tmp_path / "two_array.npz")["a"].tolist() == [0, 1, 2]
    assert Probes({}).metrics() == {}
    assert Findings() == Findings({}, {})


def test_arrays_are_compressed_under_their_own_name(tmp_path):
    Findings(arrays={"zeros": {"a": np.zeros(10**5)}}).write(tmp_path)
    assert (tmp_path / "zeros.npz").stat().st_size < 10**4
