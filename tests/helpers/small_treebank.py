"""Penn Treebank's task on a small text made in code."""

from __future__ import annotations

import torch

from experiments.language_modeling.awd_lstm import AWDLSTM
from experiments.language_modeling.corpus import made
from experiments.language_modeling.penn_treebank import PennTreebank

CPU = torch.device("cpu")
NONE = {f"{name}_dropout": 0.0 for name in ("word", "input", "hidden", "output", "weight")}
VALUES = {
    "vocabulary": 12,
    "batch_size": 7,
    "seed": 1,
    "device": CPU,
    "data_dir": "nowhere",
    "bptt": 9,
    "val_columns": 4,
}


def text(_):
    return made(words=12, train_tokens=400, val_tokens=90, test_tokens=50)


def task_of(dropout: bool = False, **values) -> PennTreebank:
    torch.manual_seed(0)
    model = AWDLSTM(vocabulary=12, embedding=6, hidden=8, layers=2, **({} if dropout else NONE))
    return PennTreebank(model, text, **(VALUES | values))
