"""Tables 1, 5 and 6, the dispute, C.1's searches and SWA: published numbers, ours beside them, and what is recorded."""

from __future__ import annotations

import itertools
import math
import re
import subprocess

import pandas as pd
import pytest

from experiments.engine.composition import experiments
from experiments.engine.experiment import settings
from scripts import tables
from scripts.reporting import modules, published
from scripts.reporting.records import load, load_if_run
from scripts.reporting.series import series
from scripts.reporting.tables import dispute_cifar, searches_cifar, swa_cifar, table1, table5, table6
from tests.helpers.recorded import a_run, setting_of, write_record

PAGES = [name for name in modules.names("tables") if hasattr(modules.module("tables", name), "page")]
FILES = sorted(path.stem for path in (modules.REPOSITORY / "results" / "paper").glob("*.yaml"))
SENTENCE = "Mean ± one standard deviation over seeds, at the last epoch."
NEAR = "**Rows of one column compare; columns of different scales do not compare.**"


def trained(optim="la_sgd", accuracy=90.0, seed=1, task="cifar10", scale="paper", **values):
    """Return a run of 200 epochs that ends with this accuracy; `values` are of the optimizer."""
    history = {"epoch": [1, 200], "step": [391, 78_200], "val/accuracy": [10.0, accuracy]}
    model = {"_target_": f"experiments.vision.resnet.{'resnet18' if scale != 'proxy' else 'resnet8'}"}
    run = a_run(
        seed,
        history,
        task__name=task,
        optim__name=optim,
        scale=scale,
        model=model,
        **{f"optim__{key}": value for key, value in values.items()},
    )
    run.summary["samples"] = 200 * 50_000
    return run


def rows_of(page):
    """Return the cells of each row of a page's tables, their headings among them."""
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines if not line[0].strip().startswith("---")]


def test_table_1_has_the_paper_s_eight_rows_in_its_order_the_reproduction_and_ours_beside_them():
    runs = [trained("sgd", 20.0, task="cifar100", scale="proxy"), trained("sgd", 22.0, 2, "cifar100", "proxy")]
    page = table1.page([*runs, trained(accuracy=17.45, task="cifar100", scale="proxy")])
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
    page = table1.page([trained("sgd")])
    assert (
        "The reproduction: [Romano-Scott, Joyce and Kazantzidis, COMP6248 Reproducibility Challenge, 2020]"
        "(https://github.com/Connah-rs/lookahead); CIFAR-10 with 3 seeds, CIFAR-100 with one seed. "
    ) in page
    adam = "Adam 93.72 ± 0.12, Lookahead around Adam 93.85 ± 0.17 (CIFAR-10); Adam 71.69 (CIFAR-100)."
    assert f"at its defaults: {adam}" in page
    assert rows_of(page)[9:] == [
        ["data set", "network", "SGD", "Lookahead"],
        ["CIFAR-10", "VGG-16", "92.13", "92.38"],
        ["CIFAR-10", "WRN-16-10", "95.51", "95.73"],
        ["CIFAR-100", "VGG-16", "69.97", "70.20"],
        ["CIFAR-100", "WRN-16-10", "78.95", "79.54"],
    ]


@pytest.mark.parametrize("page", [table1.page, table5.page, table6.page, dispute_cifar.page])
def test_at_the_paper_s_scale_nothing_warns(page):
    text = page([trained("sgd", momentum=0.9)])
    assert "do not compare" not in text
    assert f"{SENTENCE} ResNet-18, 50,000 images, 200 epochs; full scale; fp32" in text
    assert rows_of(text)[0][-2:] == ["here", "seeds here"]
    assert NEAR in page([trained("sgd", momentum=0.9, scale="short")])


def test_table_5_has_a_row_per_k_and_alpha_and_tells_whether_the_paper_s_sentence_holds():
    runs = [trained(task="cifar100", k=5, alpha=0.8, accuracy=value, seed=seed) for seed, value in ((1, 77), (2, 79))]
    runs.append(trained(task="cifar100", k=10, alpha=0.5, accuracy=76.0))
    page = table5.page([*runs, trained("sgd", task="cifar100", accuracy=77.5)])
    assert rows_of(page) == [
        ["", "the paper", "here", "seeds here"],
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
    assert "than SGD, 4 of 4.\n" in table5.page(runs)
    assert "than SGD, 4 of 4.\n" in table5.page([trained("sgd", task="cifar100")])
    assert "picture" not in page


def test_table_5_says_that_the_paper_has_other_numbers_for_the_same_in_table_1():
    # 78.27 alone is above Table 1's 78.24.
    assert (
        "Table 1 has 78.34 ± 0.05 (k = 5, α = 0.8) and 78.24 ± 0.18 (SGD), and 1 of 4 settings are above that SGD."
    ) in table5.page([trained("sgd", task="cifar100")])


def test_table_6_has_the_three_policies_and_sgd_beside_the_paper_s_numbers():
    page = table6.page([trained(inner_state="maintain", accuracy=95.0), trained("sgd", 94.0)])
    assert rows_of(page) == [
        ["", "the paper", "here", "seeds here"],
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
    assert rows_of(dispute_cifar.page(runs)) == [
        ["data set", "setting", "the paper", "the reproduction", heading, "seeds here"],
        ["CIFAR-10", plain, "-", "93.23 ± 0.13", "not run yet", "-"],
        ["CIFAR-10", paper, "95.27 ± 0.06", "-", "not run yet", "-"],
        ["CIFAR-10", "SGD", "95.23 ± 0.19", "95.29 ± 0.07", "95.00", "1"],
        ["CIFAR-100", plain, "-", "73.08", "73.00", "1"],
        ["CIFAR-100", paper, "78.34 ± 0.05", "-", "78.00", "1"],
        ["CIFAR-100", "SGD", "78.24 ± 0.18", "78.16", "not run yet", "-"],
    ]


def section(page, name):
    """Return the heading of an optimizer's grid and its rows."""
    (found,) = (part for part in page.split("\n## ")[1:] if part.startswith(f"{name}:"))
    return found.splitlines()[0], rows_of(found.split("\n\n")[1])


def searched():
    """Return runs of three of SGD's settings and one of Lookahead's."""
    found = {(0.05, 1e-3): 95.2, (0.1, 1e-3): 95.3, (0.3, 3e-4): 93.0}
    runs = [trained("sgd", accuracy, lr=lr, weight_decay=decay) for (lr, decay), accuracy in found.items()]
    return [*runs, trained(accuracy=95.0, k=5, alpha=0.8, lr=0.1, weight_decay=1e-3)]


def test_a_search_is_a_grid_with_our_best_in_bold_and_the_paper_s_choice_marked():
    page = searches_cifar.page(searched())
    assert page.startswith("# Appendix C.1's searches, CIFAR-10: final validation accuracy (%)\n")
    none = "not run yet"
    assert section(page, "SGD") == (
        "SGD: 3 of 18 run here",
        [
            ["learning rate", "weight decay 0.0003", "weight decay 0.001", "weight decay 0.003"],
            ["0.01", none, none, none],
            ["0.03", none, none, none],
            ["0.05", none, "95.20 †", none],
            ["0.1", none, "**95.30**", none],
            ["0.2", none, none, none],
            ["0.3", "93.00", none, none],
        ],
    )
    assert section(page, "Lookahead") == (
        "Lookahead: 1 of 6 run here",
        [["k", "α 0.2", "α 0.5", "α 0.8"], ["5", none, none, "95.00 †"], ["10", none, none, none]],
    )
    assert section(page, "Polyak")[1][4] == ["0.3", "not run yet †"]
    assert section(page, "Adam")[0] == "Adam: 0 of 20 run here"
    assert "The best of a grid is optimistic" in page
    assert "one seed (1)" in page


def test_the_best_of_a_search_is_of_what_is_finite_and_its_scale_is_named():
    decay = {"weight_decay": 1e-3, "scale": "short"}
    runs = [trained("polyak", value, lr=lr, **decay) for lr, value in ((0.05, math.nan), (0.3, 94.0), (0.5, 93.0))]
    heading, rows = section(searches_cifar.page(runs), "Polyak")
    assert heading == "Polyak: 3 of 5 run here, at short scale"
    assert [row[1] for row in rows[1:]] == ["not finite", "not run yet", "not run yet", "**94.00** †", "93.00"]
    alone = searches_cifar.page([trained("polyak", math.nan, lr=0.05, **decay)])
    assert "**" not in alone
    runs[2].summary["status"] = "diverged"
    rows = section(searches_cifar.page(runs), "Polyak")[1]
    assert [row[1] for row in rows[1:]] == ["not finite", "not run yet", "not run yet", "94.00 †", "diverged"]


def test_where_all_of_the_grids_has_run_nothing_is_said_to_stand_as_not_run():
    runs = [
        trained(
            search["optim"], 90.0, **{search[axis]["key"].partition(".")[2]: value for axis, value in point.items()}
        )
        for search in published.published("searches")["searches"]
        for pair in itertools.product(search["rows"]["values"], search["columns"]["values"])
        for point in [dict(zip(("rows", "columns"), pair, strict=True))]
    ]
    page = searches_cifar.page(runs)
    assert len(runs) == 18 + 5 + 20 + 6
    assert "not run yet" not in page


@pytest.mark.slow
def test_the_grids_and_choices_are_those_of_the_experiments_and_of_table_1():
    experiments = {
        "sgd": "search_sgd",
        "polyak": "search_polyak",
        "adamw": "search_adamw",
        "la_sgd": "search_lookahead",
    }
    assert {draws.experiment for draws in searches_cifar.DRAWS} == set(experiments.values())
    for search in published.published("searches")["searches"]:
        keys = [search[axis]["key"].partition(".")[2] for axis in ("rows", "columns")]
        expected = set(itertools.product(search["rows"]["values"], search["columns"]["values"]))
        found = [setting.values for setting in settings(experiments[search["optim"]], ["scale=paper"])]
        assert {tuple(values["optim"][key] for key in keys) for values in found} == expected
        assert {values["task"]["name"] for values in found} == {"cifar10"}
        chosen = setting_of("table1_cifar", "scale=paper", task="cifar10", optim=search["optim"]).values["optim"]
        assert [chosen[key] for key in keys] == search["chosen"]


EPOCHS = [1, 2, 3, 4]


def record(root, experiment, seed=1, accuracy=10.0, probed=True, **filters):
    """Write a run of four epochs of smoke scale, at whose end the average has `accuracy` and the weights half of it."""
    history = {"epoch": EPOCHS, "step": [5 * epoch for epoch in EPOCHS], "val/accuracy": [1.0, 2.0, 3.0, accuracy]}
    where = {key.replace("__", "."): value for key, value in filters.items()}
    setting = setting_of(experiment, "scale=smoke", where=where)
    folder = write_record(root, setting, seed, history, samples=4 * 72)
    if probed:
        before = {**history, "val/accuracy": [0.5, 1.0, 1.5, accuracy / 2]}
        pd.DataFrame(before).to_csv(folder / "unaveraged.csv", index=False)


def test_swa_has_a_row_per_network_and_average_beside_the_swa_code_s_numbers(tmp_path):
    wide, narrow = "cifar100_wrn28_10", "cifar100_preresnet110"
    for seed, accuracy in ((1, 20.0), (2, 22.0)):
        record(tmp_path, "swa_baseline", seed, accuracy, probed=False, task=wide)
    record(tmp_path, "swa_inner_loop", accuracy=30.0, task=wide, optim="la_sgd")
    record(tmp_path, "swa_inner_loop", accuracy=40.0, task=narrow, optim="swa")
    record(tmp_path, "swa_start", accuracy=50.0, optim="swa", average__start=0)
    record(tmp_path, "swa_start", accuracy=60.0, optim="la_sgd", average__start=1)
    page = swa_cifar.page(load(swa_cifar.DRAWS, tmp_path))
    none, unknown = ["not run yet", "-", "-"], "-"
    first, second = "WRN-28-10", "PreResNet-110"
    headings = ["network", "optimizer", "epochs averaged", "the SWA code", "here, at smoke scale", "before averaging"]
    assert rows_of(page) == [
        [*headings, "seeds here"],
        [first, "SGD", "none of 4", "80.82 ± 0.23", "21.00 ± 1.41", "-", "2"],
        [first, "SWA over SGD", "161 to 300", "82.15 ± 0.27", *none],
        [first, "SWA over Lookahead", "4 to 4", unknown, "30.00", "15.00", "1"],
        [second, "SGD", "none of 150", "76.77 ± 0.38", *none],
        [second, "SWA over SGD", "1 to 4", unknown, "50.00", "25.00", "1"],
        [second, "SWA over SGD", "10 to 225", unknown, *none],
        [second, "SWA over SGD", "3 to 4", "79.10 ± 0.21", "40.00", "20.00", "1"],
        [second, "SWA over Lookahead", "1 to 225", unknown, *none],
        [second, "SWA over Lookahead", "2 to 4", unknown, "60.00", "30.00", "1"],
        [second, "SWA over Lookahead", "126 to 225", unknown, *none],
    ]
    assert (
        f"{SENTENCE} {NEAR} WRN-10-1 for WRN-28-10, 72 of 50,000 images, 4 of 200 epochs; "
        "WRN-10-1 for WRN-28-10, 72 of 50,000 images, 4 of 300 epochs; "
        "PreResNet-11 for PreResNet-110, 72 of 50,000 images, 4 of 225 epochs; smoke scale"
    ) in " ".join(page.split())
    assert "The epochs of what was not run yet are those at full scale." in page
    assert "its SWA has 81.46 ± 0.23 (WRN-28-10) and 78.75 ± 0.16 (PreResNet-110), which is not" in page


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["paper", "short", "proxy", "smoke"])
def test_each_start_of_an_average_is_told_at_every_scale(scale):
    found = set()
    for draws in swa_cifar.DRAWS:
        for setting in settings(draws.experiment, [f"scale={scale}"]):
            config = a_run(task__name=setting.values["task"]["name"]).config
            config.merge_with({"optim": setting.values["optim"], "average": setting.values["average"]})
            config.merge_with({"schedule": setting.values["schedule"]})
            run = type(a_run())(config, {})
            (group,) = series([run], by=swa_cifar.BY)
            found.add((group.values[0], *swa_cifar.kind_of(group)))
            if scale == "paper" and config.average:
                start = swa_cifar.STARTS[group.values[0]][swa_cifar.kind_of(group)[1]]
                assert start == config.average.start + 1
    starts = {task: set(of_task) for task, of_task in swa_cifar.STARTS.items()}
    expected = {(task, "sgd", swa_cifar.ALONE) for task in starts}
    expected |= {(task, name, start) for task in starts for name in ("swa", "la_sgd") for start in starts[task]}
    assert found == expected
    assert len(expected) == 2 + 2 * 1 + 2 * 3


def test_swa_without_the_probe_has_no_weights_before_averaging():
    run = trained("swa", 80.0, task="cifar100_wrn28_10")
    run.config.merge_with({"average": {"start": 160}, "schedule": {"until": 161}, "probe": None})
    (row,) = (row for row in rows_of(swa_cifar.page([run])) if row[1] == "SWA over SGD" and row[0] == "WRN-28-10")
    assert row == ["WRN-28-10", "SWA over SGD", "161 to 200", "82.15 ± 0.27", "80.00", "-", "1"]


def test_swa_that_diverged_says_so_in_both_columns():
    run = trained("swa", 80.0, task="cifar100_wrn28_10")
    run.config.merge_with({"average": {"start": 160}, "schedule": {"until": 161}, "probe": {"splits": ["val"]}})
    run.summary["status"] = "diverged"
    (row,) = (row for row in rows_of(swa_cifar.page([run])) if row[1] == "SWA over SGD" and row[0] == "WRN-28-10")
    assert row[4:] == ["diverged", "diverged", "1"]


@pytest.mark.parametrize("name", FILES)
def test_published_numbers_say_what_they_are_and_where_they_can_be_read(name):
    numbers = published.published(name)
    assert numbers["metric"] == "val/accuracy"
    assert numbers["source"]
    assert re.fullmatch(r"https://\S+", numbers["address"])


def test_every_published_number_stands_in_a_table():
    one, wide = trained("sgd", momentum=0.9), trained("sgd", task="cifar100_wrn28_10")
    pages = [module.page([one]) for module in (table1, table5, table6, dispute_cifar)]
    text = "\n".join([*pages, swa_cifar.page([wide])])
    shown = 0
    for name in ("table1", "table5", "table6", "reproduction", "swa"):
        for row in published.published(name)["rows"]:
            shown += 1
            assert published.value_text(row) in text, (name, row)
    assert shown == 8 + 5 + 3 + 11 + 6


def test_a_published_value_is_a_mean_its_deviation_and_a_star_where_one_source_alone_has_it():
    values = [{"mean": 95.2, "std": 0.04}, {"mean": 77.7, "std": None}, {"mean": 1, "std": 2, "verified": False}, None]
    assert list(map(published.value_text, values)) == ["95.20 ± 0.04", "77.70", "1.00 ± 2.00 \\*", "-"]
    assert published.value_text({"mean": 1.0, "verified": True}) == "1.00"


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
    assert text == table1.page(load(table1.DRAWS, runs))
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
    module = modules.module("tables", name)
    folder = modules.REPOSITORY / "results" / "tables"
    written = {}
    for runs in load_if_run(name, module.DRAWS, [modules.RECORDS], [], named=False):
        path = tables.write(name, module, runs, tmp_path)
        written[path.name] = path.read_text(encoding="utf-8")
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
