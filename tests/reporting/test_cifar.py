"""Figure 5: what was run, marked as what it is; and that each recorded scale is drawn."""

from __future__ import annotations

from scripts import figures, tables
from scripts.reporting import modules
from scripts.reporting.figures import fig05_cifar_curves
from tests.helpers.recorded import a_run, setting_of, write_record


def trained(task="cifar100", optim="sgd", accuracy=20.0, seed=1, scale="proxy", **values):
    history = {"epoch": [1, 15], "step": [79, 1185], "train/loss": [4.0, 3.0], "val/accuracy": [5.0, accuracy]}
    values = {"model": {"_target_": "experiments.vision.resnet.resnet8"}, **values}
    run = a_run(
        seed, history, task__name=task, optim__name=optim, scale=scale, evaluation__train_pass="clean", **values
    )
    run.summary["samples"] = 150_000
    return run


def test_figure_5_draws_what_was_run_and_names_the_rest():
    runs = [trained(optim="la_sgd", accuracy=17.0), trained(accuracy=20.0)]
    ((name, (figure, table)),) = fig05_cifar_curves.figures(runs).items()
    assert name == "fig05_cifar_curves"
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines] == ["SGD", "Lookahead"]
    assert (loss.get_ylabel(), loss.get_yscale()) == ("training loss", "linear")
    assert [line.get_ydata().tolist() for line in accuracy.lines] == [[5.0, 20.0], [5.0, 17.0]]
    assert accuracy.get_ylabel() == "validation accuracy (%)"
    assert accuracy.get_legend() is not None
    assert figure.get_suptitle() == "Figure 5, CIFAR-100: a proxy, not the paper's experiment"
    caption = " ".join(figure.get_supxlabel().split())
    assert "10,000 of 50,000 images" in caption
    assert "Not run yet: Polyak, Adam." in caption
    assert "without augmentation" in caption
    assert "one seed (1)" in caption
    assert "standard deviation" not in caption
    assert table["validation accuracy (%)"].tolist() == ["20", "17"]


def test_figure_5_at_full_scale_has_a_logarithmic_loss_and_a_band():
    runs = [trained(optim=name, seed=seed) for name in ("sgd", "polyak", "adamw", "la_sgd") for seed in (1, 2)]
    for run in runs:
        run.summary["scale"] = "paper"
        run.history["train/loss"] = [4.0, 0.02]
    ((figure, _),) = fig05_cifar_curves.figures(runs).values()
    assert figure.axes[0].get_yscale() == "log"
    assert figure.get_suptitle() == "Figure 5, CIFAR-100"
    assert [line.get_label() for line in figure.axes[0].lines] == ["SGD", "Polyak", "Adam", "Lookahead"]
    caption = " ".join(figure.get_supxlabel().split())
    assert "Mean and one standard deviation over seeds." in caption
    assert "Not run yet" not in caption


def test_figure_5_draws_cifar_100_alone():
    (draws,) = fig05_cifar_curves.DRAWS
    assert draws.accepts(trained().config)
    assert not draws.accepts(trained(task="cifar10").config)


def test_a_figure_stands_in_results_for_each_scale_that_has_records():
    results = modules.REPOSITORY / "results"
    ends = {"".join(folder.name.partition("@")[1:]) for folder in modules.RECORDS.glob("cifar100-sgd*")}
    assert {path.stem for path in results.glob("figures/fig05*.png")} == {f"fig05_cifar_curves{end}" for end in ends}


def test_where_nothing_is_named_each_recorded_scale_has_a_page_and_a_picture(tmp_path, capsys):
    runs, out = tmp_path / "runs", tmp_path / "out"
    history = {"epoch": [1, 15], "step": [79, 1185], "train/loss": [4.0, 3.0], "val/accuracy": [5.0, 20.5]}
    for scale, precision in (("proxy", "fp32"), ("short", "bf16")):
        chosen = setting_of("table1_cifar", f"scale={scale}", task="cifar100", optim="sgd")
        write_record(runs, chosen.at(precision), 2, history)
    assert tables.main(["--runs", str(runs), "--out", str(out)]) == 0
    assert figures.main(["--runs", str(runs), "--out", str(out)]) == 0
    for end, word in (("@proxy", "a proxy"), ("@short,bf16", "short scale")):
        assert word in (out / f"table1{end}.md").read_text(encoding="utf-8")
        assert (out / f"fig05_cifar_curves{end}.png").stat().st_size > 10_000
    assert not any(path.stem == "table1" for path in out.iterdir())
