"""Configurations of task=ptb: the paper's values, those of the shorter scales, and bad ones."""

from __future__ import annotations

import re

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from experiments.engine.errors import ConfigurationError
from tests.helpers.running import configuration, run_in

RUN = ["task=ptb", "scale=smoke", "runtime.threads=1"]
OPTIMIZERS = ("sgd", "la_sgd", "nt_asgd", "adam", "la_adam")  # of Table 3


@pytest.mark.parametrize("optim", OPTIMIZERS)
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
