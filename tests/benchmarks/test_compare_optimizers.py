"""The comparison of implementations: ours passes every check, a broken one fails the right ones, the page says so."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import ClassVar

import pytest
import torch

from benchmarks import compare_optimizers
from benchmarks.capabilities import ALL
from benchmarks.capabilities.adapters import Adapter, Excluded, Ours, Unsupported, WithOuterMomentum
from benchmarks.capabilities.check import Check, expect_error
from benchmarks.capabilities.isolation import Outcome, isolated, on_two_ranks
from lookahead import Lookahead

CHECKS = {check.name: check for check in ALL}


class AnchoredAtTheFirstStep(Lookahead):
    """Broken: slow weights start at theta_1, after the first inner step."""

    def step(self, closure=None):
        known = {p for p, state in self.state.items() if "lookahead_slow" in state}
        loss = super().step(closure)
        for p, state in self.state.items():
            if p not in known:
                state["lookahead_slow"].copy_(p.detach())
        return loss

    step.hooked = True


class SkipsWithoutGradient(Lookahead):
    """Broken: a parameter without gradient on the step of a synchronization is left out of it."""

    def step(self, closure=None):
        out = {p: s["lookahead_slow"] for p, s in self.state.items() if p.grad is None and "lookahead_slow" in s}
        before = [(p, p.detach().clone(), slow, slow.clone()) for p, slow in out.items()]
        loss = super().step(closure)
        for p, value, slow, slow_value in before:
            p.data.copy_(value)
            slow.copy_(slow_value)
        return loss

    step.hooked = True


class ForgetsMomentum(Lookahead):
    """Broken: a checkpoint is loaded without the momentum buffers, and each outer step is the heavy ball's."""

    def __init__(self, *args, outer_momentum, **options):
        super().__init__(*args, outer_momentum=outer_momentum, nesterov=False, **options)

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for state in self.state.values():
            state.get("lookahead_momentum_buffer", torch.empty(0)).zero_()


class Forgetting(WithOuterMomentum):
    def load(self):
        return ForgetsMomentum


class Anchored(Ours):
    def load(self):
        return AnchoredAtTheFirstStep


class Skipping(Ours):
    def load(self):
        return SkipsWithoutGradient


def start_worker():
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)


def run_check(adapter, name):
    return isolated(CHECKS[name].run, adapter)


@pytest.fixture(scope="module")
def fresh():
    """A process that has never run a backward pass: on a machine with an accelerator none can be forked after one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start_worker) as pool:
        yield lambda adapter, name: pool.submit(run_check, adapter, name).result()


@pytest.mark.parametrize("name", CHECKS)
def test_ours_passes_every_check(name, fresh):
    outcome = fresh(Ours(), name)
    assert outcome.passed, outcome.reason


EXCLUDED = {"alpha_one": "of momentum 0 alone", "proposition_1": "refused: outer_momentum=0.5 does not go with an Adap"}
EXCLUDED |= dict.fromkeys(("clipped", "last_gradient", "fresh_gradient", "own_average"), EXCLUDED["proposition_1"])


@pytest.mark.parametrize("name", CHECKS)
def test_with_outer_momentum_it_passes_every_check_that_momentum_does_not_exclude(name, fresh):
    outcome = fresh(WithOuterMomentum(), name)
    assert outcome.passed == (name not in EXCLUDED), outcome.reason
    assert outcome.excluded == (name in EXCLUDED)
    assert outcome.reason.startswith(EXCLUDED.get(name, ""))


@pytest.mark.parametrize(
    ("adapter", "points", "wrong"),
    [
        (
            Anchored(),
            (1, 2, 3, 10, 11, 16),
            {"by_hand", "algorithm_1_sgd", "algorithm_1_lbfgs", "anchor", "gradient_in_closure"},
        ),
        (Skipping(), (1, 2, 3, 10, 11, 16), {"without_gradient"}),
        (
            Forgetting(),
            (1, 5, 8),
            {"by_hand", "algorithm_1_sgd", "algorithm_1_lbfgs", "alpha_one", "per_group", "resume"}
            | {"resume_interpolated", "constructor_wins"},
        ),
    ],
)
def test_a_broken_lookahead_fails_the_checks_of_what_is_broken_and_no_others(adapter, points, wrong, fresh):
    # Not all: the others take longer, or do not look at what is broken.
    names = {check.name for check in ALL if check.point in points} - {"algorithm_1_adaptive"}
    failed = {name for name in names if not fresh(adapter, name).passed}
    assert failed == wrong


def test_every_point_of_the_list_has_a_check():
    assert {check.point for check in ALL} == set(range(1, 22))
    assert [check.point for check in ALL] == sorted(check.point for check in ALL)
    assert len({check.title for check in ALL}) == len({check.name for check in ALL}) == len(ALL)


# Isolation


class Victim:
    value = 1


def test_a_child_reports_and_leaves_no_trace():
    def spoil(adapter):
        Victim.value = 2
        raise ValueError("in  /some/where/file.py\nspoilt")

    assert isolated(spoil, None) == Outcome(False, "ValueError: in …/file.py spoilt")
    assert Victim.value == 1
    assert isolated(lambda adapter: None, None) == Outcome(True)


def test_a_crash_and_a_hang_are_outcomes():
    assert isolated(lambda: os._exit(3)) == Outcome(False, "the interpreter ends with code 3")
    started = time.monotonic()
    assert isolated(lambda: time.sleep(60), timeout=0.5) == Outcome(False, "does not end within 0.5 seconds")
    assert time.monotonic() - started < 20


def test_two_ranks_return_in_order_and_one_failure_is_enough():
    assert on_two_ranks(lambda rank: rank * 10) == [0, 10]

    def one_fails(rank):
        if rank == 1:
            raise KeyError("rank 1")
        time.sleep(60)

    started = time.monotonic()
    with pytest.raises(AssertionError, match="rank 1"):
        on_two_ranks(one_fails)
    assert time.monotonic() - started < 20


def test_an_expected_error_must_be_raised_be_clear_and_name_its_cause():
    def fail(error):
        raise error

    expect_error("k=0", lambda: fail(ValueError("k must be positive")), ValueError, naming="k must")
    for error, text in ((None, "no error"), (KeyError("k"), "KeyError .* not ValueError"), (ValueError("?"), "name k")):
        with pytest.raises(AssertionError, match=text):
            expect_error("k=0", lambda error=error: error and fail(error), ValueError, naming="k")
    for error in (Unsupported("no k"), Excluded("no k here")):  # are no errors of the implementation's
        with pytest.raises(type(error)):
            expect_error("k=0", lambda error=error: fail(error))


# The page


class Good(Adapter):
    label = "good"

    def version(self):
        return "1.0"


class Bad(Adapter):
    label = "bad_one"
    distribution = module = "not_a_package_of_anyone"
    options: ClassVar = {}

    def version(self):
        return "2.0"


def test_the_page_has_a_table_of_each_section_and_the_reasons_below_it():
    checks = [Check(1, "Counts to k", expect_error), Check(16, "Swaps", isolated), Check(17, "Waits", on_two_ranks)]
    results = {
        ("good", "expect_error"): Outcome(True),
        ("good", "isolated"): Outcome(True),
        ("bad_one", "expect_error"): Outcome(False, "[3] expected, [4] seen"),
        ("bad_one", "isolated"): Outcome(True),
        ("good", "on_two_ranks"): Outcome(False, "refused: never", excluded=True),
        ("bad_one", "on_two_ranks"): Outcome(True),
    }
    page = compare_optimizers.document([Good(), Bad()], checks, results, "make it")
    assert page.startswith("# Lookahead implementations")
    assert "good 1.0, bad_one 2.0" in page
    assert "`make it`" in page
    assert "| [Semantics](#semantics) | 1 | 1 | 0 |" in page
    assert "| 1 | Counts to k | yes | [no](#expect-error) |" in page
    assert "| 16 | Swaps | yes | yes |" in page
    assert "| [Evaluation on slow weights](#evaluation-on-slow-weights) | 2 | 1 (1 excluded) | 2 |" in page
    assert "| 17 | Waits | [excluded](#on-two-ranks) | yes |" in page
    assert '<a id="on-two-ranks"></a>**17. Waits**\n  - good: refused: never\n' in page
    reason = '- <a id="expect-error"></a>**1. Counts to k**\n  - bad_one: \\[3\\] expected, \\[4\\] seen\n'
    assert reason in page
    assert page.count("Why not:") == 2
    assert "Speed" not in page  # no check of it was run


def test_the_script_runs_what_is_installed_and_says_how_to_get_the_rest(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare_optimizers, "ADAPTERS", (Ours(), Bad()))
    monkeypatch.setattr(compare_optimizers, "ALL", [Check(16, "Is called", lambda adapter: adapter.load())])
    assert compare_optimizers.main(["--out", str(tmp_path / "page.md")]) == 0
    said = capsys.readouterr().err
    assert "not installed: not_a_package_of_anyone; pip install -r requirements-bench.txt" in said
    assert "lookahead (ours): 1 of 1" in said
    page = (tmp_path / "page.md").read_text()
    assert "| 16 | Is called | yes |" in page
    assert page.index("| 16 | Is called") < page.index("## Outer momentum and workers elsewhere\n")
    assert "| torchft 0.2.0, `local_sgd.DiLoCo` | yes, the outer optimizer's | yes, " in page


def test_part_of_the_checks_is_printed_and_leaves_the_page_alone(capsys, monkeypatch):
    monkeypatch.setattr(compare_optimizers, "ADAPTERS", (Ours(),))
    monkeypatch.setattr(compare_optimizers, "ALL", [Check(n, f"Is {n}", lambda adapter: None) for n in (4, 5)])
    assert compare_optimizers.main(["--only", "4"]) == 0
    printed = capsys.readouterr()
    assert "`python benchmarks/compare_optimizers.py --only 4`" in printed.out
    assert "Is 4" in printed.out
    assert "Is 5" not in printed.out
    assert "torchft" not in printed.out
    assert "wrote" not in printed.err


def test_an_unknown_point_is_refused_in_one_line(capsys):
    with pytest.raises(SystemExit):
        compare_optimizers.main(["--only", "22"])
    assert "no point 22: there are 1 to 21" in capsys.readouterr().err
