"""The search of C.4 for Lookahead on WMT14, and its stand-in: losses of each rate and k, and how far they differ."""

from __future__ import annotations

import math

import pytest

from experiments.engine.experiment import settings
from scripts.reporting.published import published
from scripts.reporting.tables import search_multi30k, search_nmt
from tests.helpers.pages import grid_of, points_of, rows_of, trained_on_pairs

GRID = [(lr, k) for lr in (0.02, 0.04, 0.06) for k in (5, 10)]
HEADINGS = [f"{loss} loss, k = {k}" for loss in ("training", "validation") for k in (5, 10)]


def searched(losses, **values):
    """Return one run for each setting of C.4's grid that has a final training loss; the validation loss is one less."""
    given = zip(GRID, losses, strict=True)
    return [trained_on_pairs("la_adam", loss=(5.0, 3.0, loss), lr=lr, k=k, **values) for (lr, k), loss in given if loss]


def test_the_search_has_both_losses_of_each_setting_and_the_paper_s_choice():
    page = str(search_nmt.page(searched((2.0, 2.1, 2.02, 2.04, 2.25, None))))
    assert page.startswith("# Appendix C.4's search, WMT14 English-German: 5 of 6 run here\n")
    assert rows_of(page)[:4] == [
        ["constant", "greatest rate", *HEADINGS],
        ["0.02", "2.0e-04", "2.000", "2.100", "1.000", "1.100"],
        ["0.04", "4.0e-04", "2.020", "2.040 †", "1.020", "1.040 †"],
        ["0.06", "6.0e-04", "2.250", "not run yet", "1.250", "not run yet"],
    ]
    assert "Lookahead around Adam, α = 0.5; final losses. †: the paper's choice. The training loss is the mean" in page
    assert "50,000 updates; full scale; fp32; one seed (1); one process on a machine." in page


def test_the_search_has_the_largest_difference_between_rates_at_each_k():
    page = str(search_nmt.page(searched((2.0, 2.1, 2.02, 2.04, 2.25, None))))
    assert 'Section 5.4: these rates "all converge to similar final losses". The largest difference' in page
    assert rows_of(page)[4:] == [
        ["loss", "k = 5", "k = 10", "rate and k"],
        [
            "training loss",
            "0.250 (0.02: 2.000, 0.06: 2.250)",
            "0.060 (0.04: 2.040, 0.02: 2.100)",
            "0.250 (0.02 with k = 5: 2.000, 0.06 with k = 5: 2.250)",
        ],
        [
            "validation loss",
            "0.250 (0.02: 1.000, 0.06: 1.250)",
            "0.060 (0.04: 1.040, 0.02: 1.100)",
            "0.250 (0.02 with k = 5: 1.000, 0.06 with k = 5: 1.250)",
        ],
    ]


def test_settings_that_diverged_or_were_not_measured_have_no_part_in_the_differences():
    runs = searched((2.0, 2.1, 2.5, None, None, None))
    runs[0].summary.update(status="diverged", final={})
    runs[1].history.drop(columns="val/loss", inplace=True)
    del runs[1].summary["final"]["val/loss"]
    rows = rows_of(str(search_nmt.page(runs)))
    assert rows[1] == ["0.02", "2.0e-04", "diverged", "2.100", "diverged", "not measured"]
    assert rows[3] == ["0.06", "-", *["not run yet"] * 4]
    assert rows[5] == ["training loss", "-", "-", "0.400 (0.02 with k = 10: 2.100, 0.04 with k = 5: 2.500)"]
    assert rows[6] == ["validation loss", "-", "-", "-"]


def test_runs_outside_of_the_grid_are_left_out():
    runs = [*searched((2.0, None, 2.2, None, None, None)), trained_on_pairs("la_adam", lr=0.08, loss=(5, 3, 9.0), k=5)]
    page = str(search_nmt.page(runs))
    assert "2 of 6 run here" in page
    assert "9.000" not in page


def test_losses_are_means_over_seeds():
    runs = [trained_on_pairs("la_adam", loss=(5.0, 3.0, 1.5 + seed), seed=seed, k=5) for seed in (1, 2)]
    assert rows_of(str(search_nmt.page(runs)))[2][2] == "3.000 ± 0.707"
    runs[1].history.loc[2, "train/running_loss"] = math.nan
    assert rows_of(str(search_nmt.page(runs)))[2][2] == "not finite"


def test_the_stand_in_of_the_search_is_named_as_such():
    runs = [
        trained_on_pairs(
            "la_adam",
            task="multi30k",
            scale="proxy",
            loss=(3.0, 1.5, 2 + by / 10),
            lr=0.0543,
            k=k,
            warmup=1000,
            multiplier=by,
        )
        for by in search_multi30k.MULTIPLIERS
        for k in (5, 10)
    ]
    page = str(search_multi30k.page(runs))
    title = "# A stand-in for Appendix C.4's search: Multi30k English-German: 6 of 6 run here, at proxy scale\n"
    assert page.startswith(title)
    assert "**A stand-in on data that the paper does not have" in page
    assert rows_of(page)[1:4] == [
        ["0.02715", "8.6e-04", "2.050", "2.050", "1.050", "1.050"],
        ["0.0543", "1.7e-03", "2.100", "2.100 †", "1.100", "1.100 †"],
        ["0.08145", "2.6e-03", "2.150", "2.150", "1.150", "1.150"],
    ]
    assert "†: the recipe's, which stands for the paper's choice; the other rates are half and one and a half" in page
    assert "†: the paper's choice." not in page


@pytest.mark.slow
def test_the_experiments_have_the_grid_of_c4_and_rates_in_its_proportion():
    (search,) = published("search_nmt")["searches"]
    assert points_of(settings("search_nmt_lookahead", ["scale=paper"]), search) == grid_of(search)
    found = settings("search_multi30k_lookahead", ["scale=paper"])
    stand_in = search | {"rows": {"key": "schedule.multiplier"}}
    assert points_of(found, stand_in) == {(by, k) for by in search_multi30k.MULTIPLIERS for k in (5, 10)}
    rate = search["chosen"][0]
    assert list(search_multi30k.MULTIPLIERS) == pytest.approx([each / rate for each in search["rows"]["values"]])
