"""A run's name says how it differs from its recipe: two settings never share one, and one setting never has two."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from experiments.engine.errors import RunFolderError
from experiments.engine.identity import LONGEST, run_name
from experiments.engine.leaves import leaves, same
from experiments.engine.run_folder import check_same_configuration, conflicts, result_config
from tests.helpers.running import configuration


def name(*overrides: str) -> str:
    return run_name(configuration(*overrides))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("", "cifar100-la_sgd"),
        ("optim.k=10 optim.alpha=0.5", "cifar100-la_sgd,alpha=0.5,k=10"),
        (
            "task=cifar10 optim.weight_decay=0 optim.momentum=0 scale=short",
            "cifar10-la_sgd,momentum=0,weight_decay=0@short",
        ),
        ("model=resnet8", "cifar100-la_sgd,model=resnet8"),
        ("average=swa optim=sgd", "cifar100-sgd,average=swa"),
        ("schedule=constant", "cifar100-la_sgd,schedule=constant"),
        ("schedule.delay=1 epochs=3", "cifar100-la_sgd,epochs=3,schedule.delay=1"),
        ("optim=la_adam_adaptive optim.alpha.power=0.5", "cifar100-la_adam_adaptive,alpha.power=0.5"),
        ("task.flip=false scale=proxy", "cifar100-la_sgd,task.flip=false@proxy"),
        ("scale=proxy model=resnet18", "cifar100-la_sgd,model=resnet18@proxy"),
        ("schedule.milestones=[3,7]", "cifar100-la_sgd,schedule.milestones=[3,7]"),
        ("+optim.optimizer.nesterov=true", "cifar100-la_sgd,optimizer.nesterov=true"),
        ("analysis=convergence", "convergence"),
        ("analysis=few_updates analysis.model.condition_number=10", "few_updates,analysis.model.condition_number=10"),
        ("quadratic@analysis.model=three_eigenvalues", "convergence,analysis.model=three_eigenvalues"),
    ],
)
def test_a_name_says_in_words_what_differs_from_the_recipe(overrides, expected):
    assert name(*overrides.split()) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("optim.lr=1", "optim.lr=1.0"),
        ("optim.k=5", ""),
        ("model=resnet18", ""),
        ("optim.lr=0.2", "task.recipes.la_sgd.lr=0.2"),
        ("epochs=5", "task.preset.epochs=5"),
        ("schedule.milestones=[1]", "task.preset.milestones=[1]"),
        ("scale_factor=0.5", "epochs=100 schedule.milestones=[30,60,80]"),
        ("optim.k=7", "optim.k=7 optim.lookahead.k=7"),
        ("optim=polyak +task.recipes.polyak.decay=0.9", "optim=polyak optim.average.decay=0.9"),
        ("seed=5 runtime.device=cuda runtime.threads=1 runtime.data_dir=/x tracker=none", "runtime.output_dir=/y"),
        ("runtime.read_loss_every=7", "runtime.checkpoint_every_steps=9"),
    ],
)
def test_one_setting_has_one_name_however_it_is_asked_for(one, other):
    assert name(*one.split()) == name(*other.split())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("optim.k=7", "optim.lookahead.k=7"),
        ("optim.k=7 optim.lookahead.k=5", "optim.k=7"),
        ("schedule=constant", "schedule.gamma=1"),
        ("optim.lr=true", "optim.lr=1"),
        ("optim.inner_state='1'", "optim.inner_state=1"),
        ("optim.inner_state=null", "optim.inner_state='null'"),
        ("task.preset.milestones=[1]", "schedule=multistep"),
        ("average=polyak", "average=polyak average.per=epoch"),
        ("schedule.milestones=[1,2]", "schedule.milestones=['1,2']"),
        ("optim.inner_state='a,k=10'", "optim.inner_state=a optim.k=10"),
    ],
)
def test_different_settings_have_different_names(one, other):
    assert name(*one.split()) != name(*other.split())


VALUES = {
    "optim.k": ["5", "7", "10"],
    "optim.alpha": ["0.8", "0.5", "1", "1.0"],
    "optim.lookahead.k": ["5", "7"],
    "optim.inner_state": ["reset", "maintain"],
    "optim.lr": ["0.1", "1e-1", "0.2"],
    "model": ["resnet18", "resnet8"],
    "average": ["polyak", "swa"],
    "schedule": ["multistep", "constant"],
    "epochs": ["200", "100"],
    "scale_factor": ["1", "0.5"],
    "task.preset.epochs": ["200", "100"],
    "scale": ["paper", "short", "proxy"],
    "task.num_classes": ["100", "10"],
    "evaluation.every_epochs": ["1", "2"],
    "task.recipes.la_sgd.k": ["5", "7"],
}
OVERRIDES = st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in VALUES.items()})


@settings(max_examples=25, deadline=None)
@given(OVERRIDES, OVERRIDES)
@pytest.mark.slow
def test_names_are_equal_exactly_where_the_settings_are(one, other):
    pair = [configuration(*(f"{key}={value}" for key, value in chosen.items())) for chosen in (one, other)]
    values = [{path: leaf.value for path, leaf in leaves(config).items()} for config in pair]
    assert (run_name(pair[0]) == run_name(pair[1])) == same(*values)


def test_a_name_too_long_ends_in_a_digest_of_the_whole():
    long = "schedule.milestones=[" + ",".join(str(n) for n in range(1, 90)) + "{}]"
    names = [name(long.format(end), "scale=short") for end in (",90", ",91")]
    assert names[0] != names[1]
    assert all(len(found) == LONGEST + len("@short") and found.endswith("@short") for found in names)


def recorded(*overrides: str, **changes):
    """Return the configuration of a record, with the values at some paths changed (dots are two underscores)."""
    values = result_config(configuration(*overrides))
    for path, value in changes.items():
        *parents, key = path.split("__")
        node = values
        for parent in parents:
            node = node[parent]
        node[key] = value
    return values


def test_values_that_a_record_used_and_today_s_recipe_does_not_are_named(tmp_path):
    before = recorded("optim=sgd", optim__lr=0.2)
    with pytest.raises(RunFolderError, match=r"with other values \(optim.lr 0.2 there, 0.05 here\)"):
        check_same_configuration(configuration("optim=sgd"), before, tmp_path)


def test_another_seed_and_another_model_are_other_values():
    assert conflicts(configuration("seed=2"), recorded()) == ["seed 1 there, 2 here"]
    before = recorded(model___target_="experiments.vision.resnet.resnet8")
    assert conflicts(configuration(), before) == [
        "model._target_ experiments.vision.resnet.resnet8 there, experiments.vision.resnet.resnet18 here"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"schedule__scheduler___target_": "experiments.engine.schedules.multistep"},  # a class was moved
        {"optim__momentum": 0.90},
        {"optim__lr": 0.05 * 1},
        {"runtime": {"device": "elsewhere", "data_dir": "/moved"}},
        {"unknown": "to today's code"},
        {"epochs": 200.0},
    ],
)
def test_what_does_not_change_the_result_is_no_conflict(change):
    assert conflicts(configuration("optim=sgd"), recorded("optim=sgd", **change)) == []


def test_a_key_that_was_added_with_a_default_is_no_conflict():
    before = recorded("optim=sgd")
    del before["evaluation"]["batch_norm"], before["schedule"]["delay"]
    assert conflicts(configuration("optim=sgd"), before) == []
