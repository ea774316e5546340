"""The pages of C.1's searches and of SWA (D.3): grids, choices, averages and what they are made of."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from experiments.engine.experiment import settings
from scripts.reporting import published
from scripts.reporting.series import series
from scripts.reporting.tables import searches_cifar, swa_cifar
from tests.helpers.pages import grid_of, points_of, rows_of, trained
from tests.helpers.recorded import a_run, load, setting_of, write_record

SENTENCE = "Mean ± one standard deviation over seeds, at the last epoch."
NEAR = "**Rows of one column compare; columns of different scales do not compare.**"


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
    page = str(searches_cifar.page(searched()))
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
    heading, rows = section(str(searches_cifar.page(runs)), "Polyak")
    assert heading == "Polyak: 3 of 5 run here, at short scale"
    assert [row[1] for row in rows[1:]] == ["not finite", "not run yet", "not run yet", "**94.00** †", "93.00"]
    alone = str(searches_cifar.page([trained("polyak", math.nan, lr=0.05, **decay)]))
    assert "**" not in alone
    runs[2].summary["status"] = "diverged"
    rows = section(str(searches_cifar.page(runs)), "Polyak")[1]
    assert [row[1] for row in rows[1:]] == ["not finite", "not run yet", "not run yet", "94.00 †", "diverged"]


def test_where_all_of_the_grids_has_run_nothing_is_said_to_stand_as_not_run():
    runs = [
        trained(
            search["optim"], 90.0, **{search[axis]["key"].partition(".")[2]: value for axis, value in point.items()}
        )
        for search in published.published("searches")["searches"]
        for pair in grid_of(search)
        for point in [dict(zip(("rows", "columns"), pair, strict=True))]
    ]
    page = str(searches_cifar.page(runs))
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
        found = settings(experiments[search["optim"]], ["scale=paper"])
        assert points_of(found, search) == grid_of(search)
        assert {each.values["task"]["name"] for each in found} == {"cifar10"}
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
    page = str(swa_cifar.page(load(swa_cifar.DRAWS, tmp_path)))
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
    (row,) = (row for row in rows_of(str(swa_cifar.page([run]))) if row[1] == "SWA over SGD" and row[0] == "WRN-28-10")
    assert row == ["WRN-28-10", "SWA over SGD", "161 to 200", "82.15 ± 0.27", "80.00", "-", "1"]


def test_swa_that_diverged_says_so_in_both_columns():
    run = trained("swa", 80.0, task="cifar100_wrn28_10")
    run.config.merge_with({"average": {"start": 160}, "schedule": {"until": 161}, "probe": {"splits": ["val"]}})
    run.summary["status"] = "diverged"
    (row,) = (row for row in rows_of(str(swa_cifar.page([run]))) if row[1] == "SWA over SGD" and row[0] == "WRN-28-10")
    assert row[4:] == ["diverged", "diverged", "1"]
