"""Claims judged by made records: which comparisons a test makes, at which scale, and what keeps one from it."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from experiments.engine.experiment import settings
from scripts.reporting.report.evidence import TRAINED, UNAVERAGED, Evidence, Place, measured, until_best
from scripts.reporting.report.judging import COMPARISONS, Claim, claims, comparisons, judge
from scripts.reporting.report.own_tests import TESTS
from scripts.reporting.report.verdicts import (
    NOT_REPRODUCED,
    NOT_RUN,
    PARTLY,
    REPRODUCED,
    UNDECIDED,
    UNREADABLE,
    together,
)
from scripts.reporting.series import Series
from tests.helpers.recorded import a_run, setting_of, write_record

SGD = {"experiment": "table1_cifar", "task": "cifar100", "optim": "sgd"}
LOOKAHEAD = {**SGD, "optim": "la_sgd"}
STEPS = {"epoch": [1, 2, 4], "step": [10, 20, 40]}
HIGHER = {"kind": "greater", "metric": "val/accuracy", "first": LOOKAHEAD, "second": SGD}


def write(root, side, accuracies, *overrides):
    """Write one record per accuracy, with seeds from 1 on."""
    filters = {key: value for key, value in side.items() if key != "experiment"}
    setting = setting_of(side["experiment"], *overrides, **filters)
    for seed, accuracy in enumerate(accuracies, 1):
        history = {"epoch": [1, 2, 4], "step": [10, 20, 40], "val/accuracy": [accuracy - 20, accuracy - 10, accuracy]}
        write_record(root, setting, seed, history | {"train/loss": [3.0, 2.0, 1.0 + seed / 100]})


def verdicts_of(others):
    return {scale: together(findings) for scale, findings in others.items()}


def judged(root, test, **claim):
    return judge(Claim("it is so", "Table 1", test, **claim), Evidence([root]))


def test_a_claim_is_judged_at_the_scale_that_has_enough_seeds(tmp_path):
    """Two seeds at the short scale decide nothing, three as a proxy do."""
    write(tmp_path, SGD, [70.0, 70.2], "scale=short")
    write(tmp_path, LOOKAHEAD, [75.0, 75.2], "scale=short")
    write(tmp_path, SGD, [50.0, 50.1, 50.2], "scale=proxy")
    write(tmp_path, LOOKAHEAD, [55.0, 55.1, 55.2], "scale=proxy")
    found = judged(tmp_path, HIGHER)
    assert (found.verdict, found.scale, verdicts_of(found.others)) == (REPRODUCED, "proxy", {"short": UNDECIDED})
    (finding,) = found.findings
    assert (finding.what, finding.metric) == ("CIFAR-100: Lookahead − SGD", "validation accuracy (points)")
    assert finding.found.startswith("+5.00 [+4.77, ")
    (other,) = found.others["short"]
    assert (other.what, other.metric, other.found[:5]) == (finding.what, finding.metric, "+5.00")


def test_the_largest_of_the_scales_that_decide(tmp_path):
    for scale, lead in (("short", -5), ("proxy", 5)):
        write(tmp_path, SGD, [70.0, 70.1, 70.2], f"scale={scale}")
        write(tmp_path, LOOKAHEAD, [70.0 + lead, 70.1 + lead, 70.2 + lead], f"scale={scale}")
    found = judged(tmp_path, HIGHER)
    assert (found.verdict, found.scale, verdicts_of(found.others)) == (NOT_REPRODUCED, "short", {"proxy": REPRODUCED})
    assert found.needs == ""


def test_a_scale_with_enough_seeds_counts_though_it_is_undecided(tmp_path):
    write(tmp_path, SGD, [70.0, 71.0, 72.0], "scale=short")
    write(tmp_path, LOOKAHEAD, [70.5, 71.5, 72.5], "scale=short")
    write(tmp_path, SGD, [50.0, 50.1, 50.2], "scale=proxy")
    write(tmp_path, LOOKAHEAD, [55.0, 55.1, 55.2], "scale=proxy")
    found = judged(tmp_path, HIGHER)
    assert (found.verdict, found.scale) == (UNDECIDED, "short")
    # by hand: .5 < t(2n - 2) sqrt(2 / n) up to n = 31, of a deviation of 1
    assert found.needs == "32 seeds"


def test_what_was_not_run_leaves_undecided_and_one_contrary_decides(tmp_path):
    every = {**HIGHER, "second": {**SGD, "optim": ["sgd", "polyak"]}}
    write(tmp_path, SGD, [70.0, 70.1, 70.2], "scale=short")
    write(tmp_path, LOOKAHEAD, [75.0, 75.1, 75.2], "scale=short")
    found = judged(tmp_path, every)
    assert (found.verdict, [one.verdict for one in found.findings]) == (UNDECIDED, [REPRODUCED, NOT_RUN])
    assert found.findings[1].found == "Polyak not run"
    write(tmp_path, {**SGD, "optim": "polyak"}, [77.0, 77.1, 77.2], "scale=short")
    assert judged(tmp_path, every).verdict == PARTLY


def test_nothing_has_run_and_a_trial_of_the_code_is_nothing(tmp_path):
    assert judged(tmp_path, HIGHER).verdict == NOT_RUN
    write(tmp_path, SGD, [70.0] * 3, "scale=smoke")
    write(tmp_path, LOOKAHEAD, [75.0] * 3, "scale=smoke")
    assert judged(tmp_path, HIGHER).verdict == NOT_RUN


def test_a_published_value_is_of_the_papers_scale_alone(tmp_path):
    reached = {"kind": "at_least", "metric": "val/accuracy", "value": 60, "first": SGD}
    write(tmp_path, SGD, [70.0, 70.1, 70.2], "scale=short")
    assert judged(tmp_path, reached).verdict == NOT_RUN
    write(tmp_path, SGD, [61.0, 61.1, 61.2])
    assert (judged(tmp_path, reached).verdict, judged(tmp_path, reached).scale) == (REPRODUCED, "paper")


def test_parts_of_a_run_and_several_metrics(tmp_path):
    """After a half counts the evaluation at update 20 of 40, after three quarters the one at 40."""
    write(tmp_path, SGD, [70.0, 70.1, 70.2], "scale=short")
    write(tmp_path, LOOKAHEAD, [75.0, 75.1, 75.2], "scale=short")
    test = {**HIGHER, "kind": "alike", "margin": 6, "metric": ["val/accuracy", "train/loss"], "at": [0.5, 0.75]}
    found = list(comparisons(test, Evidence([tmp_path]), Place("short", "fp32")))
    assert [one.metric for one in found] == [
        "validation accuracy (points), after 50 %",
        "validation accuracy (points), after 75 %",
        "training loss (nats), after 50 %",
        "training loss (nats), after 75 %",
    ]
    run = a_run(history={"epoch": [1, 2, 4], "step": [10, 20, 40], "val/accuracy": [50.0, 60.0, 70.0]})
    parts = {part: measured(Series((), [run]), "val/accuracy", part).mean for part in (0.25, 0.5, 0.51, 0.75, 1)}
    assert parts == {0.25: 50.0, 0.5: 60.0, 0.51: 70.0, 0.75: 70.0, 1: 70.0}
    with pytest.raises(ValueError, match="val/loss was not recorded"):
        measured(Series((), [run]), "val/loss", 0.5)


def test_settings_are_compared_with_the_one_of_the_same_value(tmp_path):
    side = {"experiment": "inner_rates"}
    test = {"kind": "less", "metric": "train/loss", "by": "optim.lr"}
    test |= {"first": {**side, "optim": "la_sgd"}, "second": {**side, "optim": "sgd"}}
    found = list(comparisons(test, Evidence([tmp_path]), Place("paper", "fp32")))
    assert len(found) == 6
    rates = ("0.01", "0.03", "0.05", "0.1", "0.2", "0.3")
    assert [one.what for one in found] == [f"CIFAR-10, rate {rate}: Lookahead − SGD" for rate in rates]


def test_the_best_of_a_search_is_compared_with_all_others_and_not_with_itself(tmp_path):
    side = {"experiment": "search_lookahead"}
    test = {"kind": "greater", "metric": "val/accuracy", "second": side}
    one = {**test, "first": {**side, "where": {"optim.k": 5, "optim.alpha": 0.8}}}
    assert len(list(comparisons(one, Evidence([tmp_path]), Place("paper", "fp32")))) == 5
    several = {**test, "first": {**side, "where": {"optim.alpha": [0.5, 0.8]}}}  # four of six
    assert len(list(comparisons(several, Evidence([tmp_path]), Place("paper", "fp32")))) == 8


def test_weights_before_averaging_are_those_that_the_probe_measured(tmp_path):
    """Lookahead's own accuracy is 80 at the end and 60 after a half, in unaveraged.csv; its average's is 70."""
    for optim, lead in (("la_sgd", 0.0), ("swa", -5.0)):
        setting = setting_of("swa_start", "scale=short", optim=optim, where={"average.start": 0})
        for seed in (1, 2, 3):
            accuracies = [50.0, 65.0, 70.0 + seed / 10]
            folder = write_record(tmp_path, setting, seed, {**STEPS, "val/accuracy": accuracies})
            own = pd.DataFrame({**STEPS, "val/accuracy": [40.0, 60.0, 80.0 + seed / 10]})
            own["val/accuracy"] += lead
            own.to_csv(folder / "unaveraged.csv", index=False)
    start = {"experiment": "swa_start", "where": {"average.start": 0}}
    first = {**start, "optim": "la_sgd", "weights": "unaveraged"}
    test = {"kind": "greater", "metric": "val/accuracy", "at": [0.5, 1], "first": first}
    place = Place("short", "fp32")
    found = list(comparisons({**test, "second": {**first, "optim": "swa"}}, Evidence([tmp_path]), place))
    assert [(one.what[-15:], one.found[:5]) for one in found] == [("Lookahead − SGD", "+5.00")] * 2
    found = list(comparisons({**test, "second": {**start, "optim": "swa"}}, Evidence([tmp_path]), place))
    assert [one.found[:6] for one in found] == ["-5.00 ", "+10.00"]  # of 60 less 65, and 80 less 70


def test_until_the_best_is_the_first_evaluation_within_the_share(tmp_path):
    """1.009 is within 1 % of 1, 1.011 is not: after 40 of 100 updates. What diverged has no such time."""
    history = {"epoch": [1, 2, 3, 4], "step": [20, 40, 80, 100], "val/original_perplexity": [1.011, 1.009, 1.0, 1.2]}
    run = a_run(history=history)
    found = until_best(Series((), [run, run]), "val/original_perplexity", 0.01)
    assert (found.mean, found.std, found.seeds) == (40, 0, 2)
    diverged = replace(run, summary=run.summary | {"status": "diverged"})
    assert until_best(Series((), [run, diverged]), "val/original_perplexity", 0.01).diverged == 1
    test = {"kind": "at_least", "metric": "val/original_perplexity", "until_best": 0.01, "value": 39}
    test["first"] = {"experiment": "table3_ptb", "optim": "sgd"}
    for seed in (1, 2, 3):
        write_record(tmp_path, setting_of("table3_ptb", optim="sgd"), seed, history)
    (one,) = judged(tmp_path, test).findings
    assert (one.verdict, one.found) == (REPRODUCED, "40.00 [40.00, 40.00] against 39")


def test_alike_compares_all_with_each_other(tmp_path):
    test = {"kind": "alike", "margin": 1, "metric": "val/accuracy", "first": {"experiment": "k_alpha"}}
    assert len(list(comparisons(test, Evidence([tmp_path]), Place("paper", "fp32")))) == 6


def test_what_diverged_is_never_averaged_in(tmp_path):
    write(tmp_path, SGD, [70.0, 70.1, 70.2], "scale=short")
    setting = setting_of("table1_cifar", "scale=short", task="cifar100", optim="la_sgd")
    for seed in (1, 2, 3):
        status = {"status": "diverged", "reason": "loss nan"} if seed == 3 else {}
        write_record(tmp_path, setting, seed, {"epoch": [1], "step": [10], "val/accuracy": [90.0]}, **status)
    found = judged(tmp_path, HIGHER)
    assert (found.verdict, found.needs) == (UNDECIDED, "runs that end")
    assert found.findings[0].found == "diverged (1 of 3) and 70.1 ± 0.1"


def test_a_record_that_cannot_be_read_is_named_and_the_rest_is_judged(tmp_path):
    write(tmp_path, SGD, [70.0, 70.1, 70.2, 70.3], "scale=short")
    write(tmp_path, LOOKAHEAD, [75.0, 75.1, 75.2], "scale=short")
    damaged = tmp_path / "cifar100-sgd@short" / "seed-2" / "summary.json"
    damaged.write_text(json.dumps(json.loads(damaged.read_text()) | {"schema": 99}))
    evidence = Evidence([tmp_path])
    found = judge(Claim("it is so", "Table 1", HIGHER), evidence)
    assert (found.verdict, found.mistake) == (REPRODUCED, "")  # seeds 1, 3 and 4 are left
    (mistake,) = evidence.mistakes
    assert "99" in mistake
    assert str(damaged.parent) in mistake


def test_what_cannot_be_read_is_not_what_was_not_run(tmp_path):
    write(tmp_path, SGD, [70.0, 70.1, 70.2], "scale=short")
    write(tmp_path, LOOKAHEAD, [75.0, 75.1], "scale=short")
    for seed in (1, 2):
        (tmp_path / "cifar100-la_sgd@short" / f"seed-{seed}" / "summary.json").write_text("{")
    every = {**HIGHER, "first": {**LOOKAHEAD, "optim": ["la_sgd", "polyak"]}}
    found = judged(tmp_path, every)
    assert (found.verdict, found.scale) == (UNREADABLE, "short")
    lookahead, polyak = found.findings
    assert (lookahead.verdict, polyak.verdict, polyak.found) == (UNREADABLE, NOT_RUN, "Polyak not run")
    records = "cifar100-la_sgd@short/seed-1, cifar100-la_sgd@short/seed-2"
    assert lookahead.found == f"Lookahead unreadable ({records})"
    write(tmp_path, SGD, [50.0, 50.1, 50.2], "scale=proxy")
    write(tmp_path, LOOKAHEAD, [50.0], "scale=proxy")
    found = judged(tmp_path, HIGHER)
    assert (found.scale, found.needs, verdicts_of(found.others)) == ("proxy", "3 seeds", {"short": UNREADABLE})
    assert judged(tmp_path, every).scale == "proxy"  # where one comparison was run, the other not


def test_some_seeds_that_cannot_be_read_are_counted_beside_what_the_others_find(tmp_path):
    write(tmp_path, SGD, [70.0, 70.1, 70.2], "scale=short")
    write(tmp_path, LOOKAHEAD, [75.0, 75.1, 75.2, 75.3], "scale=short")
    (tmp_path / "cifar100-la_sgd@short" / "seed-2" / "summary.json").write_text("{")
    (finding,) = judged(tmp_path, HIGHER).findings
    assert finding.verdict == REPRODUCED
    assert finding.found.endswith("]; 1 unreadable")


def test_an_analysis_that_cannot_be_read_is_unreadable(tmp_path):
    folder = write_record(tmp_path, setting_of("fig03_noisy_quadratic", analysis="convergence"))
    test = {"kind": "theory", "experiment": "fig03_noisy_quadratic", "analysis": "convergence", "claim": "it"}
    (folder / "summary.json").write_text("{")
    found = judged(tmp_path, test)
    assert found.verdict == UNREADABLE
    assert str(folder) in found.findings[0].found


def test_a_metric_that_was_not_recorded_leaves_that_claim_undecided_and_is_said(tmp_path):
    write(tmp_path, SGD, [70.0, 70.1, 70.2], "scale=short")
    write(tmp_path, LOOKAHEAD, [75.0, 75.1, 75.2], "scale=short")
    found = judged(tmp_path, {**HIGHER, "metric": "val/bleu"})
    assert (found.verdict, found.findings[0].what) == (UNDECIDED, "its records")
    assert "val/bleu was not recorded" in found.mistake
    reached = {"kind": "at_least", "metric": "val/bleu", "value": 60, "first": SGD}
    assert judged(tmp_path, reached).mistake == ""  # it is not of this scale


def test_a_claim_is_decided_only_where_its_premise_holds(tmp_path):
    write(tmp_path, SGD, [70.0, 70.1, 70.2], "scale=short")
    write(tmp_path, LOOKAHEAD, [75.0, 75.1, 75.2], "scale=short")
    holds, fails = HIGHER, {**HIGHER, "kind": "less"}
    assert judged(tmp_path, {**HIGHER, "premise": holds}).verdict == REPRODUCED
    found = judged(tmp_path, {**HIGHER, "premise": fails})
    assert (found.verdict, found.needs) == (UNDECIDED, "runs where its premise holds")
    assert found.findings[0].what == "the premise: CIFAR-100: Lookahead − SGD"
    assert found.findings[0].metric == "validation accuracy (points)"


def test_every_claim_can_be_judged():
    """Each names experiments that there are, settings that they have, and modules that show it."""
    from scripts.reporting.modules import names

    found = claims()
    assert len({(claim.claim, claim.stand_in) for claim in found}) == len(found) > 60
    modules = {*names("figures"), *names("tables")}
    evidence = Evidence([])
    for claim in found:
        kind = claim.test["kind"]
        assert kind in (*COMPARISONS, *TESTS), claim
        assert set(claim.shown) <= modules, claim
        for experiment in claim.experiments:
            assert settings(experiment)
        sides = [claim.test.get(side, {}) for side in ("first", "second")]
        assert {side.get("weights", TRAINED) for side in sides} <= {TRAINED, UNAVERAGED}, claim
        if kind in COMPARISONS:
            compared = list(comparisons(claim.test, evidence, Place("paper", "fp32")))
            assert compared, claim
            assert {one.verdict for one in compared} == {NOT_RUN}
            assert ("margin" in claim.test) == (kind in ("alike", "no_lead")), claim
            if "premise" in claim.test:
                assert list(comparisons(claim.test["premise"], evidence, Place("paper", "fp32")))
