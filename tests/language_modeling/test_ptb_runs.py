"""Runs of task=ptb as train.py makes them: the paper's values, the original's loop, resuming, and two processes."""

from __future__ import annotations

import math
import re
import signal

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf

from benchmarks.ports import free_port
from experiments.engine import loop
from experiments.engine.errors import ConfigurationError
from experiments.engine.processes import ALONE
from experiments.engine.seeding import seed_everything
from experiments.engine.task import Share
from experiments.language_modeling.batching import training_chunks
from experiments.language_modeling.corpus import made
from experiments.language_modeling.penn_treebank import PennTreebank
from tests.engine.test_resume import assert_same_run
from tests.helpers.engine_processes import facts, start
from tests.helpers.running import configuration, history, run_in, run_in_child, signal_at_call, state

RUN = ["task=ptb", "scale=smoke", "runtime.threads=1"]
DROPOUTS = [f"smaller_model.{name}_dropout=0" for name in ("word", "input", "hidden", "output", "weight")]
RATES = {"sgd": 100, "la_sgd": 100, "nt_asgd": 100, "adam": 0.02, "la_adam": 0.02}


@pytest.mark.parametrize("optim", RATES)
def test_the_paper_s_values_are_those_of_appendix_c3(optim):
    config = configuration("task=ptb", f"optim={optim}")
    assert (config.epochs, config.batch_size, config.task.bptt) == (750, 80, 70)
    assert (config.optim.weight_decay, config.optim.clip) == (1.2e-6, 0.25)
    assert (config.schedule.factor, config.schedule.patience, config.schedule.metric) == (0.5, 15, "val/loss")
    assert (config.keep.metric, config.keep.mode, config.evaluation.final_splits) == ("val/loss", "min", ["test"])
    assert (config.task.activation, config.task.temporal) == (2, 1)
    assert (config.task.val_columns, config.task.test_columns) == (10, 1)
    target = config.optim.optimizer["_target_"]
    if "adam" in optim:
        assert (target, list(config.optim.betas)) == ("torch.optim.Adam", [0.9, 0.999])
    else:
        assert (target, config.optim.momentum) == ("torch.optim.SGD", 0)
    assert ("lookahead" in config.optim) == optim.startswith("la_")
    with torch.device("meta"):
        model = instantiate(config.model)
    assert sum(p.numel() for p in model.parameters()) == 24_221_600


def test_short_is_the_paper_s_run_for_40_epochs_and_the_proxy_a_small_one_with_the_same_rates_and_words():
    paper, short, proxy = (
        configuration("task=ptb", "optim=nt_asgd", f"scale={s}") for s in ("paper", "short", "proxy")
    )
    assert (short.epochs, short.schedule.patience, short.average.n) == (40, 2, 1)
    assert (paper.schedule.patience, paper.average.n) == (15, 5)
    same = ("model", "task.corpus", "task.bptt", "task.recipes", "batch_size", "keep", "evaluation", "optim.lr")
    for key in same:
        assert OmegaConf.select(short, key) == OmegaConf.select(paper, key), key
    assert (proxy.epochs, proxy.schedule.patience, proxy.average.n) == (8, 0, 0)
    assert (proxy.optim.lr, proxy.task.recipes) == (paper.optim.lr, paper.task.recipes)
    assert proxy.model.vocabulary == proxy.task.vocabulary == paper.task.vocabulary == 10_000
    assert sum(p.numel() for p in instantiate(proxy.model).parameters()) == 433_680


@pytest.mark.parametrize("optim", RATES)
def test_each_optimizer_of_table_3_learns_a_made_text_and_is_tested_at_its_best(optim, tmp_path):
    given = [f"optim.lr={RATES[optim]}", "epochs=30", "schedule.patience=2"]
    if optim == "nt_asgd":
        given += ["optim.average.n=5"]  # with 1 the mean has the weights of the first few epochs too
    summary = run_in(tmp_path, *RUN, f"optim={optim}", *given)
    rows = history(tmp_path)
    assert (summary["status"], summary["evaluated"], summary["epochs"]) == ("done", "best", 30)
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


CASES = {"sgd": ["optim=sgd", "optim.lr=3"], "la_adam": ["optim=la_adam"]}
PLANT = {"rank": 1, "call": 6, "what": "SIGUSR1"}  # in the middle of the first epoch
STOPPED = [*RUN, *DROPOUTS, *CASES["la_adam"], "runtime.read_loss_every=2"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    jobs = {name: {"overrides": [*RUN, *DROPOUTS, *chosen]} for name, chosen in CASES.items()}
    jobs["stopped"] = {"overrides": STOPPED, "plant": PLANT, "catch": "SIGUSR1"}
    jobs["one column"] = {"overrides": [*RUN, "optim=la_sgd", "batch_size=1", "steps=5", "task.val_columns=1"]}
    for name, job in jobs.items():
        job |= {"folder": str(folder / name), "port": free_port()}
    found = facts(folder, start(folder, 2, list(jobs.values())))
    return {name: [found[rank][number] for rank in (0, 1)] for number, name in enumerate(jobs)}, folder


def assert_close(folder, whole):
    """Sums of float32 gradients in another order, which 29 updates make 1e-4 or less."""
    ours, theirs = (safetensors.torch.load_file(each / "weights.safetensors") for each in (folder, whole))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    for row, other in zip(history(folder), history(whole), strict=True):
        for key in ("train/running_loss", "train/loss", "val/loss"):
            assert float(row[key]) == pytest.approx(float(other[key]), rel=1e-4), key
        assert (row["step"], row["samples"]) == (other["step"], other["samples"])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first of them waits for the processes, which a busy machine makes slow
def test_columns_are_shared_out_by_two_processes_and_by_micro_batches(name, two, tmp_path):
    found, folder = two
    assert found[name][0] == found[name][1]
    assert found[name][0]["status"] == "done"
    run_in(tmp_path / "whole", *RUN, *DROPOUTS, *CASES[name])
    run_in(tmp_path / "pieces", *RUN, *DROPOUTS, *CASES[name], "runtime.micro_batches=3")
    assert_close(tmp_path / "pieces", tmp_path / "whole")
    assert_close(folder / name, tmp_path / "whole")
    assert [one["columns"] for one in state(folder / name)["task"]] in ([[[0, 8]]] * 2, [[[0, 4]], [[4, 8]]])


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first of them waits for the processes, which a busy machine makes slow
def test_what_two_processes_left_in_mid_epoch_one_goes_on_with(two, tmp_path):
    found, folder = two
    assert [one["status"] for one in found["stopped"]] == ["stopped", "stopped"]
    carried = state(folder / "stopped")["task"]
    assert [one["columns"] for one in carried] == [[[0, 4]], [[4, 8]]]
    assert 0 < carried[0]["batch"] == carried[1]["batch"] < 16
    run_in(folder / "stopped", *STOPPED)
    run_in(tmp_path, *RUN, *DROPOUTS, *CASES["la_adam"])
    assert_close(folder / "stopped", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first of them waits for the processes, which a busy machine makes slow
def test_a_process_without_a_column_trains_as_the_other_does(two, tmp_path):
    found, folder = two
    assert found["one column"][0]["status"] == found["one column"][1]["status"] == "done"
    assert found["one column"][0]["weights"] == found["one column"][1]["weights"]
    alone = run_in(tmp_path, *RUN, "optim=la_sgd", "batch_size=1", "steps=5", "task.val_columns=1")
    assert history(folder / "one column")[0]["samples"] == history(tmp_path)[0]["samples"]
    assert alone["steps"] == 5


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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["task.bptt=0"], r"task\.bptt=0 is not possible"),
        (["batch_size=500"], r"batch_size=500 is too wide for the 1200 tokens of train"),
        (["smaller_model.weight_dropout=1.5"], r"model\.weight_dropout=1\.5 is not possible"),
        (["evaluation.train_pass=augmented"], r"evaluation\.train_pass=augmented is none of clean, none"),
        (["evaluation.splits=[val,dev]"], r"there is no dev; choose from train, val, test"),
        (["task.corpus.words=30"], r"task\.vocabulary=40, but the text has 30 words"),
        (["smaller_model.vocabulary=41"], r"model\.vocabulary=41, but the task has 40 words"),
        (["model=resnet18"], r"^model\.num_classes: there is no key task\.num_classes in the configuration"),
    ],
)
def test_bad_values_end_in_one_line_before_training(given, message, tmp_path):
    with pytest.raises(ConfigurationError, match=message) as caught:
        run_in(tmp_path, *RUN, "optim=la_sgd", *given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "history.csv").exists()


def test_files_that_are_not_the_usual_ones_end_in_one_line(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "ptb"
    folder.mkdir(parents=True)
    for name in ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"):
        (folder / name).write_text("a text \n of mine \n")
    given = ["task=ptb", "optim=la_sgd", f"runtime.data_dir={tmp_path / 'data'}"]
    small = ["model=awd_lstm_small"]  # the paper's network takes longer to make
    with pytest.raises(ConfigurationError, match=re.escape(f"{folder}/ptb.train.txt is not the usual file")):
        run_in(tmp_path / "run", *given, *small)
    own = ["task.corpus._target_=experiments.language_modeling.corpus.text_files", "+task.corpus.vocabulary=train"]
    names = [f"+task.corpus.{split}=ptb.{name}.txt" for split, name in (("train", "train"), ("val", "valid"))]
    fits = ["task.vocabulary=5", "batch_size=2", "task.val_columns=1", "epochs=2"]
    summary = run_in(tmp_path / "own", *given, *small, *own, *names, "+task.corpus.test=ptb.test.txt", *fits)
    assert summary["status"] == "done"
