"""What the task refuses, what it just can do, and what it says of its data."""

from __future__ import annotations

import math

import pytest
import torch

from experiments.engine.processes import ALONE
from experiments.engine.task import Share
from experiments.language_modeling.awd_lstm import AWDLSTM
from experiments.language_modeling.corpus import made
from experiments.language_modeling.penn_treebank import PennTreebank
from tests.helpers.small_treebank import VALUES, task_of


def test_the_summary_of_the_data_tells_texts_apart():
    one = task_of().data_summary()
    assert (one["train tokens"], one["val tokens"], one["test tokens"]) == (400, 90, 50)
    torch.manual_seed(0)
    model = AWDLSTM(vocabulary=12, embedding=6, hidden=8, layers=2)
    longer = PennTreebank(model, lambda _: made(words=12, train_tokens=400, val_tokens=91, test_tokens=50), **VALUES)
    other = longer.data_summary()
    assert {key for key in one if one[key] != other[key]} == {"val tokens", "digest of the val text"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bptt": 0}, r"task\.bptt=0 is not possible; give a whole number of at least 1"),
        ({"bptt": 2.5}, r"task\.bptt=2\.5 is not possible"),
        ({"batch_size": 0}, r"^batch_size=0 is not possible"),
        ({"val_columns": True}, r"task\.val_columns=True is not possible"),
        ({"test_columns": 0}, r"task\.test_columns=0 is not possible"),
        ({"seed": -1}, r"^seed=-1 is not possible; give a whole number of at least 0"),
        ({"vocabulary": 0}, r"task\.vocabulary=0 is not possible"),
        ({"activation": -1}, r"task\.activation=-1 is not possible; give a number of at least 0"),
        ({"activation": math.inf}, r"task\.activation=inf is not possible"),
        ({"temporal": math.nan}, r"task\.temporal=nan is not possible"),
        ({"temporal": "high"}, r"task\.temporal=high is not possible"),
        ({"train_pass": "augmented"}, r"evaluation\.train_pass=augmented is none of clean, none"),
        ({"model_vocabulary": 11}, r"model\.vocabulary=11, but the task has 12 words"),
    ],
)
def test_values_out_of_range_are_named_before_the_text_is_read(given, message):
    def read(_):
        raise AssertionError("the text was read")

    with pytest.raises(ValueError, match=message):
        PennTreebank(None, read, **(VALUES | given))
    with pytest.raises(ValueError, match=r"task\.corpus=no is not possible; give a node with a _target_"):
        PennTreebank(None, "no", **VALUES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vocabulary": 11}, r"task\.vocabulary=11, but the text has 12 words"),
        ({"batch_size": 134}, r"batch_size=134 is too wide for the 400 tokens of train, .*; give at most 133$"),
        ({"val_columns": 46}, r"task\.val_columns=46 is too wide for the 90 tokens of val, .*; give at most 45$"),
        ({"test_columns": 26}, r"task\.test_columns=26 is too wide for the 50 tokens of test, .*; give at most 25$"),
    ],
)
def test_values_that_do_not_fit_the_text_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        task_of(**given)


def test_a_text_may_be_as_wide_as_it_just_can():
    task = task_of(batch_size=133, val_columns=45, test_columns=25)
    (update,) = task.updates(0)
    assert update.parts[0].inputs.shape == (2, 133)
    assert task.evaluate(task.model, "val", Share(), ALONE, lambda: None)["val/loss"].count == 45


def test_the_least_values_are_possible():
    task = task_of(batch_size=1, val_columns=1, bptt=1, seed=0, activation=0, temporal=0)
    first = next(task.updates(0))
    assert first.parts[0].inputs.shape == (5, 1)  # no chunk is shorter
    assert first.lr_scale >= 5
    assert task.evaluate(task.model, "val", Share(), ALONE, lambda: None)["val/loss"].count == 89
