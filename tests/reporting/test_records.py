"""Runs are found by what a figure declares, checked when they are read, and never counted twice."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from omegaconf import OmegaConf

from scripts.reporting import records
from scripts.reporting.draws import Draws
from scripts.reporting.records import load
from tests.helpers.recorded import a_run, write_run


def names(runs):
    return [run.folder.parent.name for run in runs]


@pytest.fixture
def root(tmp_path):
    for task in ("cifar10", "cifar100"):
        for optim, lr in (("sgd", 0.05), ("la_sgd", 0.1)):
            run = a_run(task__name=task, optim__name=optim, optim__lr=lr)
            write_run(tmp_path, "table1_cifar", f"{task}-{optim}", run)
    return tmp_path


def test_a_figure_draws_what_its_filters_name(root):
    assert names(load((Draws("table1_cifar", task="cifar100"),), root)) == ["cifar100-la_sgd", "cifar100-sgd"]
    assert names(load((Draws("table1_cifar", task="cifar10", optim="sgd"),), root)) == ["cifar10-sgd"]
    rates = Draws("table1_cifar", where={"optim.lr": [0.05, 0.3], "task.name": "cifar100"})
    assert names(load((rates,), root)) == ["cifar100-sgd"]
    assert len(load((Draws("table1_cifar", optim=("sgd", "la_sgd")),), root)) == 4
    both = (Draws("table1_cifar", optim="sgd"), Draws("table1_cifar", task="cifar10"))
    assert names(load(both, root)) == ["cifar10-sgd", "cifar100-sgd", "cifar10-la_sgd"]  # none of them twice


def test_what_no_run_has_is_no_match(root):
    assert not Draws("x", where={"optim.alpha.low": 0.5}).accepts(OmegaConf.create({"optim": {"alpha": 0.8}}))
    with pytest.raises(FileNotFoundError, match=r"no finished run of table1_cifar below .*experiment=table1_cifar"):
        load((Draws("table1_cifar", task="digits"),), root)


def test_runs_started_alone_belong_to_table_1_only(tmp_path):
    write_run(tmp_path, "single", "cifar100-sgd", a_run(task__name="cifar100"))
    assert names(load((Draws("table1_cifar"),), tmp_path)) == ["cifar100-sgd"]
    with pytest.raises(FileNotFoundError):
        load((Draws("demo"),), tmp_path)


@pytest.mark.parametrize(("source", "copy"), [("seed-1", "seed-1 (copy)"), ("", "cifar10-sgd (copy)")])
def test_a_pair_of_setting_and_seed_that_comes_twice_is_refused_with_both_folders(root, source, copy):
    folder = root / "table1_cifar" / "cifar10-sgd"
    target = folder / copy if source else folder.with_name(copy)
    shutil.copytree(folder / source, target)
    with pytest.raises(ValueError, match="the same setting with the same seed 1") as error:
        load((Draws("table1_cifar"),), root)
    assert str(folder) in str(error.value)
    assert str(target) in str(error.value)


def test_equal_numbers_and_what_does_not_count_are_one_setting_and_seeds_are_apart():
    first = a_run(optim__lr=1, runtime__device="cpu", optim__fused=True)
    for same in (
        a_run(optim__lr=1.0, runtime__device="cuda", optim__fused=True),
        a_run(2, optim__lr=1, optim__fused=True),
    ):
        assert records.setting(first.config) == records.setting(same.config)
    for other in (a_run(optim__lr=1.5, optim__fused=True), a_run(optim__lr=1, optim__fused=False)):
        assert records.setting(first.config) != records.setting(other.config)
    records.refuse_twice([a_run(1), a_run(2), a_run(1, optim__lr=0.1)])
    analysis = [OmegaConf.create({"seed": seed, "analysis": {"name": "a", "seed": seed}}) for seed in (1, 2)]
    assert records.setting(analysis[0]) == records.setting(analysis[1])
    one, same, other = (OmegaConf.create({"a": values}) for values in ([1, 2], [1.0, 2.0], [1, 3]))
    assert records.setting(one) == records.setting(same) != records.setting(other)
    assert records.setting(OmegaConf.create({"a": 1, "b": 2})) == records.setting(OmegaConf.create({"b": 2, "a": 1}))


def test_one_scale_and_precision_are_drawn_the_largest_and_fp32_first(capsys):
    runs = [a_run(scale=scale, precision=p) for scale in ("proxy", "short", "paper") for p in ("bf16", "fp32")]
    (kept,) = records.of_one_scale(runs)
    assert (kept.summary["scale"], kept.config.precision) == ("paper", "fp32")
    assert "only the 1 runs at scale paper, precision fp32 are drawn; 5 others are left out" in capsys.readouterr().out
    (kept,) = records.of_one_scale(runs[:2])
    assert (kept.summary["scale"], kept.config.precision) == ("proxy", "fp32")
    capsys.readouterr()
    assert len(records.of_one_scale([a_run(1), a_run(2)])) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("bf16", "bf16"), ({"autocast": None}, "fp32"), ({"autocast": "bf16"}, "bf16"), (None, "fp32")],
)
def test_the_precision_is_one_key_or_was_autocast(precision, expected):
    assert records.precision_of(a_run(precision=precision).config) == expected
    assert records.precision_of(OmegaConf.create({"analysis": {"name": "a"}})) is None


def cut(text):
    return text[:-3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "its last train/loss is"),
        (lambda text: text.replace("2,10,", "2,9,"), "its last step is 9"),
        (lambda text: text.rsplit("2,10", 1)[0], "its last epoch is 1"),
        (lambda text: text.splitlines()[0] + "\n", "no row"),
        (lambda text: text.replace("1.25", ""), "its last train/loss is nan"),
    ],
)
def test_a_history_that_does_not_end_as_the_summary_says_is_refused(change, message, tmp_path):
    history = {"epoch": [1, 2], "step": [5, 10], "train/loss": [2.0, 1.25]}
    folder = write_run(tmp_path, "demo", "digits-sgd", a_run(history=history))
    assert len(load((Draws("demo"),), tmp_path)) == 1
    path = folder / "history.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=r"history.csv is damaged") as error:
        load((Draws("demo"),), tmp_path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_final_value_that_was_not_finite_agrees_with_its_row():
    run = a_run(history={"epoch": [1], "step": [5], "val/loss": [np.inf]})
    summary = {**run.summary, "final": {"val/loss": None, "test/loss": 1.0}}
    records.check_history(run.history, summary)
    with pytest.raises(ValueError, match=r"its last val/loss is inf, summary.json says 1"):
        records.check_history(run.history, {**summary, "final": {"val/loss": 1.0}})
    with pytest.raises(ValueError, match=r"its last train/loss is 1.0, summary.json says None"):
        records.check_history(a_run().history, {**a_run().summary, "final": {"train/loss": None}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged (Expecting value"),
        ("[]", "is damaged (no schema)"),
        ('{"schema": 1}', "is damaged (no status)"),
    ],
)
def test_a_summary_that_is_empty_or_older_is_named_in_one_line(text, message, tmp_path):
    folder = write_run(tmp_path, "demo", "digits-sgd", a_run())
    (folder / "summary.json").write_text(text)
    with pytest.raises(ValueError, match="run or collect it again") as error:
        load((Draws("demo"),), tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_another_schema_is_refused_and_a_missing_history_named(tmp_path):
    folder = write_run(tmp_path, "demo", "digits-sgd", a_run())
    path = folder / "summary.json"
    text = path.read_text()
    path.write_text(json.dumps({**json.loads(text), "schema": 99}))
    with pytest.raises(ValueError, match="has schema 99, this code reads"):
        load((Draws("demo"),), tmp_path)
    path.write_text(text)
    (folder / "history.csv").unlink()
    with pytest.raises(ValueError, match=r"history.csv is missing: run or collect it again"):
        load((Draws("demo"),), tmp_path)


def test_a_diverged_run_is_left_out_and_named(tmp_path, capsys):
    write_run(tmp_path, "demo", "digits-sgd", a_run(1))
    diverged = a_run(2)
    diverged.summary.update(status="diverged", reason="the loss is nan")
    folder = write_run(tmp_path, "demo", "digits-sgd", diverged)
    assert len(load((Draws("demo"),), tmp_path)) == 1
    assert f"note: {folder} is left out, it diverged: the loss is nan" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "end"), [(4, "x3 1.0 there, 2.0 here"), (5, "x3 1.0 there, 2.0 here; ...")])
def test_what_two_runs_differ_in_is_listed_up_to_four_values(count, end):
    one, two = (a_run(folder=name, **{f"x{i}": value for i in range(count)}) for name, value in (("a", 1), ("b", 2)))
    found = records.difference(one, two)
    assert found.startswith("a is there, b here: x0 1.0 there, 2.0 here; x1 ")
    assert found.endswith(end)
