"""The benchmark of host time: its figures by hand, its verdicts, and where it writes."""

import json

import pytest
import torch

from benchmarks import host_time
from benchmarks.host_time import case_of, findings, rows_of

MADE_UP = {
    # Medians by place: 100 and 100, 110 and 180, 105 and 205 microseconds.
    "alone": [[100e-6, 100e-6], [100e-6, 90e-6], [900e-6, 100e-6]],
    "ours": [[110e-6, 180e-6], [110e-6, 800e-6], [90e-6, 180e-6]],
    "timm": [[105e-6, 205e-6]] * 3,
}


def test_added_time_is_over_the_inner_optimizer_by_place_in_the_loop():
    case = case_of(161, MADE_UP)
    assert case.added["ours"] == pytest.approx([10, 80])
    assert (case.between("ours"), case.mean("ours")) == pytest.approx((10, 45))
    ours, timm = rows_of(case)
    assert (ours["Lookahead"], ours["as many as"], ours["tensors"]) == ("ours", "ResNet-50", 161)
    assert ours["inner step (µs)"] == pytest.approx(100)
    assert timm["added per step (µs)"] == pytest.approx(55)
    assert timm["step that synchronizes (µs)"] == pytest.approx(105)
    steady = case_of(161, {"alone": [[1e-4, 1e-4]] * 5, "ours": [[2e-4, 3e-4]] * 5})
    assert steady.intervals["ours"] == pytest.approx((150, 150))


@pytest.mark.parametrize(("between", "answer"), [(25, "yes (25 µs)"), (26, "no (26 µs)")])
def test_the_goal_between_synchronizations_is_at_161_tensors(between, answer):
    seconds = {"alone": [[1e-4, 1e-4]], "ours": [[1e-4 + between * 1e-6, 1e-3]]}
    assert findings([case_of(161, seconds)]) == [
        f"161 tensors: ours at most 25 µs between synchronizations: {answer}.",
    ]
    assert findings([case_of(62, seconds)]) == []


def test_the_best_peer_is_the_one_to_be_below():
    peers = {"one": [[160e-6, 160e-6]], "other": [[140e-6, 140e-6]]}
    for ours, answer in ((139, "yes (39 µs against other's 40)"), (141, "no (41 µs against other's 40)")):
        seconds = {"alone": [[1e-4, 1e-4]], "ours": [[ours * 1e-6] * 2], **peers}
        assert findings([case_of(3, seconds)]) == [f"3 tensors: below every peer, as point estimates: {answer}."]


def test_outer_momentum_is_no_peer_and_has_nothing_to_do_between_synchronizations():
    seconds = {
        "alone": [[1e-4, 1e-4, 1e-4]],
        "ours": [[1.2e-4, 1.2e-4, 3e-4]],
        "ours, outer momentum": [[1.21e-4, 1.21e-4, 3.5e-4]],
        "one": [[2e-4, 2e-4, 2e-4]],
    }
    assert findings([case_of(161, seconds)]) == [
        "161 tensors: below every peer, as point estimates: yes (80 µs against one's 100).",
        "161 tensors: ours, outer momentum takes +1.0 µs over ours between synchronizations, where it has nothing to "
        "do, and +50 µs at one.",
        "161 tensors: ours at most 25 µs between synchronizations: yes (20 µs).",
        "161 tensors: ours, outer momentum at most 25 µs between synchronizations: yes (21 µs).",
    ]


def test_all_variants_step_the_same_parameters_which_are_made_anew_each_time():
    seen = []

    def wrap(inner, k):
        seen.append([p for group in inner.param_groups for p in group["params"]])
        return inner

    case = host_time.measure(3, {"alone": wrap, "ours": wrap}, 2, 4)
    assert len(seen) == 4
    assert all(p is q for p, q in zip(*seen[:2], strict=True))
    assert not any(p is q for p, q in zip(*seen[1:3], strict=True))
    assert [p.numel() for p in seen[0]] == [64] * 3
    assert (len(case.alone), {name: len(added) for name, added in case.added.items()}) == (5, {"ours": 5})


def test_a_partial_run_writes_only_where_it_is_told_to(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(host_time, "RESULTS", tmp_path / "recorded")
    threads = torch.get_num_threads()
    try:
        host_time.main(["--tensors", "2", "--times", "2", "--rounds", "1"])
        assert "Not written" in capsys.readouterr().out
        host_time.main(["--tensors", "2", "--times", "2", "--rounds", "1", "--out", str(tmp_path / "out")])
    finally:
        torch.set_num_threads(threads)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (case,) = json.loads((tmp_path / "out" / "host_time.json").read_text())["cases"]
    assert case["tensors"] == 2
    assert "ours, outer momentum" in case["added"]
    assert not [name for name in case["added"] if "fused" in name]
