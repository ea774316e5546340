"""Tables 1, 5 and 6 and the dispute: published numbers, ours beside them, and what is recorded."""

from __future__ import annotations

import re
import subprocess

import pytest

from experiments.engine.composition import experiments
from scripts import tables
from scripts.reporting import modules, published
from scripts.reporting.cells import Number
from scripts.reporting.tables import dispute_cifar, swa_cifar, table1, table5, table6
from tests.helpers.pages import rows_of, trained
from tests.helpers.recorded import load, setting_of, write_record

PAGES = [name for name in modules.names("tables") if hasattr(modules.module("tables", name), "page")]
FILES = sorted(path.stem for folder in published.FOLDERS for path in folder.glob("*.yaml"))
SENTENCE = "Mean ± one standard deviation over seeds, at the last epoch."
NEAR = "**Rows of one column compare; columns of different scales do not compare.**"


def test_table_1_has_the_paper_s_eight_rows_in_its_order_the_reproduction_and_ours_beside_them():
    runs = [trained("sgd", 20.0, task="cifar100", scale="proxy"), trained("sgd", 22.0, 2, "cifar100", scale="proxy")]
    page = str(table1.page([*runs, trained(accuracy=17.45, task="cifar100", scale="proxy")]))
    assert rows_of(page)[:9] == [
        ["data set", "optimizer", "the paper", "the reproduction", "here, at proxy scale", "seeds here"],
        ["CIFAR-10", "SGD", "95.23 ± 0.19", "95.29 ± 0.07", "not run yet", "-"],
        ["CIFAR-10", "Polyak", "95.26 ± 0.04 \\*", "95.14 ± 0.14", "not run yet", "-"],
        ["CIFAR-10", "Adam", "94.84 ± 0.16", "94.79 ± 0.14", "not run yet", "-"],
        ["CIFAR-10", "Lookahead", "95.27 ± 0.06", "-", "not run yet", "-"],
        ["CIFAR-100", "SGD", "78.24 ± 0.18", "78.16", "21.00 ± 1.41", "2"],
        ["CIFAR-100", "Polyak", "77.99 ± 0.42 \\*", "77.86", "not run yet", "-"],
        ["CIFAR-100", "Adam", "76.88 ± 0.39 \\*", "77.43", "not run yet", "-"],
        ["CIFAR-100", "Lookahead", "78.34 ± 0.05", "-", "17.45", "1"],
    ]
    assert f"{SENTENCE} {NEAR} ResNet-8 for ResNet-18, 50,000 images, 200 epochs; a proxy, not the paper's" in page
    assert "fp32; 1 to 2 seeds per setting" in page


def test_table_1_says_what_the_reproduction_is_and_what_it_has_besides():
    page = str(table1.page([trained("sgd")]))
    assert (
        "The reproduction: [Romano-Scott, Joyce and Kazantzidis, COMP6248 Reproducibility Challenge, 2020]"
        "(https://github.com/Connah-rs/lookahead); CIFAR-10 with 3 seeds, CIFAR-100 with one seed. "
    ) in page
    adam = "Adam 93.72 ± 0.12, Lookahead around Adam 93.85 ± 0.17 (CIFAR-10); Adam 71.69 (CIFAR-100)."
    assert f"at its defaults: {adam}" in page
    assert "the last epoch is 0.0030 (CIFAR-10) and 0.0170 (CIFAR-100) there." in page
    assert rows_of(page)[9:] == [
        ["data set", "network", "SGD", "Lookahead", "SLRLA"],
        ["CIFAR-10", "VGG-16", "92.13", "92.38", "92.63"],
        ["CIFAR-10", "WRN-16-10", "95.51", "95.73", "96.08"],
        ["CIFAR-100", "VGG-16", "69.97", "70.20", "70.63"],
        ["CIFAR-100", "WRN-16-10", "78.95", "79.54", "79.85"],
    ]


@pytest.mark.parametrize("page", [table1.page, table5.page, table6.page, dispute_cifar.page])
def test_at_the_paper_s_scale_nothing_warns(page):
    text = str(page([trained("sgd", momentum=0.9)]))
    assert "do not compare" not in text
    assert f"{SENTENCE} ResNet-18, 50,000 images, 200 epochs; full scale; fp32" in text
    assert rows_of(text)[0][-2:] == ["here", "seeds here"]
    assert NEAR in str(page([trained("sgd", momentum=0.9, scale="short")]))


def test_table_5_has_a_row_per_k_and_alpha_and_tells_whether_the_paper_s_sentence_holds():
    runs = [trained(task="cifar100", k=5, alpha=0.8, accuracy=value, seed=seed) for seed, value in ((1, 77), (2, 79))]
    runs.append(trained(task="cifar100", k=10, alpha=0.5, accuracy=76.0))
    page = str(table5.page([*runs, trained("sgd", task="cifar100", accuracy=77.5)]))
    assert rows_of(page) == [
        ["setting", "the paper", "here", "seeds here"],
        ["k = 5, α = 0.5", "78.24 ± 0.02", "not run yet", "-"],
        ["k = 5, α = 0.8", "78.27 ± 0.04", "78.00 ± 1.41", "2"],
        ["k = 10, α = 0.5", "78.19 ± 0.22", "76.00", "1"],
        ["k = 10, α = 0.8", "77.94 ± 0.22", "not run yet", "-"],
        ["SGD", "77.72", "77.50", "1"],
    ]
    claim = (
        "all settings have a higher validation accuracy than SGD, 4 of 4. Settings with a higher mean than SGD's here: "
    )
    assert f"{claim}1 of the 2 that were run." in page
    assert "than SGD, 4 of 4.\n" in str(table5.page(runs))
    assert "than SGD, 4 of 4.\n" in str(table5.page([trained("sgd", task="cifar100")]))
    assert "picture" not in page


def test_table_5_says_that_the_paper_has_other_numbers_for_the_same_in_table_1():
    # 78.27 alone is above Table 1's 78.24.
    assert (
        "Table 1 has 78.34 ± 0.05 (k = 5, α = 0.8) and 78.24 ± 0.18 (SGD), and 1 of 4 settings are above that SGD."
    ) in str(table5.page([trained("sgd", task="cifar100")]))


def test_table_6_has_the_three_policies_and_sgd_beside_the_paper_s_numbers():
    page = str(table6.page([trained(inner_state="maintain", accuracy=95.0), trained("sgd", 94.0)]))
    assert rows_of(page) == [
        ["setting", "the paper", "here", "seeds here"],
        ["Lookahead, maintain", "95.15 ± 0.08", "95.00", "1"],
        ["Lookahead, interpolate", "95.16 ± 0.13", "not run yet", "-"],
        ["Lookahead, reset", "94.91 ± 0.05", "not run yet", "-"],
        ["SGD", "-", "94.00", "1"],
    ]
    assert (
        "has 95.27 ± 0.06 where Table 6 has 94.91 ± 0.05. Table 1's SGD, at 95.23 ± 0.19, is above all three." in page
    )
    assert "picture" not in page


@pytest.mark.parametrize(("scale", "heading"), [("paper", "here"), ("short", "here, at short scale")])
def test_the_dispute_has_the_plain_inner_optimizer_beside_the_paper_s(scale, heading):
    runs = [
        trained(task="cifar100", accuracy=73.0, momentum=0, weight_decay=0, scale=scale),
        trained(task="cifar100", accuracy=78.0, momentum=0.9, weight_decay=1e-3, scale=scale),
        trained("sgd", task="cifar10", accuracy=95.0, momentum=0.9, weight_decay=1e-3, scale=scale),
    ]
    plain, paper = "Lookahead, inner SGD without momentum and weight decay", "Lookahead, as in the paper"
    assert rows_of(str(dispute_cifar.page(runs))) == [
        ["data set", "setting", "the paper", "the reproduction", heading, "seeds here"],
        ["CIFAR-10", plain, "-", "93.23 ± 0.13", "not run yet", "-"],
        ["CIFAR-10", paper, "95.27 ± 0.06", "-", "not run yet", "-"],
        ["CIFAR-10", "SGD", "95.23 ± 0.19", "95.29 ± 0.07", "95.00", "1"],
        ["CIFAR-100", plain, "-", "73.08", "73.00", "1"],
        ["CIFAR-100", paper, "78.34 ± 0.05", "-", "78.00", "1"],
        ["CIFAR-100", "SGD", "78.24 ± 0.18", "78.16", "not run yet", "-"],
    ]


@pytest.mark.parametrize("name", FILES)
def test_published_numbers_say_what_they_are_and_where_they_can_be_read(name):
    numbers = published.published(name)
    of_rows = {row.get("metric") for row in numbers.get("rows", ())}
    metrics = {numbers.get("metric"), *numbers.get("metrics", {}).values(), *of_rows} - {None}
    perplexities = {f"{split}/original_perplexity" for split in ("train", "val", "test")}
    assert (
        metrics
        in (
            {"val/accuracy"},
            {"val/accuracy", "val/top5_accuracy"},
            {"val/original_perplexity"},
            perplexities,
            {"val/bleu", "test/bleu"},
            {"test/bleu"},
            set(),  # a grid without numbers
        )
        or name == "stated"
    )
    for cited in [numbers] if "source" in numbers else numbers.get("rows", ()):
        assert cited["source"]
        assert re.fullmatch(r"https://\S+", cited["address"])


def test_every_published_number_stands_in_a_table():
    one, wide = trained("sgd", momentum=0.9), trained("sgd", task="cifar100_wrn28_10")
    pages = [str(module.page([one])) for module in (table1, table5, table6, dispute_cifar)]
    text = "\n".join([*pages, str(swa_cifar.page([wide]))])
    shown = 0
    for name in ("table1", "table5", "table6", "reproduction", "swa"):
        for row in published.published(name)["rows"]:
            shown += 1
            assert str(published.published_number(row)) in text, (name, row)
    assert shown == 8 + 5 + 3 + 11 + 6


def test_a_published_value_is_a_mean_its_deviation_and_a_star_where_one_source_alone_has_it():
    values = [{"mean": 95.2, "std": 0.04}, {"mean": 77.7, "std": None}, {"mean": 1, "std": 2, "verified": False}, None]
    found = [str(published.published_number(row)) for row in values]
    assert found == ["95.20 ± 0.04", "77.70", "1.00 ± 2.00 \\*", "-"]
    assert published.published_number({"mean": 1.0, "verified": True}) == Number("1.00")


def test_the_paper_s_table_1_is_verified_where_two_sources_have_it():
    rows = published.published("table1")["rows"]
    assert len({(row["task"], row["optim"]) for row in rows}) == 8
    assert all(row["verified"] == (len(row["sources"]) > 1) for row in rows)


def test_a_page_of_its_own_is_written_from_records_found_by_their_names(tmp_path, capsys):
    runs, out = tmp_path / "runs", tmp_path / "out"
    history = {"epoch": [1, 15], "step": [79, 1185], "val/accuracy": [5.0, 20.5]}
    write_record(runs, setting_of("table1_cifar", "scale=proxy", task="cifar100", optim="sgd"), 2, history)
    assert tables.main(["table1", "--runs", str(runs), "--out", str(out)]) == 0
    text = (out / "table1@proxy.md").read_text(encoding="utf-8")
    assert text == str(table1.page(load(table1.DRAWS, runs)))
    rows = rows_of(text)
    assert rows[0][4] == "here, at proxy scale"
    assert rows[5][4:] == ["20.50", "1"]
    assert rows[1][4:] == ["not run yet", "-"]
    assert (
        "23 of 24 runs are missing; python scripts/status.py --commands table1 scale=proxy" in capsys.readouterr().out
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_each_page_in_results_is_what_the_records_give_and_none_is_missing(name, tmp_path, capsys):
    folder = modules.REPOSITORY / "results" / "tables"
    list(tables.write_all(name, [modules.RECORDS], [], False, tmp_path))
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    recorded = [path for path in folder.iterdir() if path.stem.partition("@")[0] == name]
    assert written == {path.name: path.read_text(encoding="utf-8") for path in recorded}


def test_every_page_in_results_is_of_a_table():
    folder = modules.REPOSITORY / "results" / "tables"
    assert {path.stem.partition("@")[0] for path in folder.iterdir()} <= set(PAGES)
    assert {"table1", "table5", "table6", "dispute_cifar", "searches_cifar", "swa_cifar"} <= set(PAGES)


def test_every_experiment_is_drawn_by_a_figure_or_a_table():
    drawn = {
        draws.experiment
        for kind in ("figures", "tables")
        for name in modules.names(kind)
        for draws in modules.module(kind, name).DRAWS
    }
    assert drawn == set(experiments())


@pytest.mark.parametrize("name", PAGES)
def test_make_runs_what_is_missing_of_each_table_and_lists_it(name):
    def make(*words):
        command = [
            "make",
            "--no-print-directory",
            "-f",
            str(modules.REPOSITORY / "Makefile"),
            *words,
            "PY=python",
            "READY=",
            "ARGS=",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=modules.REPOSITORY).stdout

    *_, last = make("--dry-run", name).splitlines()
    assert last.split() == f"python scripts/tables.py {name} --runs outputs --runs results/runs".split()
    listed = re.findall(r"^  make (\S+)", make("help"), flags=re.M)
    assert ("table%" if name.startswith("table") else name) in listed
