"""The optimizer benchmark: its shapes, its arithmetic, its memory, and that its variants do the work."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
import torch

from benchmarks import optimizer as bench
from benchmarks.memory import peak_bytes
from benchmarks.optimizer_results import Case, draw, findings, rows_of
from benchmarks.shapes import MODELS

CPU = torch.device("cpu")
TINY = [torch.Size([3, 5]), torch.Size([7])]  # 22 numbers, 88 bytes


@pytest.mark.parametrize(
    ("model", "count"),
    [
        ("resnet50", 25_557_032),  # torchvision's documentation
        ("resnet152", 60_192_808),
        ("awd_lstm", 24_221_600),  # what the public code of AWD-LSTM prints
        # By hand, d = 512: 33,708 d for the embedding, 18 attentions of 4 d^2, 12 feed-forward layers of 8 d^2 with
        # biases of 5 d, and 32 layer norms of 2 d.
        ("transformer", 33_708 * 512 + (18 * 4 + 12 * 8) * 512**2 + (12 * 5 + 32 * 2) * 512),
    ],
)
def test_shapes_have_the_published_number_of_parameters(model, count):
    assert sum(map(math.prod, MODELS[model]())) == count


def test_peak_memory_is_the_largest_sum_of_live_tensors():
    before = torch.zeros(5000)  # not counted: alive before

    def work():
        first = torch.empty(1000)  # 4,000 bytes live
        second = torch.empty(500)  # 6,000: the peak
        del first  # 2,000
        third = torch.empty(800)  # 5,200
        before.add_(1)  # in place
        return second, third

    assert peak_bytes(work, CPU) == 6000


def test_peak_memory_counts_what_an_operation_takes_inside():
    a, b = torch.ones(1000), torch.ones(1000)
    assert peak_bytes(lambda: a.add_(a - b), CPU) == 4000
    assert peak_bytes(lambda: [a.clone(), b.clone()], CPU) == 8000


def made_up_case(**changes) -> Case:
    """Three rounds of two inner loops of 5 steps over 1 GB, at 100 GB/s at best."""
    values = {
        "model": "resnet50",
        "inner": "sgd",
        "k": 5,
        "parameter_bytes": 10**9,
        "steps": 10,
        "seconds": {"alone": [1.0, 2.0, 1.5], "ours": [1.2, 2.08, 1.58], "timm": [1.16, 2.2, 1.66]},
        "streams": {"copy_": [4e10, 5e10, 6e10], "add_": [9e10, 1e11, 3e11], "lerp_": [8e10, 9e10, 2e11]},
        "peaks": {"alone": 10**9, "ours": 2 * 10**9, "timm": 2_250_000_000},
        "warm_up": {"alone": 1.0, "ours": 1.2, "timm": 1.2},
    }
    return Case(**values | changes)


def test_added_time_and_its_ratio_to_the_limit():
    case = made_up_case()
    assert case.limit == pytest.approx(0.008)  # 4 GB at 100 GB/s, every 5 steps
    # Pairs of one round: 0.2, 0.08 and 0.08 s in 10 steps. The difference of the medians is the same 0.08 here,
    assert case.added("ours") == pytest.approx([0.008, 0.008, 0.02])
    assert case.ratio("ours") == pytest.approx(1)
    assert case.quartiles("ours") == pytest.approx((1, 1.75))
    # and 0.16 for timm: 0.16, 0.2 and 0.16. Where rounds drift, it is not:
    assert case.ratio("timm") == pytest.approx(2)
    drifting = made_up_case(seconds={"alone": [1.0, 2.0, 3.0], "ours": [1.1, 3.1, 2.3]})
    assert drifting.added("ours") == pytest.approx([-0.07, 0.01, 0.11])
    assert drifting.ratio("ours") == pytest.approx(0.01 / 0.008)
    assert (case.copies("ours"), case.copies("timm")) == (1, 1.25)


def test_rows_hold_milliseconds_and_none_for_the_inner_optimizer_alone():
    alone, ours, _ = rows_of(made_up_case())
    assert (alone["Lookahead"], alone["added / limit"], alone["added copies"]) == ("none", 0, "0.000")
    assert ours["ms a step"] == pytest.approx(158)
    assert ours["added ms a step"] == pytest.approx(8)
    assert ours["limit, ms a step"] == pytest.approx(8)


def test_findings_say_where_a_goal_is_missed():
    slow = made_up_case(
        k=10,
        seconds={"alone": [1.0, 1.0], "ours": [1.08, 1.08], "timm": [1.07, 1.07]},
        peaks={"alone": 10**9, "ours": 2_010_000_000, "timm": 3 * 10**9},
    )
    goals = findings([made_up_case(), slow])[0]
    assert (
        "1.15 times the limit (not always: 1 of 2 cases), at worst 2.00 (ResNet-50, SGD (momentum 0.9), k = 10)"
        in goals
    )
    assert "below every peer (not always: 1 of 2 cases), at worst 2.00 against 1.75" in goals
    assert "one copy, to three decimals (not always: 1 of 2 cases), at worst off by 10,000,000 bytes" in goals
    assert "(no: 0 of 1 cases), at worst 2.00" in findings([slow])[0]
    met = findings([made_up_case()])[0]
    assert "1.15 times the limit (yes: 1 of 1 cases)" in met
    assert "below every peer (yes: 1 of 1 cases), at worst 1.00 against 2.00" in met


def test_bars_are_the_ratios():
    figure = draw([made_up_case(), made_up_case(model="awd_lstm", parameter_bytes=2 * 10**9)], "a machine")
    (axes,) = [axes for axes in figure.axes if axes.patches]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([1, 0.5, 2, 1])


def test_every_round_times_every_work_once_in_another_order():
    calls = []
    times = bench.interleaved({name: lambda name=name: calls.append(name) for name in "abcd"}, 6, CPU)
    rounds = [calls[i : i + 4] for i in range(0, 24, 4)]
    assert all(sorted(order) == list("abcd") for order in rounds)
    assert any(first != second for first, second in pairwise(rounds))
    assert {name: len(values) for name, values in times.items()} == dict.fromkeys("abcd", 6)


@pytest.mark.parametrize("name", ["ours", "ours, fused", *bench.PEERS])
@pytest.mark.parametrize("inner", bench.INNERS)
def test_variants_pull_the_weights_back_in_every_loop(name, inner):
    wraps = bench.variants()
    if name not in wraps:
        pytest.skip(f"{name} is not installed")
    moved = {}
    for variant in ("alone", name):
        # The gradient never changes, so after 300 steps (0.9^300 = 2e-14) every inner loop moves alike.
        params = bench.parameters([torch.zeros(4, dtype=torch.float64)], [torch.ones(4, dtype=torch.float64)])
        optimizer = wraps[variant](bench.INNERS[inner](params), k=5)
        optimizer.param_groups[0]["weight_decay"] = 0.0  # it would slow down the one that has moved further
        with torch.compiler.set_stance("force_eager"):  # what is computed, not how fast: no compiler needed
            bench.take_steps(optimizer, 300)
            start = params[0].detach().clone()
            bench.take_steps(optimizer, 10)
        moved[variant] = params[0].detach() - start
    # An inner loop moves by the fraction alpha of what the inner optimizer alone would.
    torch.testing.assert_close(moved[name], bench.ALPHA * moved["alone"], rtol=1e-9, atol=0)


def test_peak_memory_covers_two_inner_loops():
    class Late:  # as timm's, whose first synchronization does nothing
        def __init__(self, inner, k):
            self.inner, self.last, self.taken = inner, 2 * k, 0

        def step(self):
            self.inner.step()
            self.taken += 1
            if self.taken == self.last:
                torch.empty(1000)

    case = bench.measure("awd_lstm", "sgd", 3, TINY, {"alone": lambda inner, k: inner, "late": Late}, 2, CPU)
    assert case.peaks == {"alone": 88, "late": 88 + 4000}


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The program on tiny shapes with ours alone, its recorded results in a folder of the test."""
    wraps = {name: wrap for name, wrap in bench.variants().items() if name in ("alone", "ours")}
    monkeypatch.setattr(bench, "variants", lambda: wraps)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "recorded")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # the program sets it; this puts it back
    for name in MODELS:
        monkeypatch.setitem(bench.MODELS, name, lambda: TINY)
    return tmp_path


def test_a_partial_run_writes_only_where_it_is_told_to(tiny, capsys):
    partial = ["--model", "awd_lstm", "--inner", "sgd", "--k", "2", "--rounds", "2"]
    bench.main(partial)
    assert "Not written" in capsys.readouterr().out
    assert list(tiny.iterdir()) == []

    bench.main([*partial, "--out", str(tiny / "out")])
    assert sorted(path.name for path in (tiny / "out").iterdir()) == [
        f"optimizer.{end}" for end in ("json", "md", "png")
    ]
    assert f"![{bench.TITLE}](optimizer.png)" in (tiny / "out" / "optimizer.md").read_text()
    (case,) = json.loads((tiny / "out" / "optimizer.json").read_text())["cases"]
    assert case["parameter_bytes"] == 88
    assert case["peaks"] == {"alone": 88, "ours": 2 * 88}  # the momentum buffers, and a copy of the parameters


def test_a_full_run_without_peers_does_not_replace_the_record(tiny, monkeypatch):
    monkeypatch.setattr(bench, "measure", lambda model, inner, k, *_: made_up_case(model=model, inner=inner, k=k))
    bench.main([])
    assert list(tiny.iterdir()) == []


def test_a_full_run_with_peers_writes_the_record(tiny, monkeypatch):
    monkeypatch.setattr(bench, "PEERS", {})
    monkeypatch.setattr(bench, "measure", lambda model, inner, k, *_: made_up_case(model=model, inner=inner, k=k))
    bench.main([])
    assert (tiny / "recorded" / "optimizer.md").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--model", "vgg"], "invalid choice: 'vgg' (choose from"),
        (["--k", "0"], "argument --k: '0' is not an integer of at least 1"),
        (["--rounds", "1"], "argument --rounds: '1' is not an integer of at least 2"),
    ],
)
def test_bad_options_end_in_a_line_that_names_them(given, message, capsys):
    with pytest.raises(SystemExit):
        bench.main(given)
    assert message in capsys.readouterr().err


def test_a_peer_that_is_not_installed_is_left_out_with_a_line(monkeypatch, capsys):
    monkeypatch.setattr(bench, "PEERS", {"no_such_peer": "no_such_peer.optim"})
    assert "no_such_peer" not in bench.variants()
    assert "pip install -r requirements-bench.txt" in capsys.readouterr().out
