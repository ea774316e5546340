"""scripts/figures.py: names find modules, and neither settings nor terminals of the user reach a figure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from scripts import figures
from scripts.reporting import captions, modules, style
from scripts.reporting.draws import Draws
from scripts.reporting.figures import demo
from tests.helpers.recorded import DEVICE, a_run, load, setting_of, write_record

ROOT = modules.REPOSITORY


@pytest.fixture
def root(tmp_path):
    """Records of the demonstration: two seeds of SGD and of Lookahead, whose names sort the other way round."""
    history = {"epoch": [1, 2], "step": [5, 10], "train/loss": [2.0, 1.0], "val/loss": [2.0, 1.5]}
    for optim in ("la_sgd", "sgd"):
        for seed in (1, 2):
            accuracy = {"val/accuracy": [91.0, 95.0 + seed + (optim == "sgd")]}
            write_record(tmp_path, setting_of("demo", optim=optim), seed, history | accuracy)
    return tmp_path


def test_the_demo_has_sgd_first_and_says_what_was_run(root):
    (figure, table), *others = demo.figures(load((Draws("demo"),), root)).values()
    assert others == []
    left, right = figure.axes
    for axes in (left, right):
        assert [line.get_label() for line in axes.lines] == ["SGD", "Lookahead"]
    assert right.lines[0].get_ydata().tolist() == [91.0, 97.5]
    assert right.lines[1].get_ydata().tolist() == [91.0, 96.5]
    assert left.lines[0].get_ydata().tolist() == [2.0, 1.0]
    assert (left.get_yscale(), right.get_ylim()) == ("log", (90, 99.0))
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["SGD", "Lookahead"]
    assert "not an experiment of the paper" in figure.get_suptitle()
    words = f"over seeds. Full scale; fp32; seeds 1, 2; one process on {DEVICE}."
    assert words in " ".join(figure.get_supxlabel().split())
    assert table.index.tolist() == ["SGD", "Lookahead"]
    assert table["validation accuracy (%)"].tolist() == ["97.5 ± 0.71", "96.5 ± 0.71"]
    assert table["seeds"].tolist() == [2, 2]


def test_one_seed_has_no_band_no_nan_and_the_caption_says_so(root):
    for folder in root.rglob("seed-2"):
        shutil.rmtree(folder)
    ((figure, table),) = demo.figures(load((Draws("demo"),), root)).values()
    assert "nan" not in table.to_string()
    assert not any(axes.collections for axes in figure.axes)
    assert figure.get_supxlabel() == f"Full scale; fp32; one seed (1); one process on {DEVICE}."


def test_figures_writes_the_picture_and_prints_the_table(root, tmp_path, capsys):
    assert figures.main(["demo", "--runs", str(root), "--out", str(tmp_path / "new" / "folder")]) == 0
    path = tmp_path / "new" / "folder" / "demo.png"
    assert path.stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "Lookahead" in shown
    assert shown.strip().endswith(str(path))
    assert sorted(file.name for file in path.parent.iterdir()) == ["demo.md", "demo.pdf", "demo.png"]


def test_the_recorded_demo_is_drawn_where_no_records_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the defaults do not depend on where the command starts
    assert figures.main(["demo", "--out", "out"]) == 0
    assert (tmp_path / "out" / "demo.png").exists()


def test_names_and_their_beginnings_find_modules_and_others_the_choices(capsys):
    assert modules.full_names("figures", ["fig05", "demo"]) == ["fig05_cifar_curves", "demo"]
    assert modules.full_names("tables", ["same_risk", "table1"]) == ["same_risk", "table1"]
    assert modules.full_names("figures", []) == modules.names("figures")
    assert "fig03_noisy_quadratic" in modules.names("figures")
    with pytest.raises(
        ValueError, match=r"'fig1' begins several figures: .*fig11_noisy_convergence, fig12_finite_horizon"
    ):
        modules.full_names("figures", ["fig1"])
    assert figures.main(["demoo"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: there is no figure demoo; did you mean demo? (choices: demo, fig0")


@pytest.mark.parametrize("kind", ["figures", "tables"])
def test_every_module_declares_its_runs_and_keeps_the_protocol(kind):
    for name in modules.names(kind):
        module = modules.module(kind, name)
        assert all(isinstance(draws, Draws) for draws in module.DRAWS)
        assert module.DRAWS
        assert (ROOT / "configs" / "experiment" / f"{module.DRAWS[0].experiment}.yaml").exists()
        made = {"figures"} if kind == "figures" else {"page"} if not hasattr(module, "DOCUMENT") else {"rows"}
        assert all(callable(getattr(module, function)) for function in made)


def test_figures_without_records_say_which_command_makes_them(tmp_path, capsys):
    for runs in (tmp_path, tmp_path / "not there"):
        assert figures.main(["demo", "--runs", str(runs)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: no finished run of demo below")
        assert "python train.py experiment=demo" in line


def test_where_no_figure_is_named_what_has_not_been_run_is_a_note(root, tmp_path, capsys):
    assert figures.main(["--runs", str(root), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    lines = dict(line.split(" ", 1) for line in shown.out.splitlines())
    others = [name for name in modules.names("figures") if name != "demo"]
    assert [Path(path).stem for path in lines] == ["demo", *(f"{name}@not_run" for name in others)]
    out = tmp_path / "out"
    assert lines[str(out / "demo.png")] == "(4 of 6 runs)"
    told = lines[str(out / "fig05_cifar_curves@not_run.png")]
    assert told == "(not run yet: python train.py experiment=table1_cifar)"
    assert shown.err == ""
    stems = ["demo", *(f"{name}@not_run" for name in others)]
    files = {f"{stem}.{ending}" for stem in stems for ending in ("png", "pdf", "md")}
    assert {file.name for file in (tmp_path / "out").iterdir()} == files


def test_a_second_time_one_line_says_that_nothing_is_another(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(figures, "full_names", lambda kind, beginnings: ["demo", "fig05_cifar_curves"])
    for _ in range(2):
        capsys.readouterr()
        assert figures.main(["--runs", str(root), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == "unchanged pictures: 2, 2 of them with runs missing\n"
    (tmp_path / "out" / "demo.md").write_text("another caption")
    assert figures.main(["--runs", str(root), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'out' / 'demo.png'} (4 of 6 runs)",
        "unchanged pictures: 1, 1 of them with runs missing",
    ]


@pytest.mark.parametrize(
    ("word", "message"),
    [("optim.kk=3", "unknown key optim.kk"), ("scale=papers", "scale=papers"), ("seed=[", "no viable")],
)
def test_a_mistake_in_one_s_own_values_is_one_line(word, message, root, tmp_path, capsys):
    (root / f"digits-sgd@{word.partition('=')[2]}").mkdir()
    assert figures.main(["demo", word, "--runs", str(root), "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def draw(root, out, folder, **environment):
    """Draw the demo in a process of its own, started in `folder`; return the files' bytes and what was said."""
    out.mkdir()
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "figures.py", "demo", "--runs", root, "--out", out],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    return files_of(out), done


def files_of(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.slow
def test_nothing_of_the_user_s_settings_reaches_a_figure_which_is_the_same_bytes_each_time(root, tmp_path):
    assert figures.main(["demo", "--runs", str(root), "--out", str(tmp_path / "plain")]) == 0
    plain = files_of(tmp_path / "plain")
    assert b"Software" not in plain["demo.png"]
    assert not any(word in plain["demo.pdf"] for word in (b"CreationDate", b"Producer", b"Creator"))
    mine = tmp_path / "mine"
    mine.mkdir()
    settings = "lines.linewidth: 9\npdf.fonttype: 42\npdf.compression: 0\nfont.size: 20\naxes.grid: True\n"
    settings += "savefig.dpi: 30\nsavefig.transparent: True\n"
    (mine / "matplotlibrc").write_text(settings)
    backend = "module://matplotlib_inline.backend_inline"
    again, done = draw(
        root, tmp_path / "a", mine, MPLBACKEND=backend, PYTHONUTF8="0", LC_ALL="C", PYTHONCOERCECLOCALE="0"
    )
    assert again == plain
    assert rb"\xb1" in done.stdout  # the sign of a deviation, which ASCII lacks
    again, _ = draw(root, tmp_path / "b", tmp_path, MATPLOTLIBRC=str(mine / "matplotlibrc"), MPLBACKEND="no such thing")
    assert again == plain


def test_settings_of_a_program_are_put_back():
    import matplotlib

    with matplotlib.rc_context({"lines.linewidth": 9}):
        with style.own_settings():
            assert matplotlib.rcParams["lines.linewidth"] == matplotlib.rcParamsDefault["lines.linewidth"]
        assert matplotlib.rcParams["lines.linewidth"] == 9


def test_a_terminal_that_is_gone_stops_no_figure(root, tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, ROOT / "scripts" / "figures.py", "demo", "--runs", root, "--out", tmp_path / "out"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out" / "demo.png").exists()


def test_paths_are_short_below_the_working_directory_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert modules.short(tmp_path / "a" / "b.png") == Path("a/b.png")
    assert modules.short(Path("a/b.png")) == Path("a/b.png")
    assert modules.short(tmp_path.parent / "c.png") == tmp_path.parent / "c.png"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([{}], "full scale; fp32; one seed (1); one process on a machine"),
        ([{"scale": "proxy"}], "a proxy, not the paper's experiment; fp32; one seed (1); one process on a machine"),
        ([{"scale": "odd", "precision": "bf16"}], "scale odd; bf16; one seed (1); one process on a machine"),
        ([{}, {"seed": 3}], "full scale; fp32; seeds 1, 3; one process on a machine"),
        ([{}, {"optim__name": "la_sgd"}], "full scale; fp32; one seed (1); one process on a machine"),
        (
            [{}, {"seed": 2}, {"optim__name": "la_sgd"}],
            "full scale; fp32; 1 to 2 seeds per setting; one process on a machine",
        ),
    ],
)
def test_the_caption_says_scale_precision_seeds_processes_and_device(changes, expected):
    assert captions.provenance([a_run(**{"seed": 1, **change}) for change in changes]) == expected


def test_processes_and_micro_batches_are_said_where_there_are_several():
    run = a_run()
    run.summary.update(ranks=2, micro_batches=3, device="a GPU")
    assert captions.provenance([run]).endswith("; 2 processes with 3 micro-batches each on a GPU")
    assert captions.provenance([a_run(1), run]).endswith(
        "one process, 2 processes with 3 micro-batches each on a machine, a GPU"
    )


def test_a_style_has_a_colour_of_its_own_for_each_optimizer():
    assert list(style.LABELS) == list(style.COLORS) == list(style.OPTIMIZERS)
    assert len(set(style.COLORS.values())) == len(style.COLORS)


def test_curves_of_a_metric_that_was_not_recorded_end_in_one_line(root, capsys):
    for path in root.rglob("history.csv"):
        pd.read_csv(path).drop(columns="val/accuracy").to_csv(path, index=False)
    assert figures.main(["demo", "--runs", str(root), "--out", str(root / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "val/accuracy was not recorded in" in line


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ({"_target_": "a.logarithmic", "start": 0.1, "stop": 1.0, "num": 50}, "50 log-spaced from 0.1 to 1"),
        ({"_target_": "a.linear", "start": 0.1, "stop": 1.0, "num": 2}, "2 from 0.1 to 1"),
        ({"_target_": "a.linear", "start": 0.1, "stop": 1.0, "num": 1}, "0.1"),
        ([0.5, 0.1], "2 from 0.1 to 0.5"),
        (0.8, "0.8"),
    ],
)
def test_a_grid_in_words(grid, expected):
    assert captions.grid_in_words(OmegaConf.create({"grid": grid}).grid) == expected
