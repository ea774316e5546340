"""Claims on quadratics, probes and the optimizer's cost, judged by made records."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from scripts.reporting.report import own_tests
from scripts.reporting.report.evidence import Evidence
from scripts.reporting.report.verdicts import NOT_REPRODUCED, PARTLY, REPRODUCED, UNDECIDED
from tests.helpers.recorded import setting_of, write_record

LOOPS = {"experiment": "inner_and_outer_loop", "metric": ["val/accuracy"]}
STEADY, SOONER = "the steady variance is smaller", "the same risk sooner"


def analysis(root, rows):
    """Write a record of Figure 3's analysis with these claims."""
    folder = write_record(root, setting_of("fig03_noisy_quadratic", analysis="convergence"))
    pd.DataFrame(rows).to_csv(folder / "claims.csv", index=False)


def theory(root, **test):
    test = {"experiment": "fig03_noisy_quadratic", "analysis": "convergence", "claim": SOONER, **test}
    ((finding,),) = (own_tests.theory(test, Evidence([root]))[1],)
    return finding


def test_a_claim_on_quadratics_is_what_an_analysis_has_counted(tmp_path):
    counted = {"holds": 97, "ties": 1, "fails": 2, "share": 1.0}
    rows = [{"changed": "", "claim": SOONER, **counted}]
    rows.append({"changed": "", "claim": STEADY, "holds": 0, "ties": 0, "fails": 5, "share": 0.5})
    rows.append({"changed": "analysis.k=3", "claim": SOONER, "holds": 0, "ties": 0, "fails": 9, "share": 0.0})
    analysis(tmp_path, rows)
    assert (theory(tmp_path).verdict, theory(tmp_path).found) == (PARTLY, "97 of 100 hold, 1 tie, 2 fail")
    assert theory(tmp_path, share=0.97).verdict == REPRODUCED
    assert theory(tmp_path, share=0.97).found.endswith("(at least 97% are asked for)")
    assert theory(tmp_path, share=0.98).verdict == PARTLY
    assert theory(tmp_path, some="fails").verdict == REPRODUCED
    assert theory(tmp_path, claim=STEADY).verdict == NOT_REPRODUCED
    assert theory(tmp_path, claim=STEADY, some="holds").verdict == NOT_REPRODUCED
    assert theory(tmp_path, column="share").verdict == REPRODUCED
    assert theory(tmp_path, claim=STEADY, column="share").verdict == PARTLY
    with pytest.raises(ValueError, match="counted 0 claims 'that is not there'"):
        theory(tmp_path, claim="that is not there")


def test_an_analysis_that_was_not_run_finds_nothing(tmp_path):
    test = {"experiment": "fig03_noisy_quadratic", "analysis": "convergence", "claim": SOONER}
    assert own_tests.theory(test, Evidence([tmp_path])) == ("", [])


def loop_tables(root, changes):
    """Write a seed of Figure 10's first setting for each pair of changes: of the inner loop and the synchronization."""
    setting = setting_of("inner_and_outer_loop", "scale=proxy", where={"optim.k": 5})
    for seed, (inner, outer) in enumerate(changes, 1):
        folder = write_record(root, setting, seed)
        slow, fast = [80.0, 80.0 + inner + outer], [80.0, 80.0 + inner]
        table = pd.DataFrame({"update": [5, 10], "synchronized": [True, True]})
        for name in ("val/accuracy", "train_sample/accuracy", "train_sample/loss"):
            table[f"slow/{name}"], table[f"fast/{name}"] = slow, fast
        table.to_csv(folder / "every_update.csv", index=False)


def test_loops_that_lose_and_synchronizations_that_gain(tmp_path):
    loop_tables(tmp_path / "so", [(-2.0, 2.0), (-2.1, 2.2), (-1.9, 1.9)])
    place, found = own_tests.loops(LOOPS, Evidence([tmp_path / "so"]))
    assert place == "proxy"
    assert [one.verdict for one in found] == [REPRODUCED, REPRODUCED]
    assert [one.what for one in found] == ["k=5, α=0.8, inner loop", "k=5, α=0.8, synchronization"]
    assert found[0].found.startswith("-2.00 [")
    assert {one.metric for one in found} == {"validation accuracy (points)"}
    # The made loss falls where the accuracy does, which for a loss is for the better.
    test = {**LOOPS, "metric": ["train_sample/accuracy", "train_sample/loss"]}
    _, found = own_tests.loops(test, Evidence([tmp_path / "so"]))
    assert [one.verdict for one in found] == [REPRODUCED, REPRODUCED, NOT_REPRODUCED, NOT_REPRODUCED]
    assert [one.metric for one in found[1:3]] == ["training accuracy (points)", "training loss (nats)"]
    assert found[2].found.startswith("-2.000 [")
    loop_tables(tmp_path / "contrary", [(2.0, -2.0), (2.1, -2.2), (1.9, -1.9)])
    _, found = own_tests.loops(LOOPS, Evidence([tmp_path / "contrary"]))
    assert [one.verdict for one in found] == [NOT_REPRODUCED, NOT_REPRODUCED]
    loop_tables(tmp_path / "one", [(-2.0, 2.0)])
    _, found = own_tests.loops(LOOPS, Evidence([tmp_path / "one"]))
    assert [(one.verdict, one.needs) for one in found] == [(UNDECIDED, "3 seeds")] * 2


def test_the_surface_compares_slow_weights_with_sgd(tmp_path):
    (setting,) = [setting_of("loss_surface", "scale=proxy")]
    for seed in (1, 2, 3):
        folder = write_record(tmp_path, setting, seed)
        points = {"fast": [60.0, 59.0], "slow": [60.0, 62.0 + seed / 10], "sgd": [60.0, 59.0, 58.0]}
        arrays = {"k": np.array(1), "step": np.array(7)}
        for name, values in points.items():
            arrays[name] = np.zeros((len(values), 2))
            arrays |= {f"{name}_{what}": np.array(values) for what in ("accuracy", "loss", "distance")}
        np.savez(folder / "loss_surface.npz", **arrays)
    place, (found,) = own_tests.surface({"experiment": "loss_surface"}, Evidence([tmp_path]))
    assert (place, found.verdict) == ("proxy", REPRODUCED)
    assert found.found.startswith("4.20 [")
    assert (found.what, found.metric) == ("slow weights − SGD", "test accuracy (points)")


def benchmark(tmp_path, monkeypatch, added, copies):
    rows = [{"model": "net", "inner": "sgd", "k": 5, "Lookahead": "none", "ms a step": 10.0}]
    rows += [
        {"model": "net", "inner": "sgd", "k": 5, "Lookahead": name, "added ms a step": added, "added copies": copies}
        for name in ("ours", "timm")
    ]
    rows[-1] |= {"added ms a step": 100.0, "added copies": "3"}
    path = tmp_path / "optimizer.json"
    path.write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr(own_tests, "BENCHMARK", path)


@pytest.mark.parametrize(("added", "verdict"), [(2.0, REPRODUCED), (4.0, REPRODUCED), (4.1, NOT_REPRODUCED)])
def test_a_synchronization_costs_so_many_inner_steps(tmp_path, monkeypatch, added, verdict):
    benchmark(tmp_path, monkeypatch, added, "1.000")
    _, (found,) = own_tests.overhead({"at_most": 2}, Evidence([]))
    assert found.verdict == verdict
    assert f"takes {added * 5 / 10:.2f} to" in found.found


@pytest.mark.parametrize(("copies", "verdict"), [("1.000", REPRODUCED), ("1.001", NOT_REPRODUCED)])
def test_one_copy_is_one(tmp_path, monkeypatch, copies, verdict):
    benchmark(tmp_path, monkeypatch, 1.0, copies)
    assert own_tests.copies({}, Evidence([]))[1][0].verdict == verdict


def test_one_line_is_one(monkeypatch):
    _, (found,) = own_tests.one_line_changes({}, Evidence([]))
    assert (found.verdict, found.found[:6]) == (REPRODUCED, "1 line")
    monkeypatch.setattr(own_tests.one_line, "inside", own_tests.one_line.alone)
    assert own_tests.one_line_changes({}, Evidence([]))[1][0].verdict == NOT_REPRODUCED
