"""Runs of task=ptb optim=nt_asgd on a small text in which averaging is triggered: against a plain loop, and resumed."""

from __future__ import annotations

import math
import signal

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from experiments.engine import loop
from experiments.engine.seeding import seed_everything
from experiments.language_modeling.awd_lstm import AWDLSTM
from experiments.language_modeling.batching import training_chunks
from experiments.language_modeling.corpus import made
from tests.engine.test_resume import assert_same_run
from tests.helpers.running import configuration, history, run_in, run_in_child, signal_at_call, state

EPOCHS, BPTT, COLUMNS, INTERVAL, RATE = 8, 12, 8, 1, 30
RUN = [
    *["task=ptb", "scale=smoke", "runtime.threads=1", "optim=nt_asgd", f"optim.lr={RATE}", f"epochs={EPOCHS}"],
    *["schedule=constant", f"optim.average.n={INTERVAL}", "evaluation.splits=[val]"],
]
DROPOUTS = [f"smaller_model.{name}_dropout=0" for name in ("word", "input", "hidden", "output", "weight")]


def train_for_an_epoch(model: AWDLSTM, epoch: int, after_update) -> None:
    """Train as the original does, without dropout; call `after_update()` after each update."""
    data = made().train.view(COLUMNS, -1).t()
    params = list(model.parameters())
    hidden = model.start(COLUMNS)
    for chunk in training_chunks(1, epoch, len(data), BPTT):
        optimizer = torch.optim.SGD(params, lr=RATE * chunk.sampled / BPTT, weight_decay=1.2e-6)
        rows = data[chunk.first : chunk.first + chunk.length + 1]
        hidden = [(h.detach(), c.detach()) for h, c in hidden]
        logits, hidden, raw, dropped, _ = model(rows[:-1], hidden)
        loss = F.cross_entropy(logits.flatten(0, 1), rows[1:].flatten())
        (loss + 2 * dropped.square().mean() + (raw[1:] - raw[:-1]).square().mean()).backward()
        torch.nn.utils.clip_grad_norm_(params, 0.25)
        optimizer.step()
        optimizer.zero_grad()
        after_update()


@torch.no_grad()
def validated(model: AWDLSTM) -> float:
    data = made().val.view(4, -1).t()
    logits = model(data[:-1], model.start(4)).logits
    return F.cross_entropy(logits.flatten(0, 1), data[1:].flatten()).item()


def test_once_validation_has_not_improved_the_mean_of_the_weights_after_each_update_is_evaluated(tmp_path):
    summary = run_in(tmp_path, *RUN, *DROPOUTS)

    config = configuration(*RUN, *DROPOUTS)
    seed_everything(1)
    model, mean = instantiate(config.model), instantiate(config.model)
    losses, collected, triggered = [], [], None

    def collect() -> None:
        if triggered is not None:
            collected.append([p.detach().double() for p in model.parameters()])

    best, best_mean = math.inf, None
    for epoch in range(EPOCHS):
        train_for_an_epoch(model, epoch, collect)
        if collected:
            with torch.no_grad():
                for p, *all_values in zip(mean.parameters(), *collected, strict=True):
                    p.copy_(torch.stack(all_values).mean(0))
        loss = validated(mean if collected else model)
        if triggered is None and len(losses) > INTERVAL and loss > min(losses[:-INTERVAL]):
            triggered = epoch
        losses.append(loss)
        if loss < best:
            best, best_mean = loss, [p.detach().clone() for p in (mean if collected else model).parameters()]

    assert triggered is not None
    assert 2 <= triggered < EPOCHS - 2
    assert losses.index(best) > triggered  # the average does better than what was before it
    found = [float(row["val/loss"]) for row in history(tmp_path)]
    assert found == pytest.approx(losses, rel=1e-4)
    saved = state(tmp_path)["average"]["mean"]
    assert (saved["triggered"], saved["updates"]) == (True, len(collected))
    assert saved["losses"] == found[: triggered + 1]
    assert summary["final"]["val/loss"] == found[losses.index(best)]
    weights = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    for (name, _), expected in zip(model.named_parameters(), best_mean, strict=True):
        torch.testing.assert_close(weights[name], expected, rtol=1e-3, atol=1e-4, msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run_in(folder, *RUN, "runtime.checkpoint_every_steps=3")
    return folder, state(folder)["average"]["mean"]


# Shortly before the averaging begins, and in its second epoch.
@pytest.mark.parametrize("updates", [-2, 20])
def test_killed_about_the_trigger_and_gone_on_it_ends_with_the_same_bits(updates, whole, tmp_path):
    folder, mean = whole
    steps = int(history(folder)[-1]["step"])
    assert mean["triggered"]
    assert 20 < mean["updates"] < steps - 20
    arguments = [*RUN, "runtime.checkpoint_every_steps=3"]
    prepare = signal_at_call(loop.Trainer, "update", steps - mean["updates"] + updates)
    assert run_in_child(tmp_path, *arguments, prepare=prepare) == -signal.SIGKILL
    killed = state(tmp_path)["average"]["mean"]
    assert killed["triggered"] == (updates > 0)
    assert killed["updates"] <= max(0, updates)
    run_in(tmp_path, *arguments)
    assert_same_run(tmp_path, folder)
