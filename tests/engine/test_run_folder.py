"""A run's folder: which recorded values conflict with today's, and what config.yaml holds; nothing is composed here."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from experiments.engine import run_folder
from experiments.engine.errors import RunFolderError
from experiments.engine.records import DamagedRecord
from experiments.engine.run_folder import (
    check_folder,
    check_same_configuration,
    conflicts,
    conflicts_of,
    relative_folder,
    result_config,
    write_config,
)

TEXT = """
seed: 1
task: {name: digits, preset: {epochs: 3}, recipes: {sgd: {lr: 0.1}}}
optim: {name: sgd, lr: 0.1}
epochs: "${task.preset.epochs}"
scale_factor: 1
runtime: {device: cpu}
tracker: {mode: online}
hydra: {job: {name: "${nowhere}"}}
"""


def config(**changes):
    made = OmegaConf.create(TEXT)
    for path, value in changes.items():
        OmegaConf.update(made, path.replace("__", "."), value)
    return made


def test_the_folder_is_the_name_and_the_seed_below_it(monkeypatch):
    monkeypatch.setattr(run_folder, "run_name", lambda config: f"{config.task.name}-{config.optim.name}")
    assert relative_folder(config(seed=12)) == "digits-sgd/seed-12"


def test_what_decides_a_result_is_resolved_and_has_the_seed():
    expected = {"seed": 1, "task": {"name": "digits"}, "optim": {"name": "sgd", "lr": 0.1}, "epochs": 3}
    assert result_config(config()) == expected


@pytest.mark.parametrize(
    ("today", "recorded", "expected"),
    [
        ({"a.b": 1}, {"a": {"b": 1.0}}, []),
        ({"a.b": 1}, {"a": {"b": 2}}, ["a.b 2 there, 1 here"]),
        ({"a.b": None}, {"a": {"b": 2}}, ["a.b 2 there, null here"]),
        ({"a.b": 1}, {"a": {"b": None}}, ["a.b null there, 1 here"]),
        ({"a.b": 1, "c": 2}, {"a": {}}, []),  # a key that only one of them has
        ({"a": 1}, {"a": {"b": 1}}, []),  # it was a node
        ({"a._target_": "x.y.Sgd"}, {"a": {"_target_": "z.Sgd"}}, []),  # a class that was moved
        ({"a._target_": "x.Sgd"}, {"a": {"_target_": "x.Adam"}}, ["a._target_ x.Adam there, x.Sgd here"]),
        ({"a.name": "x.Sgd"}, {"a": {"name": "y.Sgd"}}, ["a.name y.Sgd there, x.Sgd here"]),
        ({"task.name": "digits"}, {}, ["task.name not there, digits here"]),
        ({"optim.name": "sgd"}, {"task": {"name": "digits"}}, ["optim.name not there, sgd here"]),
        ({"analysis.name": "x"}, {"task": {"name": "x"}}, ["analysis.name not there, x here"]),
        ({"task.name": None}, {"task": {"name": None}}, []),
        ({"b": 1, "a": 2}, {"a": 0, "b": 0}, ["b 0 there, 1 here", "a 0 there, 2 here"]),
    ],
)
def test_values_conflict_where_both_have_them_and_they_differ(today, recorded, expected):
    assert conflicts_of(today, recorded) == expected


@pytest.mark.parametrize(
    ("recorded", "today", "expected"),
    [
        ({"precision": {"autocast": "bf16", "tf32": False}}, {"precision": "bf16"}, []),
        ({"precision": {"autocast": None}}, {"precision": "fp32"}, []),
        ({"precision": {"autocast": None}}, {"precision": "bf16"}, ["precision fp32 there, bf16 here"]),
        ({"precision": "tf32"}, {"precision": "fp32"}, ["precision tf32 there, fp32 here"]),
        # "kept" was then what null is now, which the average decides; today both are choices.
        ({"precision": {}, "evaluation": {"batch_norm": "kept"}}, {"evaluation.batch_norm": None}, []),
        (
            {"precision": {}, "evaluation": {"batch_norm": "reestimated"}},
            {"evaluation.batch_norm": None},
            ["evaluation.batch_norm reestimated there, null here"],
        ),
        (
            {"precision": "fp32", "evaluation": {"batch_norm": "kept"}},
            {"evaluation.batch_norm": None},
            ["evaluation.batch_norm kept there, null here"],
        ),
        (
            {"precision": {}, "evaluation": {"batch_norm": "kept", "every": 1}},
            {"evaluation.every": 2},
            ["evaluation.every 1 there, 2 here"],
        ),
        ({"precision": {}, "evaluation": None}, {"evaluation.every": 2}, []),
    ],
)
def test_what_had_another_form_when_it_was_written_is_read_in_today_s(recorded, today, expected):
    before = OmegaConf.to_container(OmegaConf.create(recorded))
    assert conflicts_of(today, recorded) == expected
    assert recorded == before  # nothing of what was recorded is changed


SGD = "torch.optim.SGD"


@pytest.mark.parametrize(
    ("today", "recorded", "expected"),
    [
        # An argument that one side leaves out has its default there.
        ({"o._target_": SGD}, {"o": {"_target_": SGD, "nesterov": True}}, ["o.nesterov True there, False here"]),
        ({"o._target_": SGD}, {"o": {"_target_": SGD, "nesterov": False}}, []),
        ({"o._target_": SGD, "o.nesterov": True}, {"o": {"_target_": SGD}}, ["o.nesterov False there, True here"]),
        ({"o._target_": SGD, "o.dampening": 0.0}, {"o": {"_target_": SGD}}, []),
        ({"o._target_": SGD, "o.fused": True}, {"o": {"_target_": SGD}}, []),  # in `unsure`
        ({"o._target_": SGD}, {"o": {"_target_": SGD, "fused": True, "_partial_": True}}, []),
        ({"o._target_": SGD, "o.gone": 1}, {"o": {"_target_": SGD, "other": 2}}, []),  # of no argument of today's class
        ({"o._target_": SGD, "o.params": 1}, {"o": {"_target_": SGD}}, []),  # which has no default
        ({"o._target_": "no.where.Sgd", "o.nesterov": True}, {"o": {"_target_": "no.where.Sgd"}}, []),
        (
            {"o._target_": SGD, "o.nesterov": True},
            {"o": {"_target_": "x.Adam"}},
            [f"o._target_ x.Adam there, {SGD} here"],
        ),
        ({"o._target_": SGD, "o.nesterov": True}, {}, []),  # nothing is known of it
        # A node on one side alone, and null on the other.
        ({"average": None}, {"average": {"decay": 0.9}}, ["average a node there, null here"]),
        ({"average.decay": 0.9, "average.n": 1}, {"average": None}, ["average null there, a node here"]),
    ],
)
def test_what_one_side_leaves_out_counts_where_it_is_not_the_default(today, recorded, expected):
    assert conflicts_of(today, recorded, ("o.fused",)) == expected


def test_a_run_with_an_argument_of_its_own_is_not_taken_for_one_without(tmp_path):
    optimizer = {"_target_": SGD, "lr": "${optim.lr}", "fused": "${runtime.device}"}
    write_config(tmp_path, config(optim__optimizer=optimizer | {"nesterov": True}))
    check_folder(tmp_path, config(optim__optimizer=optimizer | {"nesterov": True}))
    with pytest.raises(RunFolderError, match=r"other values \(optim.optimizer.nesterov True there, False here\)"):
        check_folder(tmp_path, config(optim__optimizer=optimizer))


def test_the_seed_counts_and_how_a_run_is_carried_out_does_not():
    recorded = OmegaConf.to_container(config(seed=2, runtime__device="cuda"), resolve=False)
    recorded |= {"epochs": 3}
    assert conflicts(config(), recorded) == ["seed 2 there, 1 here"]


@pytest.mark.parametrize(("count", "end"), [(4, "x3 0 there, 1 here)"), (5, "x3 0 there, 1 here; ...)")])
def test_a_refusal_lists_up_to_four_values_and_says_where_they_lie(count, end, tmp_path):
    today = OmegaConf.create({"seed": 1, **{f"x{i}": 1 for i in range(count)}})
    recorded = {"seed": 1, **{f"x{i}": 0 for i in range(count)}}
    with pytest.raises(RunFolderError) as raised:
        check_same_configuration(today, recorded, tmp_path)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path} was recorded with other values (x0 0 there, 1 here; x1 0 there")
    assert f"{end}; choose another folder or those values" in message
    check_same_configuration(today, {**OmegaConf.to_container(today)}, tmp_path)


def test_config_yaml_is_written_once_resolved_and_without_hydra_and_presets(tmp_path):
    check_folder(tmp_path, config())  # nothing ran here
    write_config(tmp_path, config())
    path = tmp_path / "config.yaml"
    assert OmegaConf.to_container(OmegaConf.load(path), resolve=False) == {
        "seed": 1,
        "task": {"name": "digits"},
        "optim": {"name": "sgd", "lr": 0.1},
        "epochs": 3,
        "runtime": {"device": "cpu"},
        "tracker": {"mode": "online"},
    }
    text = path.read_text()
    write_config(tmp_path, config(runtime__device="cuda"))
    assert path.read_text() == text  # as the run began
    check_folder(tmp_path, config(runtime__device="cuda"))
    with pytest.raises(RunFolderError, match=rf"{path} was recorded with other values \(optim.lr 0.1 there, 0.2 here"):
        check_folder(tmp_path, config(optim__lr=0.2))
    path.write_text("seed: x\n")
    with pytest.raises(DamagedRecord, match=r"config\.yaml is damaged \(no seed\)"):
        check_folder(tmp_path, config())
