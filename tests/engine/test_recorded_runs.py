"""Each recorded run is found by composing an experiment of today, with its values; and a change that counts shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.engine import composition, experiment
from experiments.engine.composition import CONFIGS, experiments
from experiments.engine.experiment import PRECISIONS, SCALES, settings
from experiments.engine.run_folder import conflicts_of

RECORDS = CONFIGS.parent / "results" / "runs"
DEMO, FIGURE_3 = "demo", "fig03_noisy_quadratic"


def conflicts_by_folder(name: str, overrides: tuple[str, ...] = (), precision: str = "fp32") -> dict[str, list[str]]:
    """Return, for each recorded run of a setting that an experiment names, of any seed, what of it is not as today."""
    found = {}
    for setting in settings(name, overrides):
        setting = setting.at(precision)
        for path in (RECORDS / setting.name).glob("seed-*/config.yaml"):
            recorded = OmegaConf.to_container(OmegaConf.load(path))
            compared = setting.compared | {"seed": int(path.parent.name.removeprefix("seed-"))}
            found[f"{setting.name}/{path.parent.name}"] = conflicts_of(compared, recorded, setting.unsure)
    return found


@pytest.mark.slow
def test_every_recorded_run_is_found_where_an_experiment_names_it_with_the_values_of_today():
    missing = {str(path.parent.relative_to(RECORDS)) for path in RECORDS.rglob("config.yaml")}
    assert missing
    found: dict[str, list[str]] = {}
    for scale in SCALES:  # all of them only where a record is at the last one, or nowhere
        for name in experiments() if missing else ():
            for precision in PRECISIONS:
                found |= conflicts_by_folder(name, (f"scale={scale}",), precision)
        missing -= found.keys()
    assert missing == set(), "no experiment asks for these records"
    assert {folder: different for folder, different in found.items() if different} == {}


@pytest.fixture
def configs(tmp_path, monkeypatch) -> Path:
    """A copy of configs/ to be edited, from which everything is composed until the test ends, without a cache."""
    copy = tmp_path / "configs"
    shutil.copytree(CONFIGS, copy)
    monkeypatch.setattr(composition, "CONFIGS", copy)
    monkeypatch.setattr(experiment, "CACHE", tmp_path / "not there" / "cache")
    return copy


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


@pytest.mark.parametrize(
    ("name", "file", "before", "after", "shown"),
    [
        (DEMO, "task/digits.yaml", "  sgd: {lr: 0.1,", "  sgd: {lr: 0.2,", "optim.lr 0.1 there, 0.2 here"),
        (DEMO, "task/digits.yaml", "epochs: 30", "epochs: 31", "epochs 30 there, 31 here"),
        (DEMO, "task/digits.yaml", "padding: 1", "padding: 2", "task.padding 1 there, 2 here"),
        (DEMO, "model/small_conv.yaml", "SmallConv", "LargeConv", "model._target_ experiments.vision.small_conv.Small"),
        (FIGURE_3, "analysis/convergence.yaml", "k: 5", "k: 6", "analysis.k 5 there, 6 here"),
        # A key that today's have alone counts where it is not the default.
        (
            DEMO,
            "optim/sgd.yaml",
            "  lr: ${..lr}",
            "  lr: ${..lr}\n  maximize: true",
            "optim.optimizer.maximize False th",
        ),
    ],
)
def test_a_changed_value_that_a_record_used_is_named(name, file, before, after, shown, configs):
    edit(configs / file, before, after)
    found = conflicts_by_folder(name)
    assert len(found) == (6 if name == DEMO else 1)  # under the same names
    different = found["digits-sgd/seed-1" if name == DEMO else "convergence/seed-1"]
    assert any(line.startswith(shown) for line in different)
    if "sgd" in before:  # the line of one optimizer is no other's
        assert found["digits-la_sgd/seed-1"] == []


@pytest.mark.parametrize(
    ("name", "file", "before", "after"),
    [
        (DEMO, "task/digits.yaml", "adamw: {lr: 3e-3, weight_decay: 0.1}", "adamw: {lr: 1e-3, weight_decay: 0.2}"),
        (DEMO, "task/digits.yaml", "padding: 1", "padding: 1\nshear: 0"),
        (DEMO, "optim/sgd.yaml", "  lr: ${..lr}", "  lr: ${..lr}\n  dampening: 0"),
        (DEMO, "train.yaml", "keep: $", "patience: null\nkeep: $"),
        (DEMO, "model/small_conv.yaml", "experiments.vision.small_conv.SmallConv", "experiments.networks.SmallConv"),
        (DEMO, "train.yaml", "data_dir: data", "data_dir: /elsewhere"),
        (FIGURE_3, "analysis/convergence.yaml", "k: 5", "k: 5\ntolerance: null"),
    ],
)
def test_a_change_that_no_record_used_leaves_every_record_found(name, file, before, after, configs):
    edit(configs / file, before, after)
    found = conflicts_by_folder(name)
    assert len(found) == (6 if name == DEMO else 1)
    assert set(map(tuple, found.values())) == {()}
