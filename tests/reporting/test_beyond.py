"""What is tried beyond the paper: trials, results beside the inner optimizer, and workers beside DDP."""

from __future__ import annotations

import json

import pytest

from experiments.engine.experiment import settings
from scripts.reporting import modules
from scripts.reporting.beyond import METHODS, TRIED
from scripts.reporting.searches import MEASURES
from scripts.reporting.tables import local_workers_on_data, outer_momentum_on_data, outer_momentum_trials
from tests.helpers.pages import rows_of, trained, trained_on_pairs, trained_on_text

LOOKAHEAD = {"k": 5, "alpha": 0.5}
HEADING = ["method", "learning rate", "k", "α", "μ"]
SNOO = {"k": 10, "alpha": 0.7, "outer_momentum": 0.9}


def on_cifar(optim, accuracy, seed=1, **values):
    return trained(optim, accuracy, seed, "cifar100", scale="proxy", epochs=40, **values)


def section(page, heading):
    return rows_of(str(page).partition(f"## {heading}")[2].partition("\n\n## ")[0].partition("\n\nMean")[0])


def test_the_best_trial_of_each_method_is_bold_and_a_record_without_outer_momentum_has_none_of_it():
    runs = [
        on_cifar("sgd", 18.0, lr=0.1),
        on_cifar("sgd", 19.0, lr=0.03),
        on_cifar("la_sgd", 17.0, lr=0.03, **LOOKAHEAD),
        on_cifar("la_sgd", 18.5, lr=0.03, k=30, alpha=0.8, outer_momentum=0.0),
        on_cifar("snoo_sgd", 20.0, lr=0.03, **SNOO),
    ]
    page = outer_momentum_trials.page(runs)
    assert section(page, "CIFAR-100: final validation accuracy (%), here, at proxy scale")[:6] == [
        [*HEADING, "accuracy", "seeds"],
        ["SGD", "0.03", "", "", "", "**19.00**", "1"],
        ["SGD", "0.1", "", "", "", "18.00", "1"],
        ["Lookahead (SGD)", "0.03", "5", "0.5", "0", "17.00", "1"],
        ["Lookahead (SGD)", "0.03", "30", "0.8", "0", "**18.50**", "1"],
        ["SNOO (SGD)", "0.03", "10", "0.7", "0.9", "20.00", "1"],  # of one there is no choice
    ]
    assert section(page, "Penn Treebank: best validation perplexity")[:2] == [["method"], ["not run yet"]]
    assert "one seed (1); one process on a machine." in str(page)


def test_a_rate_is_the_recipe_s_times_its_multiple():
    run = trained_on_pairs("adamw", task="multi30k", lr=0.12, multiplier=1.5, scale="proxy")
    run.summary["final"]["val/loss"] = 2.5
    assert section(outer_momentum_trials.page([run]), "Multi30k English-German: validation loss (nats)")[:2] == [
        [*HEADING, "loss", "seeds"],
        ["AdamW", "0.18", "", "", "", "2.500", "1"],
    ]


def test_results_stand_beside_the_inner_optimizer_s_with_welch_s_interval():
    runs = [on_cifar("sgd", accuracy, seed, lr=0.03) for seed, accuracy in ((1, 18.0), (2, 19.0), (3, 20.0))]
    runs += [on_cifar("snoo_sgd", value, seed, lr=0.03, **SNOO) for seed, value in ((1, 20.0), (2, 21.0), (3, 22.0))]
    runs += [on_cifar("adamw", 17.0, lr=0.01), on_cifar("la_adamw", 17.5, lr=0.01, **LOOKAHEAD)]
    # Deviations of 1 with three seeds each: a standard error of sqrt(2/3) = .816, 4 degrees of freedom, t = 2.776.
    assert section(outer_momentum_on_data.page(runs), "CIFAR-100")[:5] == [
        [*HEADING, "validation accuracy (%)", "difference in validation accuracy (%)", "seeds"],
        ["SGD", "0.03", "", "", "", "19.00 ± 1.00", "", "3"],
        ["SNOO (SGD)", "0.03", "10", "0.7", "0.9", "21.00 ± 1.00", "+2.00 [-0.27, +4.27]", "3"],
        ["AdamW", "0.01", "", "", "", "17.00", "", "1"],
        ["Lookahead (AdamW)", "0.01", "5", "0.5", "0", "17.50", "+0.50", "1"],
    ]


def test_what_diverged_or_was_not_measured_has_no_difference():
    runs = [on_cifar("sgd", 18.0, lr=0.03), on_cifar("la_sgd", 18.0, lr=0.03, **LOOKAHEAD)]
    runs += [on_cifar("snoo_sgd", 18.0, lr=0.03, **SNOO)]
    runs[1].summary.update(status="diverged", final={})
    del runs[2].summary["final"]["val/accuracy"]
    rows = section(outer_momentum_on_data.page(runs), "CIFAR-100")
    assert [row[5:7] for row in rows[1:4]] == [["18.00", ""], ["diverged", ""], ["not measured", ""]]


def of_two(optim, perplexity, local, **values):
    own = {"local": local} if optim != "sgd" else {}
    run = trained_on_text(optim, (2 * perplexity, perplexity), **own, **values)
    run.config.processes = 2
    return run


def test_workers_stand_beside_the_same_optimizer_and_k_with_summed_gradients():
    runs = [of_two("la_sgd", 61.0, True, k=30, alpha=0.8), of_two("la_sgd", 60.0, False, k=30, alpha=0.8)]
    runs += [of_two("la_sgd", 59.0, True, k=5, alpha=0.8), of_two("sgd", 62.0, False)]
    ddp, local = local_workers_on_data.WAYS.values()
    assert section(local_workers_on_data.page(runs), "Penn Treebank, here")[1:5] == [
        ["SGD", ddp, "30", "", "", "", "62.00", "", "60.00", "", "1"],
        ["Lookahead (SGD)", local, "30", "5", "0.8", "0", "59.00", "", "57.00", "", "1"],
        ["Lookahead (SGD)", ddp, "30", "30", "0.8", "0", "60.00", "", "58.00", "", "1"],
        ["Lookahead (SGD)", local, "30", "30", "0.8", "0", "61.00", "+1.00", "59.00", "+1.00", "1"],
    ]


@pytest.mark.parametrize("task", TRIED)
def test_each_method_is_tried_six_times_and_its_best_is_one_of_these(task):
    best = {setting.values["optim"]["name"]: setting for setting in settings(f"beyond_{task}", ["scale=proxy"])}
    methods = [optim for inner in TRIED[task] for optim in METHODS[inner]]
    assert list(best) == methods
    for optim in methods:
        trials = {setting.name: setting for setting in settings(f"beyond_{task}_{optim}", ["scale=proxy"])}
        assert len(trials) == 6
        assert best[optim].name in trials
        assert best[optim].seeds == (1, 2, 3)
        assert all(setting.seeds == (1,) for setting in trials.values())
        inner = best["sgd" if optim.endswith("sgd") else "adamw"].values
        for values in (setting.values for setting in trials.values() if optim not in METHODS):
            assert values["optim"]["lr"] == inner["optim"]["lr"]
            assert values["schedule"] == inner["schedule"]


@pytest.mark.parametrize("task", TRIED)
def test_what_is_run_with_more_seeds_is_the_best_of_the_recorded_trials(task):
    best = {setting.values["optim"]["name"]: setting.name for setting in settings(f"beyond_{task}", ["scale=proxy"])}
    metric = outer_momentum_trials.METRICS[task]
    for optim, chosen in best.items():
        paths = {
            setting.name: modules.RECORDS / setting.name / "seed-1" / "summary.json"
            for setting in settings(f"beyond_{task}_{optim}", ["scale=proxy"])
        }
        found = {name: json.loads(path.read_text())["final"][metric] for name, path in paths.items() if path.exists()}
        if len(found) == len(paths):
            assert chosen == MEASURES[metric].best(found, key=found.get), found
