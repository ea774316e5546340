"""Runs of task=ptb as train.py makes them: they learn, train as the original's loop, and resume."""

from __future__ import annotations

import math
import signal

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf

from experiments.engine import loop
from experiments.engine.processes import ALONE
from experiments.engine.seeding import seed_everything
from experiments.engine.task import Share
from experiments.language_modeling.batching import training_chunks
from experiments.language_modeling.corpus import made
from experiments.language_modeling.penn_treebank import PennTreebank
from tests.engine.test_resume import assert_same_run
from tests.helpers.running import configuration, history, run_in, run_in_child, signal_at_call, state

RUN = ["task=ptb", "scale=smoke", "runtime.threads=1"]
RATES = {"sgd": 100, "la_sgd": 100, "nt_asgd": 100, "adam": 0.02, "la_adam": 0.02}
EPOCHS = {"sgd": 22, "la_sgd": 36, "nt_asgd": 60, "adam": 12, "la_adam": 14}  # until each has learnt enough


@pytest.mark.parametrize("optim", RATES)
def test_each_optimizer_of_table_3_learns_a_made_text_and_is_tested_at_its_best(optim, tmp_path):
    epochs = EPOCHS[optim]
    given = [f"optim.lr={RATES[optim]}", f"epochs={epochs}", "schedule.patience=2"]
    if optim == "nt_asgd":
        given += ["optim.average.n=5"]  # with 1 the mean has the weights of the first few epochs too
    summary = run_in(tmp_path, *RUN, f"optim={optim}", *given)
    rows = history(tmp_path)
    assert (summary["status"], summary["evaluated"], summary["epochs"]) == ("done", "best", epochs)
    # By the words' frequencies alone it is 33.6; three followers nine times in ten make 8.
    assert summary["final"]["val/perplexity"] < 31
    best = min(rows, key=lambda row: float(row["val/loss"]))
    assert summary["kept"]["step"] == int(best["step"])
    assert summary["final"]["val/loss"] == float(best["val/loss"])
    for row in rows:
        for split, tokens in (("train", 1200 // 8), ("val", 240 // 4)):
            loss = float(row[f"{split}/loss"])
            assert float(row[f"{split}/perplexity"]) == pytest.approx(math.exp(loss))
            assert float(row[f"{split}/original_perplexity"]) == pytest.approx(math.exp(loss * (tokens - 1) / tokens))
        assert "test/loss" not in row
    assert float(rows[-1]["train/running_loss"]) > float(rows[-1]["train/loss"])  # which is without dropout
    task = kept_task(tmp_path, configuration(*RUN))
    for split in ("val", "test"):
        mean = task.evaluate(task.model, split, Share(), ALONE, lambda: None)[f"{split}/loss"]
        assert mean.total / mean.count == pytest.approx(summary["final"][f"{split}/loss"], rel=1e-6)


def kept_task(folder, config) -> PennTreebank:
    """Return a task whose model has the weights that a run wrote."""
    model = instantiate(config.model)
    model.load_state_dict(safetensors.torch.load_file(folder / "weights.safetensors"))
    OmegaConf.resolve(config)
    arguments = {key: value for key, value in config.task.items() if key not in ("name", "preset", "recipes")}
    return instantiate(arguments, model=model, seed=1, device=torch.device("cpu"))


def test_an_epoch_of_sgd_is_that_of_the_original_s_loop(tmp_path):
    given = ["optim=sgd", "epochs=2", "keep=null", "optim.lr=3", "schedule=constant"]
    run_in(tmp_path, *RUN, *given)
    found = safetensors.torch.load_file(tmp_path / "weights.safetensors")

    config = configuration(*RUN, *given)
    seed_everything(1)
    model = instantiate(config.model)
    data = made().train.view(8, 150).t().contiguous()
    params = list(model.parameters())
    optimizer = torch.optim.SGD(params, lr=3, weight_decay=1.2e-6)
    for epoch in range(2):
        hidden = model.start(8)
        i, draws = 0, iter(training_chunks(1, epoch, 150, 12))
        while i < data.size(0) - 1 - 1:
            seq_len = next(draws).sampled
            lr2 = optimizer.param_groups[0]["lr"]
            optimizer.param_groups[0]["lr"] = lr2 * seq_len / 12
            model.train()
            read = min(seq_len, len(data) - 1 - i)
            inputs, targets = data[i : i + read], data[i + 1 : i + 1 + read].reshape(-1)
            hidden = [(h.detach(), c.detach()) for h, c in hidden]
            optimizer.zero_grad()
            logits, hidden, raw, dropped, _ = model(inputs, hidden)
            loss = F.cross_entropy(logits.reshape(-1, 40), targets)
            loss = loss + 2 * dropped.pow(2).mean()
            loss = loss + (raw[1:] - raw[:-1]).pow(2).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, 0.25)
            optimizer.step()
            optimizer.param_groups[0]["lr"] = lr2
            i += seq_len
        assert next(draws, None) is None
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach(), rtol=1e-5, atol=1e-6, msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    summary = run_in(folder, *RUN, "optim=la_adam", "runtime.checkpoint_every_steps=3")
    return folder, summary["steps"]


# Within the first epoch, in its last update, in the second one, and at the end of all.
@pytest.mark.parametrize("call", [2, 9, 16, 20, 29])
def test_killed_and_gone_on_it_ends_with_the_same_bits(call, whole, tmp_path):
    folder, steps = whole
    assert steps == 29
    arguments = [*RUN, "optim=la_adam", "runtime.checkpoint_every_steps=3"]
    prepare = signal_at_call(loop.Trainer, "update", call)
    assert run_in_child(tmp_path, *arguments, prepare=prepare) == -signal.SIGKILL
    carried = state(tmp_path)["task"][0]
    run_in(tmp_path, *arguments)
    assert_same_run(tmp_path, folder)
    if call == 9:  # its last checkpoint was in the middle of an epoch, and had the states of then
        assert carried["batch"] == 6
        assert all(tensor.any() for layer in carried["hidden"][0] for tensor in layer)


def test_a_checkpoint_without_its_hidden_states_does_not_go_on_to_the_same_end(whole, tmp_path, monkeypatch):
    folder, _ = whole
    arguments = [*RUN, "optim=la_adam", "runtime.checkpoint_every_steps=3"]
    run_in_child(tmp_path, *arguments, prepare=signal_at_call(loop.Trainer, "update", 9))
    load = PennTreebank.load_state_dict

    def zeros(self, states):
        for layer in (layer for one in states if one for piece in one["hidden"] for layer in piece):
            for tensor in layer:
                tensor.zero_()
        load(self, states)

    monkeypatch.setattr(PennTreebank, "load_state_dict", zeros)
    run_in(tmp_path, *arguments)
    assert history(tmp_path) != history(folder)


def test_a_fresh_gradient_starts_from_the_same_hidden_state_and_draws_the_same_dropout(tmp_path):
    # With low = 1 nothing is pulled back: it trains as the inner optimizer, whose loss is asked for once.
    fresh = ["optim=la_adam_adaptive", "optim.alpha.gradient=fresh", "optim.alpha.low=1"]
    values = ["optim.lr=0.01", "optim.weight_decay=0"]
    run_in(tmp_path / "twice", *RUN, *fresh, *values)
    run_in(tmp_path / "once", *RUN, "optim=adamw", *values)
    ours, theirs = (state(tmp_path / name) for name in ("twice", "once"))
    for name, tensor in theirs["model"].items():
        assert torch.equal(ours["model"][name], tensor), name
    assert torch.equal(ours["random"][0]["torch"], theirs["random"][0]["torch"])


def test_bf16_trains_and_evaluates(tmp_path):
    summary = run_in(tmp_path, *RUN, "optim=la_adam", "precision=bf16")
    single = run_in(tmp_path / "fp32", *RUN, "optim=la_adam")
    assert summary["final"]["test/loss"] == pytest.approx(single["final"]["test/loss"], rel=0.02)


def test_compilation_leaves_the_model_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    run_in(tmp_path / "compiled", *RUN, "optim=la_sgd", "epochs=1", "runtime.compile=default")
    run_in(tmp_path / "plain", *RUN, "optim=la_sgd", "epochs=1")
    assert history(tmp_path / "compiled") == history(tmp_path / "plain")
