"""Bad values end before any data is loaded or fetched, whoever reads them."""

from __future__ import annotations

import pytest
import torch

from experiments.engine.configuration import check
from experiments.engine.errors import ConfigurationError
from experiments.engine.parts import build
from tests.helpers.running import configuration

called: list[object] = []


def dataset(*args, **kwargs):
    """Record that data were asked for."""
    called.append((args, kwargs))
    raise ValueError("data were loaded")


OWN_DATA = [f"task.dataset._target_={__name__}.dataset", "task=cifar100", "scale=paper", "model=resnet8"]
BAD = {
    "task.padding=x": "task.padding=x",
    "task.padding=-1": "task.padding=-1",
    "task.padding=1.5": "task.padding=1.5",
    "task.flip=3": "task.flip=3",
    "task.channels=0": "task.channels=0",
    "task.num_classes=0": "task.num_classes=0",
    "task.dataset.train_subset=abc": "task.dataset.train_subset=abc",
    "task.dataset.train_subset=0": "task.dataset.train_subset=0",
    "task.dataset.val_subset=-5": "task.dataset.val_subset=-5",
    "model.num_classes=7": "model.num_classes=7, but the task has 100",
    "evaluation.train_pass=dirty": "train_pass=dirty is none of clean",
    "runtime.evaluation_batch_size=0": "evaluation_batch_size=0",
    "batch_size=0": "batch_size=0",
    "optim.k=five": "k must be an integer of at least 1, not 'five'",
    "optim.inner_state=keep": "keep",
    "optim.clip=0": "optim.clip=0",
    "optim.lr=fast": "optim.lr=fast",
    "schedule.milestones=[x]": "schedule.milestones",
    "precision=fp16": "precision=fp16 is not possible; give one of fp32, tf32, bf16",
    "runtime.micro_batches=0": "runtime.micro_batches=0",
    "runtime.checkpoint_every_s=-1": "runtime.checkpoint_every_s=-1",
    "runtime.compile=fast": "runtime.compile=fast",
    "runtime.keep_memory=maybe": "runtime.keep_memory=maybe",
    "runtime.fused=maybe": "runtime.fused=maybe",
    "batch_norm_images=0": "batch_norm_images=0",
    "batch_norm_images=64 runtime.micro_batches=2": "runtime.micro_batches=2 is not possible with batch_norm_images=64",
    "evaluation.splits=[]": r"evaluation.splits=\[\]",
    "evaluation.splits=train": "evaluation.splits=train",
    "evaluation.train_pass_every=0": "evaluation.train_pass_every=0",
    "keep={metric: val/loss, mode: low}": "keep.mode=low is not possible; give one of min, max",
    "epochs=null": "epochs=null and steps=null",
}


def prepared(config):
    check(config)
    return build(config, torch.device("cpu"))


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_value_is_named_before_data_are_loaded(bad):
    called.clear()
    chosen = [bad] if bad.startswith("keep") else bad.split()
    config = configuration(*OWN_DATA, *chosen)
    with pytest.raises(ConfigurationError, match=BAD[bad]):
        prepared(config)
    assert called == []


def test_good_values_reach_the_data():
    called.clear()
    with pytest.raises(ConfigurationError, match="data were loaded"):
        prepared(configuration(*OWN_DATA))
    assert len(called) == 1
