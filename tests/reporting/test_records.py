"""Runs are found by what a figure declares, checked when they are read, and never counted twice."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from omegaconf import OmegaConf

from experiments.engine.experiment import settings
from experiments.engine.identity import run_name
from experiments.engine.records import check_history
from scripts.reporting import loading, records
from scripts.reporting.draws import Draws
from scripts.reporting.records import ended_well, file_name
from tests.helpers.recorded import a_run, load, setting_of, write_record
from tests.helpers.running import configuration

TABLE1 = "table1_cifar"


def names(runs):
    return [run.folder.parent.name for run in runs]


@pytest.fixture
def root(tmp_path):
    for task in ("cifar10", "cifar100"):
        for optim in ("sgd", "la_sgd"):
            write_record(tmp_path, setting_of(TABLE1, task=task, optim=optim))
    return tmp_path


def test_a_figure_draws_what_its_filters_name(root):
    assert names(load((Draws(TABLE1, task="cifar100"),), root)) == ["cifar100-la_sgd", "cifar100-sgd"]
    assert names(load((Draws(TABLE1, task="cifar10", optim="sgd"),), root)) == ["cifar10-sgd"]
    rates = Draws(TABLE1, where={"optim.lr": [0.05, 0.3], "task.name": "cifar100"})
    assert names(load((rates,), root)) == ["cifar100-sgd"]
    assert len(load((Draws(TABLE1, optim=("sgd", "la_sgd")),), root)) == 4
    both = (Draws(TABLE1, optim="sgd"), Draws(TABLE1, task="cifar10"))
    assert names(load(both, root)) == ["cifar100-sgd", "cifar10-sgd", "cifar10-la_sgd"]  # none of them twice


def test_what_no_run_has_is_no_match(root):
    assert not Draws("x", where={"optim.alpha.low": 0.5}).accepts(OmegaConf.create({"optim": {"alpha": 0.8}}))
    with pytest.raises(FileNotFoundError, match=r"no finished run of table1_cifar below .*experiment=table1_cifar"):
        load((Draws(TABLE1, task="digits"),), root)


def test_a_run_belongs_to_each_experiment_that_asks_for_it_and_to_no_other(tmp_path):
    alone = configuration("task=digits", "optim=sgd", "seed=2")  # as it is started without any experiment
    assert run_name(alone) == write_record(tmp_path, setting_of("demo", optim="sgd"), seed=2).parent.name
    assert names(load((Draws("demo"),), tmp_path)) == ["digits-sgd"]
    for other in ("adaptive_alpha", TABLE1):
        with pytest.raises(FileNotFoundError):
            load((Draws(other),), tmp_path)


def test_one_s_own_values_are_drawn_where_they_are_asked_for(tmp_path):
    write_record(tmp_path, setting_of("demo", "optim.momentum=0.5", optim="sgd"))
    with pytest.raises(FileNotFoundError):
        load((Draws("demo"),), tmp_path)
    (run,) = load((Draws("demo"),), tmp_path, ["optim.momentum=0.5"])
    assert (run.folder.parent.name, run.config.optim.momentum) == ("digits-sgd,momentum=0.5", 0.5)


def test_of_several_folders_the_first_that_has_a_run_counts(tmp_path):
    sgd, lookahead = (setting_of("demo", optim=optim) for optim in ("sgd", "la_sgd"))
    first, second = tmp_path / "first", tmp_path / "second"
    wanted = [write_record(first, sgd), write_record(second, lookahead), write_record(second, sgd, seed=2)]
    write_record(second, sgd)
    found = load((Draws("demo"),), [first, tmp_path / "not there", second])
    assert sorted(run.folder for run in found) == sorted(wanted)


def test_a_copy_beside_a_run_is_refused_with_both_folders(root):
    folder = root / "cifar10-sgd" / "seed-1"
    copy = folder.with_name("seed-1 (copy)")
    shutil.copytree(folder, copy)
    with pytest.raises(ValueError, match="the same setting with the same seed 1") as error:
        load((Draws(TABLE1),), root)
    assert f"{folder} and {copy} are" in str(error.value)
    shutil.rmtree(folder)  # a copy alone is no run
    assert "cifar10-sgd" not in names(load((Draws(TABLE1),), root))


def test_a_seed_copied_as_another_one_is_refused_with_the_value_in_which_it_differs(root):
    folder = root / "cifar10-sgd" / "seed-1"
    shutil.copytree(folder, folder.with_name("seed-2"))
    with pytest.raises(ValueError, match=r"seed-2 was recorded with other values \(seed 1 there, 2 here\)"):
        load((Draws(TABLE1),), root)


def test_a_setting_copied_as_another_one_or_under_any_name_never_counts_twice(root):
    folder = root / "cifar10-sgd"
    shutil.copytree(folder, root / "cifar10-sgd (copy)")
    assert len(load((Draws(TABLE1),), root)) == 4
    shutil.copytree(folder, root / "cifar10-polyak")
    with pytest.raises(ValueError, match=r"polyak/seed-1 was recorded with other values \(.*optim.name sgd there"):
        load((Draws(TABLE1),), root)


def test_a_record_of_a_recipe_that_has_changed_is_refused_with_both_values(root):
    path = root / "cifar10-sgd" / "seed-1" / "config.yaml"
    config = OmegaConf.load(path)
    config.optim.lr = config.optim.optimizer.lr = 0.3
    OmegaConf.save(config, path)
    with pytest.raises(ValueError, match=r"was recorded with other values \(optim.lr 0.3 there, 0.05 here"):
        load((Draws(TABLE1),), root)


def test_equal_numbers_and_what_does_not_count_are_one_setting_and_seeds_are_apart():
    first = a_run(optim__lr=1, runtime__device="cpu", optim__fused=True)
    for same in (
        a_run(optim__lr=1.0, runtime__device="cuda", optim__fused=True),
        a_run(2, optim__lr=1, optim__fused=True),
    ):
        assert records.setting(first.config) == records.setting(same.config)
    for other in (a_run(optim__lr=1.5, optim__fused=True), a_run(optim__lr=1, optim__fused=False)):
        assert records.setting(first.config) != records.setting(other.config)
    analysis = [OmegaConf.create({"seed": seed, "analysis": {"name": "a", "seed": seed}}) for seed in (1, 2)]
    assert records.setting(analysis[0]) == records.setting(analysis[1])
    one, same, other = (OmegaConf.create({"a": values}) for values in ([1, 2], [1.0, 2.0], [1, 3]))
    assert records.setting(one) == records.setting(same) != records.setting(other)
    assert records.setting(OmegaConf.create({"a": 1, "b": 2})) == records.setting(OmegaConf.create({"b": 2, "a": 1}))


def write_demo(root, scale, precision, seeds=(1, 2, 3)):
    for setting in settings("demo", [f"scale={scale}"]):
        for seed in seeds:
            write_record(root, setting.at(precision), seed)


def drawn(root, *overrides):
    runs = load((Draws("demo"),), root, overrides)
    return len(runs), *{(run.summary["scale"], run.config.precision) for run in runs}


def test_one_scale_and_precision_are_drawn_the_largest_scale_and_what_is_complete_there_first(tmp_path, capsys):
    write_demo(tmp_path, "proxy", "bf16")
    assert drawn(tmp_path) == (6, ("proxy", "bf16"))
    assert capsys.readouterr().out == ""
    write_demo(tmp_path, "proxy", "fp32", seeds=(1, 2))  # the first precision, but not complete
    assert drawn(tmp_path) == (6, ("proxy", "bf16"))
    shown = capsys.readouterr().out
    assert "note: the 6 of 6 runs at scale proxy, precision bf16 are drawn alone; there are others at " in shown
    assert "scale proxy, precision fp32" in shown
    write_demo(tmp_path, "proxy", "fp32", seeds=(3,))
    assert drawn(tmp_path) == (6, ("proxy", "fp32"))
    write_demo(tmp_path, "paper", "bf16", seeds=(1,))
    assert drawn(tmp_path) == (2, ("paper", "bf16"))


@pytest.mark.parametrize(("hardware", "found"), [("cuda", ("short", "bf16")), ("cpu", ("proxy", "fp32"))])
def test_hardware_chooses_the_precision_that_it_sets_and_names_no_other_run(hardware, found, tmp_path):
    for scale, precision in (("short", "bf16"), ("proxy", "fp32"), ("proxy", "bf16")):
        write_demo(tmp_path, scale, precision)
    assert drawn(tmp_path, f"hardware={hardware}") == (6, found)
    with pytest.raises(FileNotFoundError, match=r"status\.py --commands demo hardware=cuda scale=paper prints how"):
        load((Draws("demo"),), tmp_path, ["hardware=cuda", "scale=paper"], "demo")


def test_where_no_scale_is_complete_the_largest_is_drawn_and_one_may_be_asked_for(tmp_path, capsys):
    for scale, precision in (("proxy", "fp32"), ("short", "bf16"), ("short", "tf32")):
        write_demo(tmp_path, scale, precision, seeds=(1,))
    assert drawn(tmp_path) == (2, ("short", "tf32"))
    assert "note: the 2 of 6 runs at scale short, precision tf32" in capsys.readouterr().out
    assert drawn(tmp_path, "scale=proxy") == (2, ("proxy", "fp32"))
    assert drawn(tmp_path, "precision=bf16") == (2, ("short", "bf16"))
    assert drawn(tmp_path, "precision=bf16", "scale=short") == (2, ("short", "bf16"))
    with pytest.raises(FileNotFoundError):
        load((Draws("demo"),), tmp_path, ["scale=paper"])


def test_each_scale_and_precision_is_loaded_by_itself_and_has_a_file_of_its_own(tmp_path, capsys):
    write_demo(tmp_path, "proxy", "fp32")
    write_demo(tmp_path, "short", "bf16", seeds=(2,))
    write_demo(tmp_path, "paper", "fp32", seeds=(1, 3))
    draws = (Draws("demo"),)
    found = loading.recorded(draws, tmp_path)
    assert [len(one.runs) for one in found] == [4, 2, 6]
    assert [file_name("demo", one.runs) for one in found] == ["demo", "demo@short,bf16", "demo@proxy"]
    for one, scale in zip(found, ("paper", "short", "proxy"), strict=True):
        assert {run.summary["scale"] for run in one.runs} == {scale}
        one.say_what_is_missing(draws, "demo")
    notes = capsys.readouterr().out.splitlines()
    assert [note.partition(" runs are missing")[0] for note in notes] == ["note: 2 of 6", "note: 4 of 6"]
    assert "--commands demo scale=short precision=bf16 prints" in notes[1]
    assert len(loading.recorded(draws, tmp_path, ["scale=proxy"])) == 1
    with pytest.raises(FileNotFoundError, match="no finished run of demo below"):
        load(draws, tmp_path, ["precision=tf32"])


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
        (cut, "its last row has train/loss"),
        (lambda text: text.replace("2,10,", "2,9,"), "its last row has step 9"),
        (lambda text: text.rsplit("2,10", 1)[0], "its last row has epoch 1"),
        (lambda text: text.splitlines()[0] + "\n", "no rows"),
        (lambda text: text.replace("1.25", ""), "its last row has train/loss nan"),
    ],
)
def test_a_history_that_does_not_end_as_the_summary_says_is_refused(change, message, tmp_path):
    history = {"epoch": [1, 2], "step": [5, 10], "train/loss": [2.0, 1.25]}
    folder = write_record(tmp_path, setting_of("demo", optim="sgd"), history=history)
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
    check_history(run.history, summary)
    with pytest.raises(ValueError, match=r"its last row has val/loss inf, summary.json has 1"):
        check_history(run.history, {**summary, "final": {"val/loss": 1.0}})
    with pytest.raises(ValueError, match=r"its last row has train/loss 1.0, summary.json has None"):
        check_history(a_run().history, {**a_run().summary, "final": {"train/loss": None}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged (Expecting value"),
        ("[]", "is damaged (no schema)"),
        ('{"schema": 1}', "is damaged (no status)"),
    ],
)
def test_a_summary_that_is_empty_or_older_is_named_in_one_line(text, message, tmp_path):
    folder = write_record(tmp_path, setting_of("demo", optim="sgd"))
    (folder / "summary.json").write_text(text)
    with pytest.raises(ValueError, match="run or collect it again") as error:
        load((Draws("demo"),), tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_another_schema_is_refused_and_a_missing_history_named(tmp_path):
    folder = write_record(tmp_path, setting_of("demo", optim="sgd"))
    path = folder / "summary.json"
    text = path.read_text()
    path.write_text(json.dumps({**json.loads(text), "schema": 99}))
    with pytest.raises(ValueError, match="has schema 99, not 1 and 2"):
        load((Draws("demo"),), tmp_path)
    path.write_text(text)
    (folder / "history.csv").unlink()
    with pytest.raises(ValueError, match=r"history.csv is missing; run or collect it again"):
        load((Draws("demo"),), tmp_path)


def test_a_diverged_run_is_finished_and_named_and_comes_last(tmp_path, capsys):
    folders = {}
    for number, setting in enumerate(settings("demo")):
        for seed in setting.seeds:
            status = {"status": "diverged", "reason": "the loss is nan"} if (number, seed) == (0, 2) else {}
            folders[number, seed] = write_record(tmp_path, setting, seed, **status)
    (folders[0, 2] / "history.csv").unlink()  # it diverged before the first evaluation
    runs = load((Draws("demo"),), tmp_path)
    assert [run.diverged for run in runs] == [False] * 5 + [True]
    assert runs[-1].folder == folders[0, 2]
    assert capsys.readouterr().out == f"note: {folders[0, 2]} diverged: the loss is nan\n"
    assert ended_well(runs) == runs[:-1]
    with pytest.raises(ValueError, match=r"all of its runs diverged: .*seed-2"):
        ended_well(runs[-1:])


def test_a_run_of_another_end_is_left_out_and_named(tmp_path, capsys):
    sgd = setting_of("demo", optim="sgd")
    write_record(tmp_path, sgd)
    folder = write_record(tmp_path, sgd, 2, status="stopped", reason="by hand")
    assert len(load((Draws("demo"),), tmp_path)) == 1
    assert f"note: {folder} is left out, it stopped: by hand" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "end"), [(4, "x3 1.0 there, 2.0 here"), (5, "x3 1.0 there, 2.0 here; ...")])
def test_what_two_runs_differ_in_is_listed_up_to_four_values(count, end):
    one, two = (a_run(folder=name, **{f"x{i}": value for i in range(count)}) for name, value in (("a", 1), ("b", 2)))
    found = records.difference(one, two)
    assert found.startswith("a is there, b here: x0 1.0 there, 2.0 here; x1 ")
    assert found.endswith(end)


def test_nothing_is_composed_for_a_scale_at_which_no_task_of_a_figure_has_run(tmp_path, monkeypatch):
    write_record(tmp_path, setting_of(TABLE1, "scale=short", task="cifar10", optim="sgd"))
    write_record(tmp_path, setting_of("demo", "scale=proxy", optim="sgd"))
    composed = []
    monkeypatch.setattr(
        loading, "settings", lambda name, given: composed.append((name, *given)) or settings(name, given)
    )
    assert [one.scale for one in loading.recorded((Draws(TABLE1),), tmp_path)] == ["short"]
    assert composed == [(TABLE1, "scale=short")]
    composed.clear()
    assert loading.recorded((Draws("table2_imagenet"),), tmp_path) == []
    assert composed == []
    (tmp_path / "convergence").mkdir()  # an analysis is named by itself, so that any name may be its own
    assert loading.recorded((Draws("fig03_noisy_quadratic"),), tmp_path) == []
    assert {name for name, *_ in composed} == {"fig03_noisy_quadratic"}


def test_further_seeds_of_a_setting_count_where_every_seed_is_asked_for(tmp_path):
    setting = setting_of(TABLE1, "scale=short", task="cifar10", optim="sgd")
    for seed in (1, 4, 12):
        write_record(tmp_path, setting, seed)
    copy = tmp_path / setting.name / "seed-x"
    shutil.copytree(tmp_path / setting.name / "seed-4", copy)
    draws = (Draws(TABLE1),)
    assert [run.summary["seed"] for run in loading.recorded(draws, tmp_path)[0].runs] == [1]
    (found,) = loading.recorded(draws, tmp_path, every_seed=True)
    assert [run.summary["seed"] for run in found.runs] == [1, 12]
    (mistake,) = found.mistakes  # as nobody can tell which one counts
    assert "seed-x" in str(mistake)
    shutil.rmtree(copy)
    (found,) = loading.recorded(draws, tmp_path, every_seed=True)
    assert [run.summary["seed"] for run in found.runs] == [1, 4, 12]
