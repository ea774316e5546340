"""A mistake ends in one clear line that names the value and the choices, and before any work began."""

from __future__ import annotations

import pytest

from tests.helpers.running import QUICK

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
    "epochs=0": ["epochs=0", "from 1 to 1000000"],
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
