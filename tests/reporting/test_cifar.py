"""Table 1 and Figure 5: what was run, marked as what it is, beside the paper's numbers."""

from __future__ import annotations

from scripts import figures, tables
from scripts.reporting import cifar, modules
from scripts.reporting.figures import fig05_cifar_curves
from scripts.reporting.records import load
from scripts.reporting.tables import table1
from tests.helpers.recorded import a_run, setting_of, write_record


def trained(task="cifar100", optim="sgd", accuracy=20.0, seed=1, scale="proxy", **values):
    history = {"epoch": [1, 15], "step": [79, 1185], "train/loss": [4.0, 3.0], "val/accuracy": [5.0, accuracy]}
    values = {"model": {"_target_": "experiments.vision.resnet.resnet8"}, **values}
    run = a_run(
        seed, history, task__name=task, optim__name=optim, scale=scale, evaluation__train_pass="clean", **values
    )
    run.summary["samples"] = 150_000
    return run


def table_of(page):
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {(row[0], row[1]): row[2:] for row in lines if row[0].startswith("CIFAR")}, lines[0]


def test_table_1_has_the_paper_s_eight_rows_in_its_order_and_ours_beside_them():
    runs = [trained(accuracy=20.0), trained(accuracy=22.0, seed=2), trained(optim="la_sgd", accuracy=17.45)]
    page = table1.page(runs)
    rows, heading = table_of(page)
    assert heading == ["data set", "optimizer", "the paper", "here, at proxy scale", "seeds here"]
    assert [name for task, name in rows if task == "CIFAR-100"] == ["SGD", "Polyak", "Adam", "Lookahead"]
    assert [task for task, _ in rows] == ["CIFAR-10"] * 4 + ["CIFAR-100"] * 4
    assert rows["CIFAR-100", "SGD"] == ["78.24 ± 0.18 \\*", "21.00 ± 1.41", "2"]
    assert rows["CIFAR-100", "Lookahead"] == ["78.34 ± 0.05", "17.45", "1"]
    assert rows["CIFAR-100", "Adam"][1:] == ["not run yet", "-"]
    assert rows["CIFAR-10", "SGD"] == ["95.23 ± 0.19", "not run yet", "-"]
    assert "do not compare.** ResNet-8 for ResNet-18, 10,000 of 50,000 images, 15 of 200 epochs" in page
    assert "a proxy, not the paper's experiment; fp32; 1 to 2 seeds per setting" in page


def test_at_the_paper_s_scale_nothing_warns():
    run = trained(scale="paper", model={"_target_": "experiments.vision.resnet.resnet18"})
    run.summary.update(epochs=200, samples=10_000_000)
    page = table1.page([run])
    assert "do not compare" not in page
    assert "Run here: ResNet-18, 50,000 images, 200 epochs; full scale; fp32" in page
    assert table_of(page)[1][3] == "here"


def test_the_paper_s_numbers_are_eight_with_their_sources():
    paper = cifar.papers_table()
    assert len({(row["task"], row["optim"]) for row in paper["rows"]}) == 8
    assert all(row["verified"] == ("listing" in row["sources"]) for row in paper["rows"])
    assert (paper["metric"], paper["seeds"]) == (table1.METRIC, 3)


def test_figure_5_draws_what_was_run_and_names_the_rest():
    runs = [trained(optim="la_sgd", accuracy=17.0), trained(accuracy=20.0)]
    ((name, (figure, table)),) = fig05_cifar_curves.figures(runs).items()
    assert name == "fig05_cifar_curves"
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines] == ["SGD", "Lookahead"]
    assert (loss.get_ylabel(), loss.get_yscale()) == ("training loss", "linear")
    assert [line.get_ydata().tolist() for line in accuracy.lines] == [[5.0, 20.0], [5.0, 17.0]]
    assert accuracy.get_ylabel() == "validation accuracy (%)"
    assert loss.get_legend() is not None
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


def test_a_table_and_its_figure_stand_in_results_where_their_records_do(tmp_path):
    results = modules.REPOSITORY / "results"
    ends = {"".join(folder.name.partition("@")[1:]) for folder in modules.RECORDS.glob("cifar100-sgd*")}
    assert {path.stem for path in results.glob("tables/table1*")} == {f"table1{end}" for end in ends}
    assert {path.stem for path in results.glob("figures/fig05*")} == {f"fig05_cifar_curves{end}" for end in ends}
    for end in ends:
        scale, _, precision = end.removeprefix("@").partition(",")
        chosen = [f"scale={scale or 'paper'}", f"precision={precision or 'fp32'}"]
        assert tables.main(["table1", *chosen, "--out", str(tmp_path)]) == 0
        recorded = results / "tables" / f"table1{end}.md"
        assert (tmp_path / recorded.name).read_text(encoding="utf-8") == recorded.read_text(encoding="utf-8")


def test_a_page_of_its_own_is_written_from_records_found_by_their_names(tmp_path, capsys):
    runs, out = tmp_path / "runs", tmp_path / "out"
    history = {"epoch": [1, 15], "step": [79, 1185], "train/loss": [4.0, 3.0], "val/accuracy": [5.0, 20.5]}
    write_record(runs, setting_of("table1_cifar", "scale=proxy", task="cifar100", optim="sgd"), 2, history)
    assert tables.main(["table1", "--runs", str(runs), "--out", str(out)]) == 0
    text = (out / "table1@proxy.md").read_text(encoding="utf-8")
    assert text == table1.page(load(table1.DRAWS, runs))
    rows, heading = table_of(text)
    assert heading[3] == "here, at proxy scale"
    assert rows["CIFAR-100", "SGD"][1:] == ["20.50", "1"]
    assert rows["CIFAR-10", "SGD"][1:] == ["not run yet", "-"]


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
