"""What is composed once and copied is what hydra composes, and what is kept never shows."""

from __future__ import annotations

import shutil

import pytest
import yaml
from hydra import compose
from hydra.errors import HydraException
from omegaconf import OmegaConf

from experiments.engine import composition, parse_trees, yaml_texts
from experiments.engine.composition import bare, composed, hydra_ready
from experiments.engine.leaves import plain


def by_hydra(root, overrides):
    with hydra_ready():
        return compose(root, overrides=overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        "",
        "optim.k=7",
        "optim.k=7 optim=la_adamw",  # hydra chooses first and then sets, whatever their order
        "optim.k=7 optim.k=9 optim.alpha=0.25",
        "task=digits scale=smoke optim=la_adamw schedule=constant seed=3",
        "+foo.bar=1 foo.bar=2 ++optim.k=3 ++optim.new=x",
        "~schedule.scheduler +schedule.scheduler={_target_:a.B,x:1}",
        "~schedule.delay=0 ~average",
        "model={_target_:a.B,width:3}",
        "task.preset.milestones=[1,2,3]",
        "optim.lr=1e-3 optim.inner_state='a,b' optim.alpha=null epochs='${batch_size}'",
        "hydra.job.name=x optim.k=7",
        "experiment=demo optim.k=7",
        "runtime.output_dir=/a/b optim.lr=${oc.env:HOME}",
    ],
)
def test_a_configuration_is_the_one_that_hydra_composes(overrides):
    for _ in range(2):  # made, and taken from what was kept
        ours = composed("train", overrides.split())
        theirs = by_hydra("train", overrides.split())
        assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)
        assert OmegaConf.is_struct(ours) == OmegaConf.is_struct(theirs)
        assert list(ours) == list(theirs)


@pytest.mark.parametrize(
    "overrides",
    [
        "optim.kk=1",
        "optim=la_sdg",
        "optim.k",
        "+optim.k=1",
        "~optim.kk",
        "optim.k=1,2",
        "task@x=digits",
        "a@b=1",
        "k=[",
    ],
)
def test_a_mistake_is_hydra_s_in_its_words(overrides):
    with pytest.raises(HydraException) as theirs:
        by_hydra("train", overrides.split())
    with pytest.raises(HydraException) as ours:
        composed("train", overrides.split())
    assert (type(ours.value), str(ours.value)) == (type(theirs.value), str(theirs.value))


def test_what_is_done_to_a_configuration_does_not_show_in_the_next_one():
    first = composed("train", ["optim.k=7"])
    first.optim.k, first.task.recipes.la_sgd.lr, first.schedule.milestones = 8, 9, [1]
    first.schedule.milestones.append(2)
    for _ in range(2):
        assert composed("train", ["optim.k=7"]) == by_hydra("train", ["optim.k=7"])


def test_values_alone_compose_nothing_anew(monkeypatch):
    composed("train", ["task=digits", "optim.k=7"])
    monkeypatch.setattr(composition, "compose", lambda *_, **__: pytest.fail("composed again"))
    assert composed("train", ["task=digits", "optim.k=9"]).optim.k == 9
    assert composed("train", ["optim.k=9", "task=digits"]).task.name == "digits"


def test_a_file_that_changes_changes_what_is_composed(tmp_path, monkeypatch):
    shutil.copytree(composition.CONFIGS, tmp_path / "configs")
    monkeypatch.setattr(composition, "CONFIGS", tmp_path / "configs")
    sgd = tmp_path / "configs" / "optim" / "sgd.yaml"
    assert composed("train", ["optim=sgd"]).get("a_new_key") is None
    sgd.write_text(sgd.read_text() + "\na_new_key: 1\n")
    assert composed("train", ["optim=sgd"]).optim.a_new_key == 1
    (tmp_path / "configs" / "optim" / "new.yaml").write_text("name: new\n")
    assert composed("train", ["optim=new"]).optim.name == "new"


def test_configurations_of_another_folder_are_found_there(tmp_path):
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("name: mine\n")
    (tmp_path / "mine").mkdir()  # a group that our folder has not
    (tmp_path / "mine" / "one.yaml").write_text("value: 1\n")
    found = composed("train", [f"hydra.searchpath=[{tmp_path}]", "optim=mine", "+mine=one"])
    assert (found.optim.name, found.mine.value) == ("mine", 1)


def test_a_text_is_parsed_once_and_means_what_it_meant():
    texts = ["${a}", "${b.c}x${a}", "${oc.select:d,${a}}", r"\${a}", "${oc.decode:'[1, ${a}]'}", "${b[c]}"]
    config = OmegaConf.create({"a": 1, "b": {"c": "two"}, "texts": texts})
    expected = [1, "twox1", 1, "${a}", [1, 1], "two"]
    assert OmegaConf.to_container(config.texts, resolve=True) == expected
    misses = parse_trees.kept.cache_info().misses
    assert OmegaConf.to_container(config.texts, resolve=True) == expected
    config.a = 3  # trees are kept, not values
    assert OmegaConf.to_container(config.texts, resolve=True) == [3, "twox3", 3, "${a}", [1, 3], "two"]
    assert parse_trees.kept.cache_info().misses <= misses + 1  # what oc.decode reads is a text made just now


@pytest.mark.parametrize("text", ["", "a: 1\nb: [1, {c: '${a}'}]\nd: ???\n", "1e-3: null\ne: 1e-3", "words alone"])
def test_a_text_of_yaml_is_read_once_and_holds_what_it_held(text, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    for _ in range(2):
        with path.open() as file:
            found = yaml_texts.load(file)
        assert OmegaConf.to_container(found) == OmegaConf.to_container(OmegaConf.load(path))
        found.e = [1]  # of what is kept nothing changes
    with path.open() as file:
        misses = yaml_texts.content.cache_info().misses
        yaml_texts.load(file)
        assert yaml_texts.content.cache_info().misses == misses


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2", "3"])
def test_a_mistake_in_yaml_is_said_as_omegaconf_says_it(text, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises((yaml.YAMLError, OSError)) as expected:
        OmegaConf.load(path)
    with path.open() as file, pytest.raises(type(expected.value)) as caught:
        yaml_texts.load(file)
    assert str(caught.value) == str(expected.value)
    assert text == "3" or str(path) in str(caught.value)


def test_hydra_reads_no_text_of_yaml_twice():
    by_hydra("train", ["optim=sgd"])
    misses = yaml_texts.content.cache_info().misses
    by_hydra("train", ["optim=sgd"])
    assert yaml_texts.content.cache_info().misses == misses
    assert yaml_texts.content.cache_info().hits > 10


def test_a_bare_configuration_is_kept():
    assert bare("train", ("optim=sgd",)) is bare("train", ("optim=sgd",))
    assert plain(bare("train", ("optim=sgd",))) == plain(composed("train", ["optim=sgd"]))
