"""The paper's values beside ours: which runs they are held against, and what is said of another scale."""

from __future__ import annotations

import pytest

from experiments.engine.experiment import settings
from scripts.reporting.report.evidence import Evidence
from scripts.reporting.report.values import NOT_JUDGED, compare, tables, values_of
from scripts.reporting.report.verdicts import NOT_REPRODUCED, NOT_RUN, REPRODUCED, UNDECIDED, UNREADABLE
from tests.helpers.recorded import setting_of, write_record


def write(root, optim, accuracies, *overrides, task="cifar100"):
    for seed, accuracy in enumerate(accuracies, 1):
        history = {"epoch": [1], "step": [10], "val/accuracy": [accuracy]}
        write_record(root, setting_of("table1_cifar", *overrides, task=task, optim=optim), seed, history)


def table1(root):
    return {one.value.label: one for one in compare("table1", Evidence([root]))}


def test_a_value_of_the_papers_scale_is_judged(tmp_path):
    """By hand: 78.3 ± .2484 (t(2) .1 / sqrt(3)) and 78.24 ± .4471 overlap; 79.3 ± .2484 and 78.34 ± .1242 do not."""
    write(tmp_path, "sgd", [78.2, 78.3, 78.4])
    write(tmp_path, "la_sgd", [79.2, 79.3, 79.4])
    write(tmp_path, "adamw", [76.0])
    found = table1(tmp_path)
    sgd, lookahead, adam = (found[f"CIFAR-100, {name}"] for name in ("SGD", "Lookahead", "Adam"))
    assert (sgd.paper, sgd.ours, sgd.place, sgd.verdict) == ("78.24 ± 0.18", "78.30 ± 0.10", "paper", REPRODUCED)
    # Welch: errors .1 and .18 over the root of 3, degrees (.0424 / 3)^2 / (.0001 + .00104976) 2 9 = 3.13, t = 3.106
    assert sgd.difference == "+0.06 [-0.31, +0.43]"
    assert lookahead.verdict == NOT_REPRODUCED
    assert (adam.ours, adam.difference, adam.verdict) == ("76.00", "-0.88", UNDECIDED)
    assert (found["CIFAR-100, Polyak"].ours, found["CIFAR-100, Polyak"].verdict) == ("", NOT_RUN)


def test_a_value_of_a_smaller_scale_is_shown_and_not_judged(tmp_path):
    write(tmp_path, "sgd", [78.2, 78.3, 78.4], "scale=short")
    found = table1(tmp_path)["CIFAR-100, SGD"]
    assert (found.place, found.ours, found.difference, found.verdict) == ("short", "78.30 ± 0.10", "", NOT_JUDGED)


def test_a_value_whose_records_cannot_be_read_is_not_one_that_was_not_run(tmp_path):
    write(tmp_path, "sgd", [78.2], "scale=short")
    write(tmp_path, "adamw", [76.0], "scale=short")
    (tmp_path / "cifar100-adamw@short" / "seed-1" / "summary.json").write_text("{")
    found = table1(tmp_path)
    verdicts = [found[f"CIFAR-100, {name}"].verdict for name in ("SGD", "Adam", "Polyak")]
    assert verdicts == [NOT_JUDGED, UNREADABLE, NOT_RUN]


def test_one_scale_stands_beside_the_papers_the_one_with_most_of_the_table(tmp_path):
    write(tmp_path, "sgd", [70.0, 71.0, 72.0], "scale=short")
    write(tmp_path, "sgd", [50.0, 51.0, 52.0], "scale=proxy")
    write(tmp_path, "la_sgd", [50.0, 51.0, 52.0], "scale=proxy")
    write(tmp_path, "adamw", [77.0, 77.1, 77.2])
    found = table1(tmp_path)
    places = {name: found[f"CIFAR-100, {name}"].place for name in ("SGD", "Lookahead", "Adam", "Polyak")}
    assert places == {"SGD": "proxy", "Lookahead": "proxy", "Adam": "paper", "Polyak": ""}


def test_an_epoch_of_table_2_is_as_far_in_a_shorter_run(tmp_path):
    """Epoch 50 of 60 is epoch 5 of 6; and a small network does not stand for ResNet-152."""
    setting = setting_of("table2_imagenet", "scale=proxy", task="imagenet_aggressive", optim="la_sgd")
    tops = {"val/accuracy": [1.0, 2.0, 3.0, 4.0, 75.0, 76.0], "val/top5_accuracy": [9.0] * 6}
    for seed in (1, 2, 3):
        write_record(tmp_path, setting, seed, {"epoch": [*range(1, 7)], "step": [*range(10, 70, 10)], **tops})
    found = {one.value.label: one for one in compare("table2", Evidence([tmp_path]))}
    assert found["ResNet-50, Lookahead, epoch 50, top 1"].ours == "75.00 ± 0.00"
    assert found["ResNet-50, Lookahead, epoch 60, top 1"].ours == "76.00 ± 0.00"
    assert found["ResNet-152, Lookahead, epoch 60, top 1"].ours == ""


def test_without_a_published_deviation_the_interval_is_that_of_our_mean(tmp_path):
    """77.8 ± .2484, less 77.72."""
    write(tmp_path, "sgd", [77.7, 77.8, 77.9])
    found = {one.value.label: one for one in compare("table5", Evidence([tmp_path]))}
    assert (found["SGD"].difference, found["SGD"].verdict) == ("+0.08 [-0.17, +0.33]", REPRODUCED)


def test_the_reproduction_stands_beside_the_values_that_it_has():
    others = {value.label: value.others for value in values_of("table1")}
    assert others["CIFAR-10, SGD"] == "95.29 ± 0.07"
    assert others["CIFAR-100, Adam"] == "77.43"
    assert others["CIFAR-10, Lookahead"] == ""  # another setting
    others = {value.label: value.others for value in values_of("table3")}
    assert others["Lookahead (Adam), validation perplexity"] == "63.87"
    assert others["Polyak (NT-ASGD), test perplexity"] == ""


@pytest.mark.parametrize("table", tables())
def test_every_value_is_held_against_one_setting(table):
    found = list(values_of(table))
    assert len({value.label for value in found}) == len(found) > 0
    for value in found:
        accepted = [setting for setting in settings(value.draws.experiment) if value.draws.accepts(setting.values)]
        assert len(accepted) == 1, value


def test_how_many_values_the_tables_have():
    assert {table: len(list(values_of(table))) for table in tables()} == {
        "table1": 8,
        "table2": 10,  # four of each optimizer with ResNet-50, two of Lookahead with ResNet-152
        "table3": 14,  # three of each optimizer, of Polyak two
        "table4": 8,
        "table5": 5,
        "table6": 3,
    }
