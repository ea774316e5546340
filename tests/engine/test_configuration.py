"""The values that the engine checks, each at its bounds, and the devices; without composing anything."""

from __future__ import annotations

import math

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from experiments.engine.configuration import RULES, check, check_share, choose_device, explained
from experiments.engine.errors import ConfigurationError

NOTHING, MADE = [None], {"_target_": "a.b"}
NO_NUMBER = [True, "1", [1], math.nan, math.inf, None]
NO_WHOLE_NUMBER = [1.5, 2.0, True, "1", [1]]
NO_MADE = [{}, {"target": "a.b"}, {"_target_": 3}, "_target_", 3, None]
NO_TEXT = ["", 3, None]
NO_NAMES = ["val", [1], ["val", 2], {"val": 1}, None]

# For each key, values that hold, and values that do not.
VALUES = {
    "scale_factor": ([0.1, 3], [0, -1.0, *NO_NUMBER]),
    **dict.fromkeys(
        ("model", "task", "tracker", "optim.optimizer", "optim.lookahead", "schedule.scheduler", "average.mean"),
        ([MADE], NO_MADE),
    ),
    "probe": ([None, MADE], NO_MADE[:-1]),
    "seed": ([0, 2**63 - 1], [-1, 2**63, None, *NO_WHOLE_NUMBER]),
    "epochs": ([1, 10**6], [0, 10**6 + 1, *NO_WHOLE_NUMBER]),
    "steps": ([None, 1, 10**9], [0, *NO_WHOLE_NUMBER]),
    "batch_size": ([1], [0, None, *NO_WHOLE_NUMBER]),
    "optim.lr": ([1e-9, 2], [0, -0.1, *NO_NUMBER]),
    "optim.weight_decay": ([0, 0.1], [-1e-9, *NO_NUMBER]),
    "optim.momentum": ([0, 0.999], [-1e-9, 1, 1.0, *NO_NUMBER]),
    "optim.clip": ([None, 0.1], [0, *NO_NUMBER[:-1]]),
    "optim.betas": ([[0, 0.999]], [[0.9], [0.9, 0.9, 0.9], [0.9, 1], [-0.1, 0.9], ["0.9", 0.9], 0.9, None]),
    "precision": (["fp32", "tf32", "bf16"], ["fp16", None, 32]),
    "processes": ([None, 1], [0, *NO_WHOLE_NUMBER]),
    "batch_norm_images": ([None, 1], [0, *NO_WHOLE_NUMBER]),
    "keep": (
        [None, {"metric": "a"}, {"metric": "a", "mode": "min"}],
        [{}, {"mode": "min"}, {"metric": "a", "b": 1}, 3],
    ),
    "keep.metric": (["val/loss"], NO_TEXT),
    "keep.mode": (["min", "max"], ["less", None]),
    "evaluation.every_epochs": ([None, 1], [0, *NO_WHOLE_NUMBER]),
    "evaluation.every_steps": ([None, 1], [0, *NO_WHOLE_NUMBER]),
    "evaluation.train_pass_every": ([None, 1], [0, *NO_WHOLE_NUMBER]),
    "evaluation.batch_norm": ([None, "kept", "reestimated"], ["forgotten", True]),
    "evaluation.splits": ([["val"], ["train", "val"]], [[], *NO_NAMES]),
    "evaluation.final_splits": ([[], ["test"]], NO_NAMES),
    "runtime.device": (["cpu", "auto"], ["meta", 0, None]),
    "runtime.data_dir": (["data"], NO_TEXT),
    "runtime.threads": ([None, 1, 1024], [0, 1025, *NO_WHOLE_NUMBER]),
    "runtime.read_loss_every": ([1], [0, None, *NO_WHOLE_NUMBER]),
    "runtime.checkpoint_every_steps": ([None, 1], [0, *NO_WHOLE_NUMBER]),
    "runtime.checkpoint_every_s": ([None, 0, 0.5], [-0.1, *NO_NUMBER[:-1]]),
    "runtime.micro_batches": ([1, 2], [0, None, *NO_WHOLE_NUMBER]),
    **dict.fromkeys(
        (
            "runtime.channels_last",
            "runtime.keep_memory",
            "runtime.cuda_graph",
            "runtime.cudnn_benchmark",
            "runtime.fused",
            "average.buffers",
        ),
        ([True, False], ["true", None, 2]),
    ),
    "runtime.compile": (
        [None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"],
        ["fast", True],
    ),
    "runtime.compile_dynamic": ([None, True, False], ["true", 2]),
    "runtime.evaluation_batch_size": ([1], [0, None, *NO_WHOLE_NUMBER]),
    "runtime.process_timeout_s": ([0.1, 10**6], [0, 10**6 + 1, *NO_NUMBER]),
    "runtime.progress": (["auto", "bar", "lines", "none"], ["dots", None]),
    "schedule.per": (["epoch", "step"], ["batch", None]),
    "average.per": (["epoch", "step"], ["batch", None]),
    "average.start": ([0, 1], [-1, None, *NO_WHOLE_NUMBER]),
    "average.n": ([0, 1], [-1, None, *NO_WHOLE_NUMBER]),
    "average.metric": (["val/loss"], NO_TEXT),
    "tracker.mode": (["offline", "online"], ["disabled", None]),
    "tracker.project": (["lookahead"], NO_TEXT),
    "tracker.entity": ([None, "team"], NO_TEXT[:-1]),
    "schedule.milestones": ([[], [1], [60, 120]], [[0], [1.5], 60, None]),
    "schedule.gamma": ([0.2, 2], [0, -1, *NO_NUMBER]),
    "schedule.delay": ([0, 3], [-1, None, *NO_WHOLE_NUMBER]),
    "schedule.metric": (["val/loss"], NO_TEXT),
    "schedule.mode": (["min", "max"], ["less", None]),
    "schedule.factor": ([0.001, 0.999], [0, 1, *NO_NUMBER]),
    "schedule.patience": ([0, 3], [-1, None, *NO_WHOLE_NUMBER]),
}


def given(key, value, **more):
    needed = {"steps": None, "runtime": {"micro_batches": 1}}
    if "." in key:
        needed |= {"keep": {"metric": "val/loss"}, "tracker": MADE}
    config = OmegaConf.create(needed | more)
    OmegaConf.update(config, key, value, merge=False, force_add=True)
    return config


def test_every_rule_is_tried():
    assert set(VALUES) == set(RULES)


@pytest.mark.parametrize("key", VALUES)
def test_a_value_holds_up_to_its_bounds_and_not_beyond(key):
    good, bad = VALUES[key]
    for value in good:
        check(given(key, value))
    for value in bad:
        with pytest.raises(ConfigurationError) as raised:
            check(given(key, value))
        shown = str(OmegaConf.create([value])[0]) if value is not None else "null"
        assert str(raised.value).startswith(f"{key}={shown}"), value
        assert str(raised.value).endswith(f" is not possible; give {RULES[key][1]}"), value


ALLOWED = {
    "seed": "a whole number from 0 up to 2**63 - 1",
    "epochs": "null or a whole number from 1 to 1000000",
    "steps": "null or a whole number of at least 1",
    "precision": "one of fp32, tf32, bf16",
    "evaluation.batch_norm": "one of null, kept, reestimated",
    "evaluation.splits": "a list of names, at least 1",
    "evaluation.final_splits": "a list of names",
    "runtime.threads": "null or a whole number from 1 to 1024",
}


def test_what_is_allowed_is_told_in_words():
    assert {key: RULES[key][1] for key in ALLOWED} == ALLOWED


def test_text_that_would_be_a_number_is_told_how_to_become_one():
    with pytest.raises(ConfigurationError) as raised:
        check(given("optim.lr", "0.1"))
    assert str(raised.value) == (
        "optim.lr=0.1 (text; ${oc.decode:...} around it reads a number) is not possible; give a number above 0"
    )
    for value in ("nan", "fast"):
        with pytest.raises(ConfigurationError, match=rf"^optim\.lr={value} is not possible"):
            check(given("optim.lr", value))


def test_something_must_end_a_run():
    check(OmegaConf.create({"epochs": None, "steps": 3}))
    check(OmegaConf.create({"steps": None}))  # an analysis has no epochs
    with pytest.raises(ConfigurationError, match="epochs=null and steps=null: nothing ends the run"):
        check(OmegaConf.create({"epochs": None, "steps": None}))


@pytest.mark.parametrize("key", ["keep.metric", "schedule.metric", "average.metric"])
def test_a_metric_of_a_thinned_pass_decides_nothing(key):
    for every in (None, 1):
        check(given(key, "train/loss", evaluation={"train_pass_every": every}))
    check(given(key, "train/loss"))
    check(given(key, "val/loss", evaluation={"train_pass_every": 2}))
    with pytest.raises(ConfigurationError, match=rf"^{key}=train/loss is not possible with .*train_pass_every=2, at"):
        check(given(key, "train/loss", evaluation={"train_pass_every": 2}))


def test_passes_of_a_fixed_size_are_not_cut_into_pieces():
    check(given("batch_norm_images", 4))
    check(given("batch_norm_images", None, runtime={"micro_batches": 2}))
    with pytest.raises(
        ConfigurationError, match=r"^runtime\.micro_batches=2 is not possible with batch_norm_images=4, w"
    ):
        check(given("batch_norm_images", 4, runtime={"micro_batches": 2}))


@pytest.mark.parametrize(("images", "ranks"), [(64, 4), (64, 1), (32, 8), (300, 1), (None, 600), (63, 5)])
def test_passes_of_a_fixed_size_may_be_as_many_as_the_processes(images, ranks):
    check_share(OmegaConf.create({"batch_norm_images": images, "batch_size": 256}), ranks)


@pytest.mark.parametrize(
    ("images", "ranks", "advice"),
    [
        (64, 8, "into 4, too few for 8 processes; give at most 32, or start at most 4"),
        (256, 2, "into 1, too few for 2 processes; give at most 128, or start at most 1"),
        (63, 6, "into 5, too few for 6 processes; give at most 42, or start at most 5"),
        (2, 300, "into 128, too few for 300 processes; give at most 1, or start at most 128"),
    ],
)
def test_passes_of_a_fixed_size_leave_no_process_without_work(images, ranks, advice):
    with pytest.raises(ConfigurationError, match=f"^batch_norm_images={images} cuts batch_size=256 {advice}$"):
        check_share(OmegaConf.create({"batch_norm_images": images, "batch_size": 256}), ranks)


@pytest.mark.parametrize(("asked", "ranks"), [(None, 1), (None, 3), (1, 1), (2, 2)])
def test_the_processes_that_are_asked_for_may_run(asked, ranks):
    check_share(OmegaConf.create({"processes": asked, "batch_norm_images": None, "batch_size": 256}), ranks)


@pytest.mark.parametrize(("asked", "ranks"), [(2, 1), (1, 2), (2, 3)])
def test_another_number_of_processes_than_is_asked_for_is_refused(asked, ranks):
    words = (
        rf"^processes={asked} asks for another number than the {ranks} that runs? here; .* --nproc_per_node={asked} on"
    )
    with pytest.raises(ConfigurationError, match=words):
        check_share(OmegaConf.create({"processes": asked, "batch_norm_images": None, "batch_size": 256}), ranks)


def test_a_list_or_number_in_the_place_of_a_node_has_no_values():
    check(OmegaConf.create({"optim": [1], "schedule": 3, "steps": 1}))


def test_the_device_is_the_first_accelerator_or_the_cpu(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    for available, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert choose_device("auto") == torch.device(kind)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigurationError, match=r"^runtime\.device=cuda:O cannot be used \(.*\).*cuda:0"):
        choose_device("cuda:O")


@pytest.mark.parametrize("error", [ValueError, TypeError, KeyError, ZeroDivisionError, FileNotFoundError])
def test_what_a_constructor_raises_becomes_one_line(error):
    with pytest.raises(ConfigurationError, match="the reason"), explained():
        raise error("the reason")


def test_a_programming_error_stays_one():
    with pytest.raises(RuntimeError), explained():
        raise RuntimeError


def test_the_line_begins_with_the_key_of_what_could_not_be_made():
    node = OmegaConf.create({"layer": {"_target_": "torch.nn.Linear", "in_features": 1}})
    missing = r"^model\.layer has no value of 'out_features'$"
    with pytest.raises(ConfigurationError, match=missing), explained("model"):
        instantiate(node.layer)
    with pytest.raises(InstantiationException):
        instantiate(node.layer)
    node.layer.out_features = -1
    for name, begin in (("model", r"^model\.layer: "), (None, "^(?!model)")):
        with pytest.raises(ConfigurationError, match=begin + ".*negative dimension"), explained(name):
            instantiate(node.layer)
