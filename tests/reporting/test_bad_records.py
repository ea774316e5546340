"""What is wrong with one record is one line that names it, and stops neither its figure nor its table."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from experiments.engine.records import write_summary
from scripts import figures, tables
from scripts.reporting import modules, style
from scripts.reporting.curves import draw_curves
from scripts.reporting.figures import fig05_cifar_curves, fig11_noisy_convergence
from scripts.reporting.loading import Recorded
from scripts.reporting.panels import NOT_RUN
from scripts.reporting.records import UnusableRecord
from scripts.reporting.series import series
from tests.helpers.made_records import SCALE, make_records
from tests.helpers.recorded import a_run, setting_of, write_record

KINDS, NAMES = {figures: "figures", tables: "tables"}, {figures: "fig05_cifar_curves", tables: "table1"}
LOOKAHEAD = f"cifar100-la_sgd@{SCALE}"  # which both have first, with 10 and 12 as final values; SGD's are 11 and 13
ROWS = {  # Lookahead's first seed alone, and SGD whole
    figures: ["| Lookahead | 10 | 10 | 1 |", "| SGD | 12 ± 1.4 | 12 ± 1.4 | 2 |"],
    tables: ["| 10.00 | 1 |", "| 12.00 ± 1.41 | 2 |"],
}


@pytest.fixture
def make(tmp_path, monkeypatch, capsys):
    """Return a function that makes figures or tables: the exit status, the lines of errors and those of notes."""
    monkeypatch.setattr(style, "save", lambda figure, path: (path, path))  # which takes longest

    def made(program, *names):
        capsys.readouterr()  # what was said before
        folders = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
        status = program.main([*names, f"scale={SCALE}", *folders])
        said = capsys.readouterr()
        return status, said.err.splitlines(), said.out.splitlines()

    return made


def changed(folder, **values):
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def sealed(folder):
    """Give a record the digests of its files, as runs have them."""
    summary = json.loads((folder / "summary.json").read_text())
    del summary["schema"]
    write_summary(folder, summary)


def halved(name, first=lambda folder: None):
    def spoil(folder):
        first(folder)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return spoil


def without(column):
    def spoil(folder):
        path = folder / "history.csv"
        pd.read_csv(path).drop(columns=column).to_csv(path, index=False)
        final = json.loads((folder / "summary.json").read_text())["final"]
        final.pop(column, None)
        changed(folder, final=final)

    return spoil


def copied(folder):
    shutil.copytree(folder, folder.with_name(f"{folder.name} (copy)"))


def without_optimizer(folder):
    """End the configuration between two nodes, where it can still be read."""
    path = folder / "config.yaml"
    path.write_text(path.read_text().partition("\noptim:")[0] + "\n")


def of_another_recipe(folder):
    path = folder / "config.yaml"
    config = OmegaConf.load(path)
    config.optim.lr = 7.0
    OmegaConf.save(config, path)


def not_a_number_in_json(folder):
    path = folder / "summary.json"
    final = json.loads(path.read_text())["final"]
    changed(folder, final=final | {"test/accuracy": float("nan")})


BAD = {
    "a missing column": (without("val/accuracy"), "val/accuracy was not recorded in {}"),
    "no epochs": (without("epoch"), "epoch was not recorded in {}"),
    "no steps": (without("step"), "{}/history.csv is damaged ('step')"),
    "a duplicate seed": (copied, "{} and {} (copy) are the same setting with the same seed 2, which would count twice"),
    "another schema": (lambda folder: changed(folder, schema=99), "{}/summary.json has schema 99, not 1 and 2"),
    "another recipe": (of_another_recipe, "{} was recorded with other values (optim.lr 7.0 there, "),
    "a truncated history": (halved("history.csv"), "{}/history.csv is damaged ("),
    "a truncated summary": (halved("summary.json"), "{}/summary.json is damaged ("),
    "a configuration that ends early": (without_optimizer, "{} was recorded with other values (optim.name not there, "),
    "a truncated configuration with digests": (halved("config.yaml", sealed), "{}/config.yaml is damaged ("),
    "a truncated history with digests": (
        halved("history.csv", sealed),
        "{}/history.csv is damaged (its content is not what summary.json tells)",
    ),
    "no history": (lambda folder: (folder / "history.csv").unlink(), "{}/history.csv is missing"),
    "NaN in JSON": (not_a_number_in_json, "{}/summary.json is damaged (NaN, which JSON does not have)"),
}


def damage(tmp_path, program, spoil):
    """Make the records of a figure or table, and spoil Lookahead's second seed; return its folder."""
    make_records(tmp_path / "runs", modules.module(KINDS[program], NAMES[program]).DRAWS)
    bad = tmp_path / "runs" / LOOKAHEAD / "seed-2"
    spoil(bad)
    return bad


@pytest.mark.parametrize("program", NAMES, ids=NAMES.values())
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_record_is_one_line_and_the_other_seeds_and_settings_are_there(kind, program, make, tmp_path):
    spoil, message = BAD[kind]
    bad = damage(tmp_path, program, spoil)
    status, errors, _ = make(program, NAMES[program])
    text = (tmp_path / "out" / f"{NAMES[program]}@{SCALE}.md").read_text(encoding="utf-8")
    if (kind, program) == ("no epochs", tables):  # which has final values alone
        assert (status, errors) == (0, [])
        return
    (line,) = errors
    assert status == 1
    assert line.startswith(f"error: {message.replace('{}', str(bad))}")
    assert f"`{LOOKAHEAD}/seed-2`" in text
    for row in ROWS[program]:
        assert row in text


@pytest.mark.parametrize("program", NAMES, ids=NAMES.values())
def test_a_metric_that_was_not_finite_is_a_note_and_neither_a_number_nor_in_a_mean(program, make, tmp_path):
    def spoil(folder):
        path = folder / "history.csv"
        table = pd.read_csv(path)
        table.loc[table.index[-1], "val/accuracy"] = np.nan
        table.to_csv(path, index=False)
        changed(folder, final=json.loads((folder / "summary.json").read_text())["final"] | {"val/accuracy": None})

    bad = damage(tmp_path, program, spoil)
    status, errors, notes = make(program, NAMES[program])
    assert (status, errors) == (0, [])
    assert f"note: {bad} ended with val/accuracy not finite, which no mean counts" in notes
    text = (tmp_path / "out" / f"{NAMES[program]}@{SCALE}.md").read_text(encoding="utf-8")
    first, second = ROWS[program]
    assert first not in text
    assert ("| Lookahead | 11 ± 1.4 | not finite | 2 |" if program is figures else "| not finite | 2 |") in text
    assert second in text


def test_a_curve_ends_where_a_seed_is_not_finite_and_says_so():
    history = {"epoch": [1, 2, 3], "val/accuracy": [10.0, 20.0, 30.0], "train/loss": [3.0, 2.0, 1.0]}
    bad = a_run(2, history | {"val/accuracy": [20.0, 30.0, np.nan]})
    bad.summary["final"]["val/accuracy"] = None
    loss, accuracy = style.blank(4, 4).subplots(1, 2)
    for axes, column in ((loss, "train/loss"), (accuracy, "val/accuracy")):
        draw_curves(axes, series([a_run(1, history), bad]), column)
    assert (loss.lines[0].get_label(), loss.lines[0].get_ydata().tolist()) == ("SGD", [3, 2, 1])
    assert (accuracy.lines[0].get_label(), accuracy.lines[0].get_ydata().tolist()) == ("SGD, not finite", [15, 25])
    never = a_run(2, history | {"val/accuracy": [np.nan] * 3})
    never.summary["final"]["val/accuracy"] = None
    assert series([a_run(1, history), never])[0].curve("val/accuracy").empty


def test_a_copy_that_cannot_be_read_is_no_rival_of_a_run(make, tmp_path):
    def spoil(folder):
        copied(folder)
        (folder.with_name("seed-2 (copy)") / "config.yaml").write_text("a: [")

    damage(tmp_path, figures, spoil)
    assert make(figures, NAMES[figures])[:2] == (0, [])


def test_of_two_analyses_the_one_that_can_be_read_is_drawn(make, tmp_path, monkeypatch):
    make_records(tmp_path / "runs", fig11_noisy_convergence.DRAWS)
    bad = tmp_path / "runs" / f"few_updates@{SCALE}" / "seed-1"
    (bad / "curves.npz").write_bytes(b"x")
    made, drawn = fig11_noisy_convergence.figures, {}
    monkeypatch.setattr(fig11_noisy_convergence, "figures", lambda runs: drawn.update(made(runs)) or drawn)
    status, (line,), _ = make(figures, "fig11")
    assert status == 1
    assert line.startswith(f"error: {bad}/curves.npz is damaged (")
    ((figure, _),) = drawn.values()  # what the second analysis alone is about is not there
    left, right = figure.axes
    assert left.lines
    assert right.texts[0].get_text() == NOT_RUN
    text = (tmp_path / "out" / f"fig11_noisy_convergence@{SCALE}.md").read_text(encoding="utf-8")
    assert f"- left out: `few_updates@{SCALE}/seed-1`, which cannot be used" in text
    assert "few updates" not in text


def made_of(*folders, fails=(), then=""):
    """Return what is made of runs, some of which lack something, and the mistakes; `then` something else is wrong."""

    def make(runs):
        for run in runs:
            if str(run.folder) in fails:
                raise UnusableRecord(f"{run.folder} lacks it", run.folder)
        if then:
            raise ValueError(then)
        return [str(run.folder) for run in runs]

    runs = [a_run(folder=folder) for folder in folders]
    made, used = Recorded("paper", "fp32", 5, runs, [UnusableRecord("before", runs[0].folder)]).made_into(make)
    assert made == [str(run.folder) for run in used.runs]
    return made, list(map(str, used.mistakes)), used.missing


def test_runs_are_left_out_one_after_the_other_until_the_rest_can_be_made():
    assert made_of("a", "b") == (["a", "b"], ["before"], 3)
    assert made_of("a", "b", "c", fails="ac") == (["b"], ["before", "a lacks it", "c lacks it"], 4)
    with pytest.raises(ValueError, match=r"^none of 2 records can be used: a lacks it$"):
        made_of("a", "b", fails="ab")
    with pytest.raises(ValueError, match=r"^a lacks it$"):
        made_of("a", fails="a")
    with pytest.raises(ValueError, match=r"^a lacks it; without it: two are wanted$"):
        made_of("a", "b", fails="a", then="two are wanted")
    with pytest.raises(ValueError, match=r"^two are wanted$"):
        made_of("a", "b", then="two are wanted")


def test_a_scale_of_which_nothing_can_be_used_is_told_and_another_one_is_drawn(make, tmp_path, capsys):
    make_records(tmp_path / "runs", fig05_cifar_curves.DRAWS)
    setting = setting_of("table1_cifar", "scale=proxy", task="cifar100", optim="sgd")
    changed(write_record(tmp_path / "runs", setting), schema=99)  # proxy, which is the larger one
    capsys.readouterr()
    folders = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert figures.main(["fig05", *folders]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cifar100-sgd@proxy/seed-1/summary.json has schema 99" in line
    text = (tmp_path / "out" / f"fig05_cifar_curves@{SCALE}.md").read_text(encoding="utf-8")
    assert "left out" not in text
