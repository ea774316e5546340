"""The benchmark of the noisy quadratic: that its plain loop agrees with ours, its arithmetic and what it writes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import quadratic as bench
from experiments.quadratic.comparisons import horizons
from experiments.quadratic.noisy import NoisyQuadratic, worst_case

RATES, ALPHAS = np.geomspace(1e-3, 0.5, 4), np.geomspace(0.1, 1.0, 3)


def test_plain_loop_by_hand():
    # a = 2, rate 1/4: r = 1/2, and an update adds (1/4)^2 2^2 4 = 1 of variance.
    model = NoisyQuadratic([2.0], 4.0, 8.0)
    sgd, lookahead = bench.plain_loop(model, 3, k=2, rates=[0.25], alphas=[0.5])
    # Means 4, 2, 1; variances 1, 5/4, 21/16; the excess is their m^2 + v, as a / 2 = 1.
    assert sgd.tolist() == [17, 5.25, 1 + 21 / 16]
    # Slow: 8 before the first round ends, then mean (8 + 2) / 2 = 5 and variance (1/2)^2 5/4.
    assert lookahead.tolist() == [64, 25 + 5 / 16, 25 + 5 / 16]


@pytest.mark.parametrize(("updates", "k"), [(23, 5), (3, 5), (12, 1)])
def test_plain_loop_and_horizons_find_the_same_least_losses(updates, k):
    model = worst_case(7, 100.0)
    ours = horizons(model, updates, k, RATES, ALPHAS)
    sgd, lookahead = bench.plain_loop(model, updates, k, RATES, ALPHAS)
    # Rounding of some dozen operations a term.
    np.testing.assert_allclose(ours.sgd, sgd, rtol=1e-13)
    np.testing.assert_allclose(ours.lookahead, lookahead, rtol=1e-13)


@pytest.mark.parametrize("name", ["sgd", "lookahead"])
def test_a_disagreement_ends_the_benchmark(name):
    model = worst_case(7, 100.0)
    ours = horizons(model, 23, 5, RATES, ALPHAS)
    plain = (ours.sgd, ours.lookahead)
    bench.check_agreement(ours, plain)
    wrong = replace(ours, **{name: getattr(ours, name) * (1 + 1e-9)})
    with pytest.raises(AssertionError, match="least losses"):
        bench.check_agreement(wrong, plain)


def test_added_peak_counts_the_arrays_that_live_at_one_time():
    before = np.zeros(100_000)

    def work():
        first = np.empty(100_000)  # 800,000 bytes live
        second = np.empty(50_000)  # 1,200,000: the peak
        del first
        before.sum()
        return second, np.empty(70_000)

    # Python's own objects are counted too: some hundred bytes.
    assert bench.added_peak_bytes(work) == pytest.approx(1_200_000, abs=5_000)


MET = bench.Case(1000, ours=[0.5, 9.0, 0.4], plain=[5.0], peak=100_000_000)
MISSED = bench.Case(100, ours=[2.0], plain=[8.0, 12.0], peak=1)


def test_ratio_is_that_of_the_medians():
    assert (MET.ratio, MISSED.ratio) == (10, 5)


def test_verdicts_on_goals_met_to_the_last_digit():
    seconds, memory, ratio = bench.verdicts([MET])
    assert seconds == "Goal: at most 1 s at dimension 1000: met, 0.5 s."
    assert memory == "Goal: at most 100 MB at dimension 1000: met, 100 MB."
    assert "at every dimension: met, at worst 10 times, at dimension 1000." in ratio


def test_verdicts_on_goals_missed():
    seconds, memory, ratio = bench.verdicts([replace(MISSED, dimension=1000, peak=150_000_000)])
    assert seconds.endswith("missed, 2 s.")
    assert memory.endswith("missed, 150 MB.")
    assert ratio.endswith("missed, at worst 5 times, at dimension 1000.")


def test_verdicts_take_the_worst_dimension_and_say_what_was_not_measured():
    assert bench.verdicts([MET, MISSED])[2].endswith("missed, at worst 5 times, at dimension 100.")
    assert [line.rpartition(": ")[2] for line in bench.verdicts([MISSED])[:2]] == ["not measured."] * 2


def test_rows_hold_medians_and_mebibytes():
    ours, plain = bench.rows_of(replace(MET, peak=3 * 2**20))
    assert (ours["seconds (median)"], ours["lowest"], ours["highest"]) == (0.5, 0.4, 9.0)
    assert (ours["ratio"], ours["added peak memory (MiB)"]) == (10, "3.00")
    assert (plain["seconds (median)"], plain["ratio"]) == (5, 1)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The program on a tiny grid, its recorded results in a folder of the test."""
    for name, value in (("GRID_RATES", RATES), ("GRID_ALPHAS", ALPHAS), ("UPDATES", 11), ("LARGE", 3)):
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "recorded")
    return tmp_path


def test_a_partial_run_writes_only_where_it_is_told_to(tiny, capsys):
    bench.main(["--dimension", "3"])
    assert "Not written" in capsys.readouterr().out
    assert list(tiny.iterdir()) == []

    bench.main(["--dimension", "3", "--rounds", "2", "--out", str(tiny / "out")])
    (case,) = json.loads((tiny / "out" / "quadratic.json").read_text())["cases"]
    assert (case["dimension"], len(case["ours"]), len(case["plain"])) == (3, 2, 1)
    assert "not measured" in (tiny / "out" / "quadratic.md").read_text()


def test_a_full_run_writes_the_record(tiny):
    bench.main([])
    cases = json.loads((tiny / "recorded" / "quadratic.json").read_text())["cases"]
    assert [case["dimension"] for case in cases] == [100, 3]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--dimension", "1"], "argument --dimension: '1' is not an integer of at least 2"),
        (["--rounds", "0"], "argument --rounds: '0' is not an integer of at least 1"),
    ],
)
def test_bad_options_end_in_a_line_that_names_them(given, message, capsys):
    with pytest.raises(SystemExit):
        bench.main(given)
    assert message in capsys.readouterr().err
