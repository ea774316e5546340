"""The benchmark of outer momentum: that its plain loop agrees with ours, its arithmetic and what it writes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import outer_momentum as bench
from experiments.quadratic.noisy import NoisyQuadratic, worst_case


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(bench, "RATES", np.array([0.1, 0.9]))
    monkeypatch.setattr(bench, "ALPHAS", np.array([0.3, 0.7, 1.0]))
    monkeypatch.setattr(bench, "MOMENTA", np.array([0.0, 0.5]))


def test_plain_loop_by_hand():
    # As in the theory's test: a = 2, sigma^2 = 3, gamma = 1/4, theta_0 = 4, k = 2, alpha = mu = 1/2.
    model = NoisyQuadratic(2.0, 3.0, 4.0)
    ((final, distance, speed),) = bench.plain_loop(model, 4, 2, [(0.5, 0.5, 0.25, False)])
    assert final == pytest.approx(15 / 21, rel=1e-14)
    # phi_2 has the mean 13/16 and the variance 15/64 (1 + 81/64).
    assert distance == pytest.approx(169 / 256 + 15 / 64 * (1 + 81 / 64) - 15 / 21, rel=1e-13)
    assert speed == pytest.approx(np.log(2) / 4, rel=1e-14)


@pytest.mark.parametrize("stride", [1, 5])
def test_plain_loop_and_ours_find_the_same_numbers_in_the_same_order(stride):
    model = worst_case(7, 100.0)
    settings = bench.settings_of(stride)
    assert settings[0] == (0.0, 0.3, 0.1, False)
    assert len(settings) == len(range(0, 24, stride))
    bench.check_agreement(bench.whole_grid(model, 23, 3), bench.plain_loop(model, 23, 3, settings), stride)


@pytest.mark.parametrize(("column", "error"), [(0, 1e-7), (1, 1e-5), (2, 1e-3)])
def test_a_disagreement_ends_the_benchmark(column, error):
    model = worst_case(7, 100.0)
    plain = bench.plain_loop(model, 23, 3, bench.settings_of(1))
    plain[4, column] *= 1 + error
    with pytest.raises(AssertionError):
        bench.check_agreement(bench.whole_grid(model, 23, 3), plain, 1)


def test_the_ratio_is_of_the_time_a_setting_and_goals_are_told():
    case = bench.Case(100, [3.0, 1.0, 2.0], [4.0], 1000, 10)
    assert case.ratio == 200
    rows = bench.rows_of(case)
    assert [row["microseconds a setting"] for row in rows] == pytest.approx([2000, 400_000])
    fast, ratio = bench.verdicts(case)
    assert ": met, 2 s" in fast
    assert ": met, 200 times" in ratio
    slow, ratio = bench.verdicts(bench.Case(100, [30.0], [2.0], 1000, 10))
    assert "missed, 30 s" in slow
    assert "missed, 6.67 times" in ratio


def test_a_partial_run_is_written_only_where_it_is_told_to(tmp_path, capsys):
    bench.main(["--dimension", "3", "--rounds", "1", "--stride", "5"])
    assert "Not written: a partial run is, only with --out." in capsys.readouterr().out
    bench.main(["--dimension", "3", "--rounds", "1", "--stride", "5", "--out", str(tmp_path)])
    written = json.loads((tmp_path / "outer_momentum.json").read_text())
    assert [row["settings"] for row in written["rows"]] == [24, 5]
