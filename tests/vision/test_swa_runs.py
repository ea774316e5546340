"""Appendix D.3 as it is configured: every value of every run, by hand, and a run of each kind at smoke scale."""

from __future__ import annotations

import math

import pytest
import torch
from hydra.utils import instantiate

from experiments.engine.experiment import SCALES, settings
from experiments.engine.identity import run_name
from tests.helpers.running import configuration, history, run_in

PRERESNET, WRN = "cifar100_preresnet110", "cifar100_wrn28_10"
EXPERIMENTS = ("swa_start", "swa_inner_loop", "swa_baseline")
DECAY = {PRERESNET: 3e-4, WRN: 5e-4}
MODELS = {
    ("paper", PRERESNET): "preresnet110",
    ("short", PRERESNET): "preresnet110",
    ("proxy", PRERESNET): "preresnet11",
    ("smoke", PRERESNET): "preresnet11",
    ("paper", WRN): "wrn28_10",
    ("short", WRN): "wrn28_10",
    ("proxy", WRN): "wrn10_1",
    ("smoke", WRN): "wrn10_1",
}
# By task, optimizer and scale: epochs, schedule.until, schedule.last and, of SWA, average.start. A scale rounds down:
# 0.15, 0.075 and 0.02 times 225, 126 and 125; 150; 300, 161 and 160; 200.
BUDGETS = {
    (PRERESNET, "swa"): {
        "paper": (225, 126, 0.5, 125),
        "short": (33, 18, 0.5, 18),
        "proxy": (16, 9, 0.5, 9),
        "smoke": (4, 2, 0.5, 2),
    },
    (PRERESNET, "sgd"): {
        "paper": (150, 150, 0.01, None),
        "short": (22, 22, 0.01, None),
        "proxy": (11, 11, 0.01, None),
        "smoke": (3, 3, 0.01, None),
    },
    (WRN, "swa"): {
        "paper": (300, 161, 0.5, 160),
        "short": (45, 24, 0.5, 24),
        "proxy": (22, 12, 0.5, 12),
        "smoke": (6, 3, 0.5, 3),
    },
    (WRN, "sgd"): {
        "paper": (200, 200, 0.01, None),
        "short": (30, 30, 0.01, None),
        "proxy": (15, 15, 0.01, None),
        "smoke": (4, 4, 0.01, None),
    },
}


def values_of(config):
    average = config.average.start if config.average is not None else None
    return config.epochs, config.schedule.until, config.schedule.last, average


@pytest.mark.parametrize("task", [PRERESNET, WRN])
@pytest.mark.parametrize("scale", SCALES)
def test_the_values_are_those_of_the_swa_code_at_every_scale(task, scale):
    kinds = {
        "sgd": (["optim=sgd"], BUDGETS[task, "sgd"][scale]),
        "swa": (["optim=swa"], BUDGETS[task, "swa"][scale]),
        "la_sgd": (["optim=la_sgd"], (*BUDGETS[task, "swa"][scale][:3], None)),
        "la_swa": (["optim=la_sgd", "average=swa"], BUDGETS[task, "swa"][scale]),
    }
    for kind, (given, expected) in kinds.items():
        config = configuration(f"task={task}", f"scale={scale}", *given)
        optim = config.optim
        assert values_of(config) == expected
        assert (optim.lr, optim.weight_decay, optim.momentum) == (0.1, DECAY[task], 0.9)
        assert config.batch_size == (16 if scale == "smoke" else 128)
        assert config.model["_target_"].rpartition(".")[2] == MODELS[scale, task]
        assert (config.task.num_classes, config.task.dataset.get("constants", "swa")) == (100, "swa")
        assert (config.evaluation.splits, config.evaluation.final_splits) == (["val"], ["train"])
        if kind.startswith("la"):
            assert (optim.k, optim.alpha, optim.inner_state) == (10, 0.8, "reset")
        if config.average is not None:
            assert (config.average.per, config.average.mean["_target_"]) == (
                "epoch",
                "lookahead.StochasticWeightAverage",
            )


def rates_of(config):
    """Return the rate of each epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.optim.lr)
    scheduler, found = instantiate(config.schedule.scheduler)(optimizer), []
    for _ in range(config.epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # Epochs from 0. SWA: t = epoch / 126; 0.1 up to t = 0.5, at epoch 63; 0.1 (1 - 0.5 (t - 0.5) / 0.4) up to
        # t = 0.9, at 113.4; then 0.05, which is the code's swa_lr.
        ([PRERESNET, "swa"], {0: 0.1, 63: 0.1, 64: 0.0990079, 100: 0.0632937, 113: 0.0503968, 114: 0.05, 224: 0.05}),
        # t = epoch / 161: 0.1 up to 80.5, 0.05 from 144.9 on.
        ([WRN, "la_sgd"], {80: 0.1, 81: 0.0996118, 144: 0.0506988, 145: 0.05, 299: 0.05}),
        # t = epoch / 150: 0.1 up to 75, 0.1 (1 - 0.99 (t - 0.5) / 0.4), 0.001 from 135 on.
        ([PRERESNET, "sgd"], {75: 0.1, 76: 0.09835, 120: 0.02575, 135: 0.001, 149: 0.001}),
        ([WRN, "sgd"], {100: 0.1, 140: 0.0505, 180: 0.001, 199: 0.001}),
    ],
)
def test_the_rates_are_those_of_the_swa_code(given, expected):
    found = rates_of(configuration(f"task={given[0]}", f"optim={given[1]}"))
    assert {epoch: found[epoch] for epoch in expected} == pytest.approx(expected, rel=2e-6)  # written to six digits


def configurations(experiment, scale):
    """Return the configuration of each setting of an experiment."""
    points = [setting.point for setting in settings(experiment)]
    return [configuration(f"experiment={experiment}", f"scale={scale}", *point) for point in points]


@pytest.mark.parametrize(
    ("scale", "starts"), [("paper", (0, 9)), ("short", (0, 1)), ("proxy", (0, 1)), ("smoke", (0, 1))]
)
def test_figure_15_varies_where_the_average_starts_and_nothing_of_the_schedule(scale, starts):
    found = configurations("swa_start", scale)
    assert [(config.optim.name, config.average.start) for config in found] == [
        (optim, start) for optim in ("swa", "la_sgd") for start in starts
    ]
    for config in found:
        assert config.task.name == PRERESNET
        assert values_of(config)[:3] == BUDGETS[PRERESNET, "swa"][scale][:3]
        assert config.probe["_target_"].endswith("Unaveraged")


@pytest.mark.parametrize("scale", SCALES)
def test_figure_16_varies_what_swa_is_over_on_both_networks(scale):
    found = configurations("swa_inner_loop", scale)
    assert [(config.task.name, config.optim.name) for config in found] == [
        (task, optim) for task in (WRN, PRERESNET) for optim in ("swa", "la_sgd")
    ]
    for config in found:
        assert values_of(config) == BUDGETS[config.task.name, "swa"][scale]
        assert config.average.mean["_target_"] == "lookahead.StochasticWeightAverage"
        assert config.probe["_target_"].endswith("Unaveraged")


def test_the_experiments_of_d3_have_ten_settings_of_three_seeds_each():
    # 4 of Figure 15; 4 of Figure 16, whose averages start at other epochs than those of Figure 15; 2 baselines.
    found = [
        folder for experiment in EXPERIMENTS for setting in settings(experiment) for folder, _ in setting.folders()
    ]
    assert len(found) == len(set(found)) == 30


def test_the_folders_name_what_differs_from_the_recipe():
    names = [setting.name for experiment in EXPERIMENTS for setting in settings(experiment)]
    assert names == [
        "cifar100_preresnet110-swa,average.start=0,probe=unaveraged",
        "cifar100_preresnet110-swa,average.start=9,probe=unaveraged",
        "cifar100_preresnet110-la_sgd,average=swa,average.start=0,probe=unaveraged",
        "cifar100_preresnet110-la_sgd,average=swa,average.start=9,probe=unaveraged",
        "cifar100_wrn28_10-swa,probe=unaveraged",
        "cifar100_wrn28_10-la_sgd,average=swa,probe=unaveraged",
        "cifar100_preresnet110-swa,probe=unaveraged",
        "cifar100_preresnet110-la_sgd,average=swa,probe=unaveraged",
        "cifar100_wrn28_10-sgd",
        "cifar100_preresnet110-sgd",
    ]


@pytest.mark.parametrize("optim", ["polyak", "adamw", "la_adamw", "adam", "la_adam", "la_adam_adaptive", "nt_asgd"])
@pytest.mark.parametrize("task", [PRERESNET, WRN])
def test_what_d3_does_not_train_has_no_recipe_there_and_the_schedule_of_swa(task, optim):
    config = configuration(f"task={task}", f"optim={optim}")
    with pytest.raises(Exception, match=f"no recipe for optim={optim} on task={task}; give optim.lr="):
        run_name(config)
    assert values_of(config)[:3] == BUDGETS[task, "swa"]["paper"][:3]


@pytest.mark.parametrize(
    ("experiment", "number", "rates", "begins"),
    [
        ("swa_start", 3, [0.1, 0.1, 0.05, 0.05], 2),
        # until = 3: the third epoch is at 2 / 3, so 0.1 (1 - 0.5 (1 / 6) / 0.4).
        ("swa_inner_loop", 0, [0.1, 0.1, 0.1 * (1 - 0.5 / 2.4), 0.05, 0.05, 0.05], 4),
    ],
)
def test_a_run_records_the_average_from_its_start_on_and_the_weights_before_it(
    experiment, number, rates, begins, tmp_path
):
    point = settings(experiment, ["scale=smoke"])[number].point
    summary = run_in(tmp_path, f"experiment={experiment}", "scale=smoke", *point)
    assert (summary["evaluated"], summary["epochs"]) == ("averaged", len(rates))
    assert math.isfinite(summary["final"]["train/loss"])
    rows = history(tmp_path)
    assert "train/loss" not in rows[0]
    lines = (tmp_path / "unaveraged.csv").read_text().splitlines()[1:]
    same = [float(row["val/loss"]) == float(line.split(",")[2]) for row, line in zip(rows, lines, strict=True)]
    assert same == [epoch < begins for epoch in range(1, len(rates) + 1)]
    assert [float(row["lr"]) for row in rows] == pytest.approx(rates)
