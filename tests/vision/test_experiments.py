"""The experiments of the paper's CIFAR part have the values that its figures and tables give or leave open."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from experiments.engine.experiment import settings
from tests.helpers.running import configuration


def composed_points(experiment):
    """Return the configurations of an experiment's settings at the paper's scale."""
    return [
        configuration(f"experiment={experiment}", *setting.point) for setting in settings(experiment, ["scale=paper"])
    ]


def test_lookahead_around_several_inner_optimizers_has_the_alpha_of_figure_8():
    for experiment in ("inner_rates", "inner_momenta"):
        for config in composed_points(experiment):
            assert config.optim.weight_decay == 1e-3
            if config.optim.name == "la_sgd":
                assert (config.optim.k, config.optim.alpha, config.optim.inner_state) == (5, 0.5, "reset")
    rates = {config.optim.name: config.optim.lr for config in composed_points("inner_momenta")}
    assert rates == {"sgd": 0.05, "la_sgd": 0.1}


def test_fixed_and_adaptive_alpha_are_compared_at_the_same_rates_and_decays():
    found = [
        (c.optim.name, c.optim.lr, c.optim.weight_decay, c.optim.get("k"))
        for c in composed_points("adaptive_alpha_cifar")
    ]
    pairs = [(1e-3, 0.3, 5), (3e-3, 0.1, 5)]
    alone = [("adamw", *pair[:2], None) for pair in pairs]
    around = [(name, *pair) for name in ("la_adamw", "la_adam_adaptive") for pair in pairs]
    assert sorted(found, key=str) == sorted([*alone, *around], key=str)
    (alpha,) = {c.optim.alpha for c in composed_points("adaptive_alpha_cifar") if c.optim.name == "la_adamw"}
    assert alpha == 0.5


def test_figure_10_watches_the_65th_epoch_and_ends_with_it():
    for config, (k, alpha) in zip(composed_points("inner_and_outer_loop"), [(5, 0.8), (10, 0.5)], strict=True):
        assert (config.optim.k, config.optim.alpha, config.optim.lr) == (k, alpha, 0.1)
        assert (config.probe.start, config.probe.updates, config.epochs) == (64, 60, 65)
        assert config.schedule.milestones == [60, 120, 160]


@pytest.mark.parametrize("scale", ["paper", "short", "proxy", "smoke"])
def test_figure_10_s_window_lies_in_the_run_and_behind_the_cut_of_the_rate_at_every_scale(scale):
    for setting in settings("inner_and_outer_loop", [f"scale={scale}"]):
        config = OmegaConf.create(setting.values)
        steps = -(-(config.task.dataset.get("train_subset") or 50_000) // config.batch_size)
        assert config.probe.start * steps + config.probe.updates <= config.epochs * steps
        assert config.epochs == config.probe.start + -(-config.probe.updates // steps)
        assert config.probe.start > config.schedule.milestones[0] or scale == "smoke"


def test_the_disputed_inner_optimizer_is_plain_sgd_in_table_1_s_setting():
    for config in composed_points("dispute_plain_inner_sgd"):
        assert (config.optim.momentum, config.optim.weight_decay) == (0, 0)
        assert (config.optim.lr, config.optim.k, config.optim.alpha) == (0.1, 5, 0.8)
