"""The settings of an experiment, spelled out from a product written here, and kept for as long as nothing changes."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from experiments.engine import configuration, experiment
from experiments.engine.experiment import Setting, settings

BASE = """
seed: 5
task: {name: digits, preset: {epochs: 3}}
optim: {name: sgd, lr: 0.1}
epochs: 3
scale: paper
precision: fp32
runtime: {device: cpu}
tracker: {mode: online}
"""


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Sources and a cache of their own, and a product `params`; what is composed is listed in `composed`."""
    code = tmp_path / "experiments" / "engine"
    code.mkdir(parents=True)
    names = (
        "composition",
        "configuration",
        "experiment",
        "identity",
        "leaves",
        "parse_trees",
        "resolvers",
        "yaml_texts",
    )
    for name in names:
        (code / f"{name}.py").write_text("code")
    (tmp_path / "configs" / "optim").mkdir(parents=True)
    (tmp_path / "configs" / "optim" / "sgd.yaml").write_text("lr: 0.1")
    monkeypatch.setattr(experiment, "__file__", str(code / "experiment.py"))
    monkeypatch.setattr(experiment, "CONFIGS", tmp_path / "configs")
    monkeypatch.setattr(experiment, "CACHE", tmp_path / ".cache")
    world = OmegaConf.create({"params": {}, "composed": [], "root": str(tmp_path)})

    def composed(root, overrides, with_hydra=False):
        world.composed.append([root, *overrides])
        made = OmegaConf.create(BASE)
        for override in overrides:
            key, _, value = override.partition("=")
            if key == "optim":
                made.optim.name = value
            elif key != "experiment":
                OmegaConf.update(made, key, OmegaConf.create(f"x: {value}").x)
        if with_hydra:
            made.hydra = {"sweeper": {"params": world.params}}
        return made

    monkeypatch.setattr(experiment, "composed", composed)
    monkeypatch.setattr(configuration, "check", lambda config: None)  # which knows real configurations
    monkeypatch.setattr(experiment, "root_of", lambda name: "train")
    monkeypatch.setattr(experiment, "run_name", lambda config, path: f"{config.optim.name},lr={config.optim.lr:g}")
    return world


def names(*overrides):
    return [setting.name for setting in settings("x", overrides)]


def test_a_product_is_spelled_out_in_its_order_with_all_its_seeds(world):
    world.params = {"optim": "sgd,adam", "optim.lr": "0.1,0.2", "seed": "range(1,4)"}
    found = settings("x")
    assert [setting.name for setting in found] == ["sgd,lr=0.1", "sgd,lr=0.2", "adam,lr=0.1", "adam,lr=0.2"]
    assert {setting.seeds for setting in found} == {(1, 2, 3)}
    assert found[1].point == ("optim=sgd", "optim.lr=0.2")
    assert world.composed[0] == ["train", "experiment=x"]
    assert world.composed[2] == ["train", "experiment=x", "optim=sgd", "optim.lr=0.2"]
    expected = {"task": {"name": "digits"}, "optim": {"name": "sgd", "lr": 0.2}, "epochs": 3, "scale": "paper"}
    assert found[1].values == {"seed": 5, **expected, "precision": "fp32"}
    compared = {"task.name": "digits", "optim.name": "sgd", "optim.lr": 0.2, "epochs": 3}
    assert found[1].compared == {**compared, "scale": "paper", "precision": "fp32"}


def test_without_a_product_there_is_one_setting_with_the_configuration_s_seed(world):
    world.params = None
    (setting,) = settings("x", ["optim.lr=0.3"])
    assert (setting.name, setting.point, setting.seeds) == ("sgd,lr=0.3", (), (5,))
    assert world.composed == [["train", "experiment=x", "optim.lr=0.3"]] * 2


def test_values_on_the_command_line_take_the_place_of_the_experiment_s_own(world):
    world.params = {"optim.lr": "0.1,0.2", "seed": "1,2"}
    assert names("optim.lr=0.5") == ["sgd,lr=0.5"]
    assert settings("x", ["optim.lr=0.5", "epochs=1,2"])[0].point == ("optim.lr=0.5", "epochs=1")
    assert world.composed[-1] == ["train", "experiment=x", "optim.lr=0.5", "epochs=2"]
    assert [setting.seeds for setting in settings("x", ["seed=7,7,8"])] == [(7, 8)] * 2
    assert settings("x", ["epochs=9"])[0].point == ("optim.lr=0.1",)
    assert world.composed[-1] == ["train", "experiment=x", "optim.lr=0.2", "epochs=9"]


def test_a_sweep_that_the_experiment_does_not_have_is_left_out_of_the_whole(world):
    assert names("optim.lr=0.1,0.4") == ["sgd,lr=0.1", "sgd,lr=0.4"]
    assert world.composed[0] == ["train", "experiment=x"]  # no single configuration has two values


def test_points_of_one_name_are_one_setting(world):
    world.params = {"optim.lr": "0.1,0.10,0.2", "seed": "1,2"}
    found = settings("x")
    assert [(setting.name, setting.point, setting.seeds) for setting in found] == [
        ("sgd,lr=0.1", ("optim.lr=0.1",), (1, 2)),
        ("sgd,lr=0.2", ("optim.lr=0.2",), (1, 2)),
    ]


def composes(world, *overrides, of="x"):
    before = len(world.composed)
    settings(of, overrides)
    return len(world.composed) > before


def test_what_was_composed_is_kept_until_a_source_changes(world, tmp_path):
    world.params = {"optim.lr": "0.1,0.2"}
    first = settings("x")
    assert not composes(world)
    assert settings("x") == first  # with tuples where json has lists
    assert [type(setting.seeds) for setting in settings("x")] == [tuple, tuple]
    assert composes(world, "epochs=1")
    assert composes(world, of="y")
    assert not composes(world)
    assert len(list((tmp_path / ".cache").iterdir())) == 3
    for changed in ("configs/optim/sgd.yaml", "experiments/engine/identity.py", "experiments/engine/resolvers.py"):
        (tmp_path / changed).write_text("changed")
        assert composes(world)
        assert not composes(world)
        assert len(list((tmp_path / ".cache").iterdir())) == 1  # those of other sources are gone
    (tmp_path / "configs" / "optim" / "sgd.yaml").rename(tmp_path / "configs" / "optim" / "adam.yaml")
    assert composes(world)
    assert not composes(world)


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"name": "x"}]', "7"])
def test_what_is_kept_and_cannot_be_read_is_composed_again(world, tmp_path, content):
    first = settings("x")
    (path,) = (tmp_path / ".cache").iterdir()
    path.write_text(content)
    assert settings("x") == first
    assert json.loads(path.read_text())[0]["name"] == "sgd,lr=0.1"


def test_where_nothing_can_be_kept_all_the_same_is_found(world, tmp_path):
    (tmp_path / ".cache").write_text("a file")
    assert names() == names() == ["sgd,lr=0.1"]


def test_a_setting_in_another_precision_and_its_folders():
    setting = Setting("a", ("optim=a",), (3, 1), {"precision": "fp32", "x": 1}, {"precision": "fp32", "y": 2})
    assert setting.at("fp32") is setting
    other = setting.at("bf16")
    assert (other.name, other.values, other.compared) == (
        "a@bf16",
        {"precision": "bf16", "x": 1},
        {"precision": "bf16", "y": 2},
    )
    assert (other.point, other.seeds) == (setting.point, setting.seeds)
    assert Setting("a@short", (), (), {}, {}).at("tf32").name == "a@short,tf32"
    assert list(other.folders()) == [("a@bf16/seed-3", 3), ("a@bf16/seed-1", 1)]
