"""An analysis keeps the house of a run: its folder, its records, its claims judged again with other values."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_info

from experiments.engine import analysis, lock, records
from experiments.engine.composition import root_of
from experiments.engine.errors import ConfigurationError
from experiments.engine.overrides import check_arguments
from experiments.engine.run_folder import relative_folder
from experiments.quadratic.convergence import Convergence
from tests.helpers.running import configuration, run_in

SMALL = ["analysis=convergence", "scale=smoke"]
VARIED = "sensitivity={analysis.k: [2, 5], analysis.model.condition_number: [10]}"


def claims(folder):
    return pd.read_csv(folder / "claims.csv", float_precision="round_trip")


def test_an_analysis_writes_its_records_and_is_then_left_as_it_is(tmp_path):
    summary = run_in(tmp_path, *SMALL, "runtime.commit=abc")
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.yaml",
        "claims.csv",
        "alphas.csv",
        "curves.npz",
        "summary.json",
    }
    there = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert (there["schema"], there["status"], there["analysis"], there["commit"]) == (
        records.SCHEMA,
        "done",
        "convergence",
        "abc",
    )
    assert {"device", "versions", "wall_s", "seed", "scale"} <= there.keys()
    row = claims(tmp_path).iloc[0]
    assert there["final"]["the same risk sooner/holds"] == row["holds"]
    assert summary["final"]["the same risk sooner/margin_max"] == row["margin_max"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert run_in(tmp_path, *SMALL)["commit"] == "abc"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_the_same_analysis_gives_the_same_bytes(tmp_path):
    for name in "ab":
        run_in(tmp_path / name, *SMALL)
    for name in ("claims.csv", "alphas.csv", "curves.npz", "config.yaml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_sensitivity_judges_what_a_run_of_its_own_with_that_value_finds(tmp_path):
    run_in(tmp_path / "all", *SMALL, VARIED)
    found = claims(tmp_path / "all")
    changed = found[found["changed"].notna()].set_index("changed")
    assert list(changed.index) == ["analysis.k=2", "analysis.k=5", "analysis.model.condition_number=10"]
    run_in(tmp_path / "one", *SMALL, "analysis.k=2")
    alone = claims(tmp_path / "one").iloc[0].drop("changed")
    pd.testing.assert_series_equal(changed.loc["analysis.k=2"], alone, check_names=False, check_dtype=False)
    drawn = found[found["changed"].isna()].iloc[0].drop("changed")
    pd.testing.assert_series_equal(changed.loc["analysis.k=5"], drawn, check_names=False, check_dtype=False)
    assert changed.loc["analysis.model.condition_number=10", "margin_max"] != drawn["margin_max"]


def test_an_analysis_that_judges_nothing_has_an_empty_table_of_claims(tmp_path):
    run_in(tmp_path, "analysis=fixed_alpha", "scale=smoke", "analysis.alphas.start=1", "analysis.alphas.stop=1")
    assert (tmp_path / "claims.csv").read_text() == "changed,claim\n"


def test_a_bad_value_of_sensitivity_is_found_before_any_work(tmp_path):
    for given, message in (
        ("sensitivity={analysis.k: [0]}", "k must be an integer of at least 1, not 0"),
        ("sensitivity={analysis.kk: [1]}", "analysis.kk is no value of this analysis; did you mean analysis.k?"),
        ("sensitivity={analysis.k.num: [1]}", "analysis.k.num is no value of this analysis"),
        ("sensitivity={seed: [1]}", "seed is no value of this analysis"),
        ("sensitivity={1: [2]}", "1 is no value of this analysis"),
        ("sensitivity={analysis.name: [x]}", "analysis.name is no value of this analysis"),
        ("sensitivity=[1]", r"sensitivity=\[1\] is not possible; give null or keys with lists of values"),
        ("sensitivity=abc", "sensitivity=abc is not possible"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            run_in(tmp_path, *SMALL, given)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_follows_from_the_configuration_and_the_seed_has_its_own_level():
    assert relative_folder(configuration("analysis=optimizer_runs", "seed=2")) == "optimizer_runs/seed-2"
    assert relative_folder(configuration("analysis=optimizer_runs", "runtime.threads=2")) == "optimizer_runs/seed-1"
    assert relative_folder(configuration("analysis=optimizer_runs", "analysis.rate=0.5")) == (
        "optimizer_runs,analysis.rate=0.5/seed-1"
    )


def test_an_analysis_has_no_other_seed_than_the_run(tmp_path):
    with pytest.raises(ConfigurationError, match=r"analysis.seed=7 is not possible; give seed=7"):
        run_in(tmp_path, "analysis=optimizer_runs", "scale=smoke", "analysis.seed=7")


def test_the_seed_is_that_of_the_samples(tmp_path):
    tables = []
    for seed in (1, 2):
        run_in(tmp_path / str(seed), "analysis=optimizer_runs", "scale=smoke", f"seed={seed}")
        tables.append(pd.read_csv(tmp_path / str(seed) / "moments.csv"))
    assert np.all(tables[0]["expected_mean"] == tables[1]["expected_mean"])
    assert np.all(tables[0]["mean"] != tables[1]["mean"])


def test_the_tracker_is_told_what_was_found(tmp_path, monkeypatch):
    from experiments.engine.tracker import NoTracker

    told = []
    monkeypatch.setattr(NoTracker, "finish", lambda self, summary: told.append(summary))
    run_in(tmp_path, *SMALL)
    assert [summary["status"] for summary in told] == ["done"]
    assert all(math.isfinite(value) for value in told[0]["final"].values())


def test_while_it_computes_the_folder_is_locked_and_threads_are_as_asked(tmp_path, monkeypatch):
    seen = []
    compute = Convergence.findings

    def findings(self):
        seen.append((lock.holder(tmp_path)["pid"], {pool["num_threads"] for pool in threadpool_info()}))
        return compute(self)

    monkeypatch.setattr(Convergence, "findings", findings)
    before = torch.get_num_threads()
    try:
        run_in(tmp_path, *SMALL, "runtime.threads=2")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [(os.getpid(), {2})]  # the tests themselves have one
    assert lock.holder(tmp_path) is None


def test_what_another_process_finished_in_the_meantime_is_left_as_it_is(tmp_path, monkeypatch):
    build, calls = analysis.build, []

    def slow(config):
        calls.append(config)
        if len(calls) == 1:
            run_in(tmp_path, *SMALL, "runtime.commit=theirs")
        return build(config)

    monkeypatch.setattr(analysis, "build", slow)
    assert run_in(tmp_path, *SMALL, "runtime.commit=ours")["commit"] == "theirs"
    assert len(calls) == 2


def test_an_experiment_says_by_its_analysis_that_nothing_is_trained():
    assert root_of("fig03_noisy_quadratic") == "analyze"
    assert root_of("demo") == root_of("") == root_of("no such") == "train"


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "experiment=fig03_noisy_quadratic,fig12_finite_horizon"],
        ["-m", "experiment=glob(fig*)"],
        ["experiment=glob(*,exclude=[demo,adaptive*,table*])", "--multirun"],
        ["experiment=choice(demo,fig12_finite_horizon)"],
        ["experiment='fig03_noisy_quadratic'"],
    ],
)
def test_training_says_which_program_computes_an_experiment(arguments):
    if "demo" not in arguments[0]:
        check_arguments("analyze", arguments)
    line = r"experiment=fig\w+ is computed, not trained: python analyze.py experiment=fig\w+"
    with pytest.raises(ConfigurationError, match=line):
        check_arguments("train", arguments)


def test_an_analysis_says_which_program_trains_an_experiment():
    check_arguments("train", ["experiment=choice(demo,table1_cifar)"])
    with pytest.raises(
        ConfigurationError, match=r"experiment=demo is trained, not computed: python train.py experiment=demo"
    ):
        check_arguments("analyze", ["experiment=demo,fig03_noisy_quadratic"])


@pytest.mark.parametrize(
    ("root", "argument", "line"),
    [
        ("analyze", "optim=la_sgd", "optim=... is not for analyze.py, but for train.py; choose one of analysis"),
        (
            "train",
            "analysis=convergence",
            "analysis=... is not for train.py, but for analyze.py; choose one of",
        ),
        ("train", "quadratic@analysis.model=eigenvalues", "quadratic=... is not for train.py, but for analyze.py"),
        ("train", "task_scale=cifar10_proxy", None),
        ("train", "analysis=conv(", None),
    ],
)
def test_a_group_of_the_other_program_is_refused(root, argument, line):
    if line is None:
        check_arguments(root, [argument])
        return
    with pytest.raises(ConfigurationError, match=line.replace("...", r"\.\.\.")):
        check_arguments(root, [argument])
