"""Which batches a compiled model sees: torch.compile is stood for by a function that counts."""

from __future__ import annotations

import pytest
import torch

from experiments.engine.parts import build
from experiments.engine.processes import ALONE
from experiments.engine.update import Updater
from tests.helpers.running import configuration, run_in

SMOKE = ["task=digits", "scale=smoke", "optim=sgd", "epochs=2"]  # an epoch has six batches of 32 images and one of 8


@pytest.fixture
def sizes(monkeypatch):
    """The sizes of the batches in training that the compiled model sees."""
    seen = []

    def compiled(model, **options):
        def call(inputs):
            if model.training:
                seen.append(len(inputs))
            return model(inputs)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    return seen


@pytest.mark.parametrize(("dynamic", "expected"), [("false", [32] * 6), ("true", [32] * 6 + [8])])
def test_the_last_smaller_batch_goes_through_the_plain_model_where_one_size_is_compiled(
    dynamic, expected, sizes, tmp_path
):
    asked = [*SMOKE, "runtime.compile=default", f"runtime.compile_dynamic={dynamic}"]
    run_in(tmp_path / "compiled", *asked)
    assert sizes == expected * 2
    run_in(tmp_path / "plain", *SMOKE)
    assert len(sizes) == len(expected) * 2
    plain, compiled = ((tmp_path / name / "history.csv").read_text().splitlines() for name in ("plain", "compiled"))
    assert [row.split(",")[5:] for row in plain] == [row.split(",")[5:] for row in compiled]  # losses, accuracies


def test_a_smaller_batch_trains_as_it_does_without_compilation(sizes):
    device = torch.device("cpu")
    parts = build(configuration(*SMOKE, "runtime.compile=default"), device)
    passes = []
    parts.task.model.register_forward_hook(lambda model, inputs, output: passes.append(len(inputs[0])))
    take = Updater(parts, device, ALONE, "fp32", None, fixed=True)
    for update in parts.task.updates(0):
        take(update)
    assert (passes, sizes) == ([32] * 6 + [8], [32] * 6)
