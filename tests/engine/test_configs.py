"""Every configuration composes, and every task, optimizer and experiment runs; the pins agree."""

from __future__ import annotations

import ast
import copy
import math
import re
import sys
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.engine.composition import CONFIGS, experiments, root_of
from experiments.engine.configuration import check
from experiments.engine.errors import one_line
from experiments.engine.experiment import SCALES, settings
from experiments.engine.identity import run_name
from experiments.engine.records import read_summary
from scripts import figures, tables
from scripts.reporting import modules
from tests.helpers.forked_processes import runs_of_two
from tests.helpers.running import configuration, run_in

ROOT = CONFIGS.parent


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@pytest.mark.parametrize("optim", choices("optim"))
@pytest.mark.parametrize("task", choices("task"))
def test_every_optimizer_composes_on_every_task_at_every_scale(task, optim):
    for scale in choices("scale"):
        given = ["optim.lr=0.1", "optim.weight_decay=0"]  # a task need not have a recipe for every optimizer
        config = configuration(f"task={task}", f"optim={optim}", f"scale={scale}", *given)
        check(config)
        assert config.task.name == task
        assert config.optim.name == optim
        assert config.scale == scale


@pytest.mark.parametrize(
    ("group", "choice"), [(str(c.parent.relative_to(CONFIGS)), c.stem) for c in sorted(CONFIGS.rglob("*/*.yaml"))]
)
def test_every_file_says_what_it_is_and_its_targets_exist(group, choice):
    text = (CONFIGS / group / f"{choice}.yaml").read_text()
    comments = [line for line in text.splitlines() if line.startswith("#") and "@package" not in line]
    assert comments, "no comment says what this file is"
    for target in re.findall(r"_target_: ([\w.]+)", text):
        assert callable(get_object(target))


@pytest.mark.parametrize("optim", choices("optim"))
def test_a_configuration_can_be_printed_with_all_its_values(optim):
    without_recipe = ["optim.lr=0.1"] if optim not in configuration("task=cifar100").task.recipes else []
    config = copy.deepcopy(configuration("task=cifar100", f"optim={optim}", "schedule=swa", *without_recipe))
    OmegaConf.resolve(config)
    assert config.evaluation.splits == ["train", "val"]
    assert config.schedule.scheduler.until == 200
    assert "${" not in OmegaConf.to_yaml(config)


@pytest.mark.parametrize("task", choices("task"))
def test_every_task_runs_at_smoke_scale_without_files(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipes = configuration(f"task={task}").task.recipes
    optim = "la_sgd" if "la_sgd" in recipes else next(iter(recipes))
    summary = run_in(tmp_path / "run", f"task={task}", "scale=smoke", f"optim={optim}")
    assert summary["status"] == "done"
    assert math.isfinite(summary["final"]["val/loss"])


@pytest.mark.parametrize("optim", choices("optim"))
def test_every_optimizer_learns_the_digits_at_smoke_scale(optim, tmp_path):
    rates = {"sgd": 0.05, "polyak": 0.05, "swa": 0.05, "nt_asgd": 0.05, "la_sgd": 0.05}
    summary = run_in(
        tmp_path,
        "task=digits",
        "scale=smoke",
        f"optim={optim}",
        "epochs=12",
        "schedule.milestones=[]",
        f"optim.lr={rates.get(optim, 0.01)}",
    )
    assert summary["final"]["val/accuracy"] > 60  # chance is 10


@pytest.mark.parametrize("experiment", experiments())
@pytest.mark.slow
def test_every_experiment_has_as_many_runs_at_each_scale_and_the_first_at_smoke_scale_is_drawn(experiment, tmp_path):
    scales = ["paper", "smoke"] if root_of(experiment) == "analyze" else SCALES
    runs = {scale: settings(experiment, [f"scale={scale}"]) for scale in scales}
    assert len({len(found) for found in runs.values()}) == 1
    names = [setting.name for found in runs.values() for setting in found]
    assert len(set(names)) == len(names)
    first = runs["smoke"][0]
    folder = tmp_path / "runs" / first.name / "seed-1"
    overrides = [f"experiment={experiment}", "scale=smoke", "seed=1", *first.point]
    if first.values.get("processes") == 2:
        runs_of_two(folder.parent, {folder.name: {"overrides": overrides}})
    else:
        run_in(folder, *overrides)
    assert read_summary(folder)["status"] == "done"
    if root_of(experiment) == "analyze":  # whose figures want all of its runs
        return
    out = tmp_path / "out"
    for kind, program in (("figures", figures), ("tables", tables)):
        for name in modules.names(kind):
            module = modules.module(kind, name)
            wanted = any(draws.experiment == experiment and draws.accepts(first.values) for draws in module.DRAWS)
            if wanted and not hasattr(module, "DOCUMENT"):
                arguments = [name, "scale=smoke", "--runs", str(tmp_path / "runs"), "--out", str(out)]
                assert program.main(arguments) == 0, name
                assert any(path.stem.endswith("@smoke") for path in out.iterdir())


def test_the_paper_s_values_are_those_of_appendix_c1():
    for task in ("cifar10", "cifar100"):
        values = {
            name: configuration(f"task={task}", f"optim={name}").optim
            for name in ("sgd", "adamw", "polyak", "la_sgd", "la_adamw")
        }
        assert (values["sgd"].lr, values["sgd"].weight_decay, values["sgd"].momentum) == (0.05, 1e-3, 0.9)
        assert (values["adamw"].lr, values["adamw"].weight_decay) == (3e-4, 1)
        assert (values["polyak"].lr, values["polyak"].weight_decay) == (0.3, 1e-3)
        la = values["la_sgd"]
        assert (la.lr, la.weight_decay, la.momentum, la.k, la.alpha, la.inner_state) == (
            0.1,
            1e-3,
            0.9,
            5,
            0.8,
            "reset",
        )
        la = values["la_adamw"]
        assert (la.lr, la.weight_decay, la.k, la.alpha, la.inner_state) == (3e-4, 1, 5, 0.5, "maintain")
        config = configuration(f"task={task}")
        assert (config.epochs, config.batch_size, config.schedule.milestones, config.schedule.gamma) == (
            200,
            128,
            [60, 120, 160],
            0.2,
        )
        assert (config.task.padding, config.task.flip, config.scale) == (4, True, "paper")


def test_a_choice_on_the_command_line_wins_over_the_scale():
    assert configuration("task=cifar100", "scale=proxy").model["_target_"].endswith("ResNet")
    chosen = configuration("task=cifar100", "scale=proxy", "model=resnet18").model
    assert chosen == configuration("task=cifar100").model
    assert chosen["_target_"].endswith("resnet18")
    assert configuration("task=cifar100", "scale=proxy", "epochs=3").epochs == 3


def models(domain: str) -> list[str]:
    texts = {choice: (CONFIGS / "model" / f"{choice}.yaml").read_text() for choice in choices("model")}
    return [choice for choice, text in texts.items() if f"_target_: experiments.{domain}." in text]


OWN_MODEL = {
    ("task=cifar100",): "vision",
    ("task=cifar100", "scale=proxy"): "vision",
    ("task=digits",): "vision",
    ("task=imagenet",): "vision",
    ("task=ptb",): "language_modeling",
    ("task=ptb", "scale=smoke"): "language_modeling",
    ("task=wmt14",): "translation",
    ("task=multi30k",): "translation",
}


@pytest.mark.parametrize(
    ("own", "chosen"), [(own, each) for own, domain in OWN_MODEL.items() for each in models(domain)]
)
def test_a_model_in_the_place_of_a_task_s_own_gets_nothing_of_it(own, chosen):
    model = configuration(*own, f"model={chosen}").model
    own_keys = OmegaConf.load(CONFIGS / "model" / f"{chosen}.yaml").keys()
    assert model.keys() == own_keys


def test_requirements_and_environment_hold_the_same_pins():
    def pins(text: str) -> list[str]:
        return re.findall(r"^[\s-]*([\w.-]+==[\w.]+)$", text, flags=re.MULTILINE)

    requirements = pins((ROOT / "requirements.txt").read_text())
    assert len(requirements) >= 15
    assert requirements == pins((ROOT / "environment.yml").read_text())


def test_what_is_installed_is_what_is_pinned_in_the_projects_environment():
    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("not the environment of `make setup`")
    from importlib.metadata import version

    for pin in re.findall(r"^([\w.-]+)==([\w.]+)$", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE):
        assert version(pin[0]).partition("+")[0] == pin[1]


def test_lookahead_imports_nothing_but_torch_and_the_standard_library():
    for path in (ROOT / "lookahead").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] in {"torch", "lookahead"} | sys.stdlib_module_names, (
                    f"{path.name}: {name}"
                )


def test_a_scale_multiplies_epochs_milestones_and_starts_by_its_factor_whatever_was_preset():
    short = configuration("task=cifar100", "scale=short")
    assert (short.epochs, list(short.schedule.milestones)) == (30, [9, 18, 24])
    assert short.model["_target_"].endswith("resnet18")
    assert configuration("task=cifar10", "optim=swa", "scale=short").average.start == 24
    proxy = configuration("task=cifar100", "scale=proxy")
    assert (proxy.epochs, list(proxy.schedule.milestones)) == (40, [12, 24, 32])
    assert configuration("task=cifar100", "scale=proxy", "task.preset.epochs=400").epochs == 80
    assert configuration("task=digits", "scale=smoke").epochs == 2
    assert configuration("task=digits").schedule.milestones == [18, 24]


def test_an_optimizer_without_a_line_in_the_recipes_asks_for_its_values():
    config = configuration("task=digits", "optim=adamw", "~task.recipes.adamw")
    with pytest.raises(OmegaConfBaseException) as error:
        run_name(config)
    assert one_line(error.value) == (
        "no recipe for optim=adamw on task=digits; give optim.lr=..., or an optimizer that has one: sgd, la_sgd, "
        "polyak, la_adamw, la_adam_adaptive, adam, la_adam, swa, nt_asgd, snoo_sgd, snoo_adamw"
    )
    given = ["optim.lr=1", "optim.weight_decay=0"]
    assert run_name(configuration("task=digits", "optim=adamw", "~task.recipes.adamw", *given)) == (
        "digits-adamw,lr=1,weight_decay=0"
    )


def test_a_line_that_lacks_a_value_is_said_with_the_key():
    config = configuration("task=digits", "optim=adamw", "~task.recipes.adamw.weight_decay")
    with pytest.raises(OmegaConfBaseException, match="no weight_decay in the recipe for optim=adamw on task=digits"):
        run_name(config)
