"""A mistake ends in one clear line that names the value and the choices, exit code not 0, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings

import analyze
import train
from experiments.engine import command_line
from experiments.engine.composition import CONFIGS
from tests.helpers.running import history

QUICK = ["task=digits", "scale=smoke", "tracker=none", "runtime.device=cpu"]


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    """Run `python train.py ...`, or analyze.py, in this process; return exit code and the lines on standard error."""
    monkeypatch.delenv(command_line.TRACEBACK, raising=False)
    monkeypatch.setattr(command_line, "_failed", None)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, program: str = "train") -> tuple[int, list[str]]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [f"{program}.py", *arguments])
        monkeypatch.setenv(command_line.TRACEBACK, "0")
        with pytest.raises(SystemExit) as stop:
            command_line.main({"train": train.train, "analyze": analyze.analyze}[program], program)
        return stop.value.code, capfd.readouterr().err.splitlines()

    return run


MISTAKES = {
    "task=cifar": ["task=cifar", "cifar10", "cifar100", "digits"],
    "optim=la_sdg": ["optim=la_sdg", "did you mean la_sgd?", "adamw", "polyak"],
    "model=resnet19": ["model=resnet19", "resnet18", "resnet8", "small_conv"],
    "experiment=fig99": ["experiment=fig99", "demo"],
    "optim.kk=3": ["optim.kk", "did you mean k?", "alpha", "inner_state"],
    "epohcs=3": ["epohcs", "did you mean epochs?", "batch_size"],
    "optim.average.decay=0.9": ["optim.average.decay"],
    "model.num_classes=3": ["model.num_classes", "model=..."],
    "optim.k=0": ["k must be an integer of at least 1, not 0"],
    "optim.k=2.5": ["k must be an integer of at least 1, not 2.5"],
    "optim.alpha=1.5": ["alpha must be", "[0, 1]", "1.5"],
    "optim.inner_state=keep": ["keep", "maintain", "interpolate", "reset"],
    "optim.lr=-0.1": ["optim.lr=-0.1", "above 0"],
    "optim.lr=fast": ["optim.lr=fast", "above 0"],
    "optim.weight_decay=-1": ["optim.weight_decay=-1", "at least 0"],
    "epochs=0": ["epochs=0", "at least 1"],
    "epochs=1.5": ["epochs=1.5", "whole number"],
    "seed=-1": ["seed=-1", "from 0"],
    "batch_size=201": ["batch_size=201", "1..200"],
    "evaluation.train_pass=dirty": ["train_pass=dirty", "clean", "augmented", "none"],
    "precision=fp8": ["precision=fp8", "fp32", "tf32", "bf16"],
    "schedule.per=minute": ["schedule.per=minute", "epoch", "step"],
    "runtime.device=gpu": ["runtime.device=gpu", "auto", "cpu"],
    "task.dataset.train_subset=5000": ["train_subset=5000", "1437"],
    "optim.k": ["optim.k"],
    "schedule.milestones=5": ["schedule.milestones=5", "a list"],
    "task.padding=x": ["task.padding=x", "at least 0"],
    "task.dataset.train_subset=abc": ["train_subset=abc", "whole number"],
    "runtime.device=null": ["runtime.device=null", "auto, cpu, cuda"],
    "runtime.device=meta": ["runtime.device=meta"],
    "evaluation.batch_norm=new": ["evaluation.batch_norm=new", "kept, reestimated"],
    "seed=99999999999999999999": ["seed=99999999999999999999"],
    "task.num_classes=3": ["label is 9"],
    "optim.lr=???": ["optim.lr has no value", "optim.lr=..."],
    "+optim.aplha=0.5": ["unknown key optim.aplha, which nothing reads", "did you mean alpha?"],
    "+foo=1": ["unknown key foo, which nothing reads", "batch_size"],
    "+optim.optimizer.nestrov=true": ["unknown key optim.optimizer.nestrov"],
    "+task.preset.foo=1": ["unknown key task.preset.foo", "milestones"],
    "+runtime.foo=1": ["unknown key runtime.foo", "threads"],
    "schedule.scheduler={_target_: torch.optim.lr_scheduler.CosineAnnealingLR, T_max: 2}": [
        "schedule.scheduler has no key T_max",
        "~schedule.scheduler '+schedule.scheduler={_target_: torch.optim.lr_scheduler.CosineAnnealingLR, T_max: 2}'",
    ],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_the_value_and_the_choices(mistake, command, tmp_path):
    code, lines = command(*QUICK, mistake)
    assert code == 1
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for part in MISTAKES[mistake]:
        assert part in lines[0]
    assert list(tmp_path.iterdir()) == []  # no work began


ANALYSES = {
    "experiment=fig03_noisy_quadratik": ["fig03_noisy_quadratik", "did you mean fig03_noisy_quadratic?"],
    "analysis=convergense": ["analysis=convergense", "did you mean convergence?", "momentum_rates"],
    "analysis.kk=3": ["analysis.kk", "did you mean k?", "alphas"],
    "analysis.k=0": ["k must be an integer of at least 1, not 0"],
    "analysis.rates.stop=2.5": ["a learning rate must be in (0, 2)", "not 2.02"],
    "analysis.alphas.start=0": ["alpha must be in (0, 1], not 0"],
    "analysis.alphas.num=-1": ["-1"],
    "analysis.rates=[]": [
        "analysis.rates=[] is not possible",
        "analysis.rates.num",
        "~analysis.rates +analysis.rates=[]",
    ],
    "analysis.rates.start=x": ["analysis.rates: start must be a number, not 'x'"],
    "analysis.rates.num=1.5": ["analysis.rates: num must be an integer of at least 1, not 1.5"],
    "analysis.rates.num=1": ["num=1 is a grid of one value: stop must be start, 0.005, not 0.995"],
    "~analysis.rates": ["analysis has no value of 'rates'"],
    "analysis.rates=null": ["rates must be a number, not None"],
    "analysis.k=[5]": ["k must be an integer of at least 1, not [5]"],
    "analysis.model.start=[1]": ["analysis.model: start must be one number, not [1.0]"],
    "analysis.model.condition_number=high": ["the condition number must be a number, not 'high'"],
    "analysis.model.condition_numbr=5": ["did you mean condition_number?", "dimension"],
    "analysis.rate.num=5": ["unknown key analysis.rate.num; did you mean rates?"],
    "quadratic=eigenvalues": ["quadratic"],
    "analysis.model.dimension=1": ["the dimension must be an integer of at least 2, not 1"],
    "analysis.model.condition_number=0.5": ["the condition number must be finite and at least 1, not 0.5"],
    "quadratic@analysis.model=eigenvalues": ["analysis.model.a has no value; give analysis.model.a=..."],
    "scale=proxy": ["scale=proxy is not for an analysis; choose one of paper, smoke"],
    "seed=-1": ["seed=-1", "from 0"],
    "runtime.device=cpu": ["runtime.device", "threads, output_dir, commit"],
    "sensitivity={analysis.q: [1]}": ["analysis.q is no value of this analysis", "sensitivity=null"],
    "sensitivity={analysis.k: []}": ["analysis.k has no values"],
    "optim=la_sgd": ["optim=... is not for analyze.py, but for train.py", "tracker, experiment, scale"],
}


@pytest.mark.parametrize("mistake", ANALYSES)
def test_a_mistake_in_an_analysis_is_one_line_too(mistake, command, tmp_path):
    chosen = [] if mistake.startswith(("analysis=", "experiment=")) else ["analysis=convergence"]
    code, lines = command(*chosen, mistake, program="analyze")
    assert code == 1
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for part in ANALYSES[mistake]:
        assert part in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("a=[]", "analysis.model: the spectrum must hold at least one eigenvalue, not none"),
        ("a=[1,0]", "analysis.model: an eigenvalue of A must be finite and above 0, not 0"),
        ("a=[1,-2]", "analysis.model: an eigenvalue of A must be finite and above 0, not -2"),
        ("a=[1] analysis.model.noise=-1", "analysis.model: noise must be finite and at least 0, not -1"),
        ("aa=[1]", "unknown key analysis.model.aa; did you mean a? (choices: a, noise, start)"),
        ("a=[1,0.5] analysis.model.start=[1]", None),
    ],
)
def test_a_spectrum_of_one_s_own_is_used_or_refused_in_one_line(model, message, command, tmp_path):
    chosen = ["analysis=convergence", "scale=smoke", "quadratic@analysis.model=eigenvalues"]
    code, lines = command(*chosen, *f"analysis.model.{model}".split(), program="analyze")
    assert (code, lines) == ((1, [f"error: {message}"]) if message else (0, []))
    assert bool(list(tmp_path.iterdir())) == (message is None)


def test_an_analysis_and_a_training_run_are_not_one_command(command, tmp_path):
    code, lines = command("-m", "experiment=demo,fig03_noisy_quadratic", "scale=smoke")
    assert (code, len(lines)) == (1, 1)
    assert "experiment=fig03_noisy_quadratic is computed, not trained: python analyze.py" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_several_figures_are_computed_by_one_command_each_in_its_folder(command, tmp_path):
    code, lines = command(
        "-m", "experiment=fig12_finite_horizon,fig03_noisy_quadratic", "scale=smoke", program="analyze"
    )
    assert (code, lines) == (0, [])
    for name in ("finite_horizon", "convergence"):
        assert (tmp_path / f"outputs/{name}@smoke/seed-1/claims.csv").exists()


@pytest.mark.parametrize("kind", ["a file in the way", "a folder that refuses"])
def test_an_output_folder_that_cannot_be_written_is_named(kind, command, tmp_path):
    (tmp_path / "file").write_text("kept")
    where = "file/outputs" if kind == "a file in the way" else "/proc/outputs"
    code, lines = command(*QUICK, f"runtime.output_dir={where}")
    assert code == 1
    assert len(lines) == 1
    assert where.split("/")[1] in lines[0]
    assert "runtime.output_dir" in lines[0]
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_data_file_that_is_missing_or_truncated_is_named_with_its_folder(damage, command, tmp_path, monkeypatch):
    from experiments.vision import datasets

    def no_network(*_):
        raise OSError("no network")

    monkeypatch.setattr(datasets, "_download", no_network)
    folder = tmp_path / "data" / "cifar-100-python"
    folder.mkdir(parents=True)
    if damage == "truncated":
        (folder / "train").write_bytes(b"short")
    code, lines = command("task=cifar100", "tracker=none", "runtime.device=cpu")
    assert code == 1
    assert len(lines) == 1
    assert "cifar-100-python/train is " + ("missing" if damage == "missing" else "damaged") in lines[0]
    assert "into data/cifar-100-python" in lines[0]
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


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
