"""The command line: sweeps, options, help, exit codes, and what a run leaves and says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings

from experiments.engine import command_line
from experiments.engine.composition import CONFIGS
from tests.helpers.running import QUICK, history


def test_several_figures_are_computed_by_one_command_each_in_its_folder(command, tmp_path):
    code, lines = command(
        "-m", "experiment=fig12_finite_horizon,fig03_noisy_quadratic", "scale=smoke", program="analyze"
    )
    assert (code, lines) == (0, [])
    for name in ("finite_horizon", "convergence"):
        assert (tmp_path / f"outputs/{name}@smoke/seed-1/claims.csv").exists()


def test_a_sweep_goes_on_after_a_run_that_cannot_be_done(command, tmp_path):
    code, lines = command("-m", *QUICK, "optim=la_sgd", "optim.k=0,5", "epochs=1")
    assert code == 1
    assert lines == ["error: k must be an integer of at least 1, not 0"]
    assert len(list(tmp_path.glob("outputs/*/seed-1/summary.json"))) == 1


def test_a_multirun_over_k_and_alpha_gives_each_setting_its_folder(command, tmp_path):
    code, lines = command("-m", *QUICK, "optim.k=5,10", "optim.alpha=0.5,0.8", "epochs=1")
    assert (code, lines) == (0, [])
    assert len(list(tmp_path.glob("outputs/digits-la_sgd*/seed-1/summary.json"))) == 4


def test_a_loss_that_is_not_finite_stops_the_run_says_so_and_stays_said(command, tmp_path):
    arguments = [*QUICK, "optim=sgd", "optim.lr=1e30", "runtime.read_loss_every=1"]
    code, lines = command(*arguments)
    assert code == 1
    assert len(lines) == 1
    assert "training loss is" in lines[0]
    assert "lr 1e+30" in lines[0]
    (folder,) = tmp_path.glob("outputs/*/seed-1")
    assert '"status": "diverged"' in (folder / "summary.json").read_text()
    assert [path.name[:19] for path in (folder / "checkpoints").iterdir()] == ["00001-step-00000000"]  # the start alone
    code, lines = command(*arguments)
    assert code == 1
    assert "diverged before" in lines[0]


def test_a_finished_run_says_so_and_is_left_as_it_is(command, tmp_path, capfd):
    command(*QUICK)
    (folder,) = tmp_path.glob("outputs/*/seed-1")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, lines = command(*QUICK)
    assert (code, lines) == (0, [])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.slow
def test_the_real_command_prints_one_line_and_with_hydra_full_error_the_traceback(tmp_path):
    def run(**env):
        return subprocess.run(
            [sys.executable, str(CONFIGS.parent / "train.py"), *QUICK, "optim.k=0"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, **env},
        )

    plain = run(HYDRA_FULL_ERROR="0")
    assert (plain.returncode, plain.stdout) == (1, "")
    assert plain.stderr == "error: k must be an integer of at least 1, not 0\n"
    full = run(HYDRA_FULL_ERROR="1")
    assert full.returncode != 0
    assert "Traceback" in full.stderr


def test_help_lists_every_choice_and_cfg_job_prints_the_configuration(tmp_path):
    for flags, expected in (
        (["--help"], ["la_sgd", "cifar100", "resnet18", "optim=la_sgd"]),
        (["--cfg", "job"], ["alpha: 0.8", "k: 5"]),
    ):
        done = subprocess.run(
            [sys.executable, str(CONFIGS.parent / "train.py"), *flags],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        for text in expected:
            assert text in done.stdout
    assert list(Path(tmp_path).iterdir()) == []


def test_history_has_the_stated_columns(command, tmp_path):
    command(*QUICK)
    (folder,) = tmp_path.glob("outputs/*/seed-1")
    assert list(history(folder, drop=())[0]) == [
        "epoch",
        "step",
        "samples",
        "wall_s",
        "lr",
        "train/running_loss",
        "train/loss",
        "train/accuracy",
        "val/loss",
        "val/accuracy",
    ]


def test_a_finished_run_is_not_rewritten_by_another_way_of_carrying_it_out(command, tmp_path):
    command(*QUICK)
    (config,) = tmp_path.glob("outputs/*/seed-1/config.yaml")
    before = config.read_bytes()
    assert command(*QUICK, "runtime.threads=1", "runtime.data_dir=elsewhere")[0] == 0
    assert config.read_bytes() == before


def test_weights_that_only_the_evaluation_finds_not_finite_are_not_called_done(command, tmp_path):
    code, lines = command(*QUICK, "optim=sgd", "optim.lr=1e30", "steps=1")
    assert code == 1
    assert "is nan at step 1" in lines[0]
    (folder,) = tmp_path.glob("outputs/*/seed-1")
    summary = json.loads((folder / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["status"] == "diverged"
    assert summary["final"]["val/loss"] is None


def test_options_may_stand_between_overrides(command, tmp_path):
    code, lines = command("task=digits", "-m", *QUICK[1:], "epochs=1", "seed=1,2")
    assert (code, lines) == (0, [])
    assert len(list(tmp_path.glob("outputs/digits-la_sgd,epochs=1@smoke/seed-*/summary.json"))) == 2


def test_a_folder_may_begin_with_the_user_s_home(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "it's home"))
    for folder in ("~/out", "'~/out'"):
        assert command(*QUICK, "epochs=1", f"runtime.output_dir={folder}") == (0, [])
    assert (tmp_path / "it's home" / "out" / "digits-la_sgd,epochs=1@smoke" / "seed-1" / "summary.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["it's home"]


def test_a_number_that_the_environment_gives_as_text_is_said_to_be_text(command, monkeypatch):
    monkeypatch.setenv("RATE", "0.05")
    code, lines = command(*QUICK, "optim.lr='${oc.env:RATE}'")
    assert (code, len(lines)) == (1, 1)
    assert "optim.lr=0.05 (text; ${oc.decode:...} around it reads a number) is not possible" in lines[0]
    assert command(*QUICK, "epochs=1", "optim.lr='${oc.decode:${oc.env:RATE}}'") == (0, [])


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1))
def test_a_quoted_text_is_what_hydra_reads(text):
    override = OverridesParser.create().parse_override(f"key={command_line.quoted(text)}")
    assert str(getattr(override.value(), "text", override.value())) == text


def test_training_names_the_program_that_computes_an_experiment(command, tmp_path):
    code, lines = command("experiment=fig03_noisy_quadratic")
    line = "error: experiment=fig03_noisy_quadratic is computed, not trained: python analyze.py "
    assert (code, lines) == (1, [f"{line}experiment=fig03_noisy_quadratic"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["-m", "optim.k=5,10"], 1), (["-m", "optim.k=5,10", "hydra/launcher=joblib"], 0), (["--cfg", "job"], 0)],
)
def test_a_command_in_which_nothing_ran_fails_unless_another_launcher_ran_it_elsewhere(arguments, code):
    words = json.dumps(["train.py", *arguments])
    text = (
        f"import sys; from experiments.engine.command_line import main; sys.argv = {words}; main(lambda: None, 'train')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", text], cwd=CONFIGS.parent, capture_output=True, text=True, check=False
    )
    assert ended.returncode == code, ended.stderr
    assert ("nothing ran: the sweep has no values" in ended.stderr) == (code == 1)
