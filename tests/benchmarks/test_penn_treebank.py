"""The benchmark of Penn Treebank: the plain peer computes the same, what a turn counts, what is said of the goals."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from benchmarks import penn_treebank, penn_treebank_results, turns
from benchmarks.penn_treebank import AGREED, TOLERANCE, Plain, agreement, candidate, copy_weights, turn_of
from benchmarks.penn_treebank_results import EPOCH_TOKENS, FAST, OURS, PLAIN, Agreement, Case, findings, rows_of
from benchmarks.plain_awd_lstm import PlainAWDLSTM, PlainTraining, WeightDrop
from experiments.language_modeling.awd_lstm import AWDLSTM
from experiments.language_modeling.batching import training_chunks

SIZES = (11, 5, 7, 3)  # words, embedding, units, layers
NONE = (0.0,) * 5


def options(*given):
    sizes = ["--model", "awd_lstm_small", "--vocabulary", "12", "--bptt", "6", "--batch-size", "3", "--updates", "2"]
    return penn_treebank.parser().parse_args([*sizes, "--rounds", "1", "--threads", "1", *given])


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Let no device of the machine take part, and put back what a plain candidate sets for the whole process."""
    monkeypatch.setattr(penn_treebank, "HARDWARE", "cpu")
    monkeypatch.setattr(penn_treebank, "GPU", False)
    before = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.get_num_threads())
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]
    torch.set_num_threads(before[2])


def test_both_have_the_same_losses_without_dropout_and_a_plain_one_that_differs_is_refused(tmp_path, monkeypatch):
    found = agreement(options(), tmp_path)
    assert len(found.plain) == len(found.ours) == AGREED
    assert found.apart <= TOLERANCE
    assert len(set(found.plain)) == AGREED
    monkeypatch.setattr("benchmarks.plain_awd_lstm.CLIP", 0.01)  # from the second update on, by other weights
    assert agreement(options(), tmp_path).apart == pytest.approx(found.apart, abs=TOLERANCE)  # Adam is without scale
    monkeypatch.setattr("benchmarks.plain_awd_lstm.ACTIVATION", 500.0)
    assert agreement(options(), tmp_path).apart > TOLERANCE


class Answering:
    """In the place of a process: the n-th one answers what is planned for it."""

    def __init__(self, script, arguments):
        self.name, self.plan = arguments[-1], iter(self.answers[arguments[-1]])

    answers: dict

    def ask(self, question=None):
        pass

    def answer(self):
        return next(self.plan)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.mark.parametrize("ours", [[2.0, 1.9], [2.0, float("nan")]])
def test_no_rate_is_measured_where_losses_differ(ours, monkeypatch):
    monkeypatch.setattr(turns, "Worker", Answering)
    Answering.answers = {"agreement": [{"plain": [2.0, 2.0], "ours": ours}]}
    with pytest.raises(SystemExit, match="the plain model computes something else"):
        penn_treebank.agreed([])
    Answering.answers = {"agreement": [{"plain": [2.0, 2.0], "ours": [2.0, 2.0001]}]}
    assert penn_treebank.agreed([]).apart == pytest.approx(5e-5)


def test_the_first_round_warms_up(monkeypatch):
    monkeypatch.setattr(turns, "Worker", Answering)
    monkeypatch.setattr(penn_treebank, "CANDIDATES", (PLAIN, OURS))
    Answering.answers = {PLAIN: [(1.0, 9.0, 5), (10.0, 8.0, 6)], OURS: [(2.0, 9.0, 5), (30.0, 8.0, 7)]}
    plain, ours = penn_treebank.measure([], 1)
    assert (plain.rates, ours.rates) == ([10.0], [30.0])
    assert (plain.losses, ours.memory) == ([9.0, 8.0], 7)


def test_the_plain_model_is_ours_with_the_same_weights():
    torch.manual_seed(0)
    ours, plain = AWDLSTM(*SIZES, *NONE), PlainAWDLSTM(*SIZES, NONE)
    copy_weights(ours, plain)
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in ours.parameters())
    tokens = torch.randint(11, (6, 4))
    expected = ours(tokens, ours.start(4))
    logits, after, raw, dropped = plain(tokens, plain.start(4))
    for own, other in zip((logits, raw, dropped), (expected.logits, expected.raw, expected.dropped), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(after, expected.hidden, rtol=1e-6, atol=1e-6)


def test_the_plain_layer_drops_other_weights_in_each_training_pass_and_none_in_an_evaluation():
    torch.manual_seed(0)
    layer = WeightDrop(5, 7, 0.5)
    inputs, state = torch.randn(6, 4, 5), (torch.randn(1, 4, 7), torch.randn(1, 4, 7))
    one, two = (layer(inputs, state)[0] for _ in range(2))
    assert not torch.allclose(one, two)
    mask = layer.lstm.weight_hh_l0 / layer.raw
    assert {round(x, 4) for x in mask.flatten().tolist()} == {0.0, 2.0}
    layer.eval()
    assert torch.equal(layer(inputs, state)[0], layer(inputs, state)[0])
    layer.train()(inputs, state)[0].sum().backward()  # train -> eval -> train
    assert not layer.raw.grad[layer.lstm.weight_hh_l0 == 0].any()
    assert len(list(layer.parameters())) == 4


def test_the_plain_dropouts_are_of_whole_words_and_of_units_over_a_whole_sequence():
    torch.manual_seed(0)
    plain = PlainAWDLSTM(200, 50, 7, 1, (0.5, 0.0, 0.0, 0.4, 0.0))
    plain.layers[0] = torch.nn.Identity()
    plain.layers[0].forward = lambda inputs, state: (inputs, state)
    tokens = torch.arange(200).repeat(2, 1)  # every word twice, in columns of their own
    logits, _, raw, dropped = plain(tokens, [None])
    kept = raw[0, :, 0] != 0
    torch.testing.assert_close(raw[:, kept], 2 * plain.encoder.weight[tokens[:, kept]])
    assert not raw[:, ~kept].any()
    assert 0.3 < kept.float().mean() < 0.7
    mask = dropped[:, kept] / raw[:, kept]
    assert torch.equal(mask[0], mask[1])
    assert {round(x, 4) for x in mask.flatten().tolist()} == {0.0, round(1 / 0.6, 4)}
    torch.testing.assert_close(logits, F.linear(dropped, plain.encoder.weight, plain.decoder.bias))


def test_the_plain_step_is_one_of_adam_with_ar_tar_clipping_and_the_scaled_rate():
    torch.manual_seed(0)
    plain = PlainAWDLSTM(*SIZES, NONE)
    twin = PlainAWDLSTM(*SIZES, NONE)
    twin.load_state_dict(plain.state_dict())
    training = PlainTraining(plain, 4, 0.01)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.005, weight_decay=1.2e-6)
    tokens, targets = torch.randint(11, (2, 6, 4))
    states = twin.start(4)
    for number in range(2):
        logits, states, raw, dropped = twin(tokens, states)
        cross_entropy = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        assert training.update(tokens, targets, 0.5) == pytest.approx(cross_entropy.item(), rel=1e-6), number
        optimizer.zero_grad()
        (cross_entropy + 2 * dropped.pow(2).mean() + (raw[1:] - raw[:-1]).pow(2).mean()).backward()
        norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.25)
        assert norm > 0
        optimizer.step()
        states = [(h.detach(), c.detach()) for h, c in states]
    for own, other in zip(plain.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-7)
    assert training.tokens == 48
    training.begin()
    assert training.tokens == 0
    assert not any(state.any() for layer in training.states for state in layer)


def test_both_sides_read_the_same_text_in_the_same_lengths(tmp_path):
    plain, ours = (candidate(name, options(), tmp_path) for name in (PLAIN, OURS))
    rows = len(plain.rows)
    assert rows == 16 * 2 * 2
    chunks = [chunk for epoch in range(2) for chunk in training_chunks(1, epoch, rows, 6)]
    for chunk, (inputs, targets, scale), update in zip(
        chunks, plain.updates(), ours.updates(), strict=False
    ):  # both go on for ever
        (part,) = update.parts
        assert torch.equal(part.inputs, inputs)
        assert torch.equal(part.targets[0], targets)
        assert (update.lr_scale, update.size) == (scale, targets.numel()) == (chunk.sampled / 6, 3 * chunk.length)
        assert plain.update((inputs, targets, scale)) == ours.update(update)
    assert ours.finish() > 1


def test_a_turn_counts_tokens_and_waits_for_what_was_queued(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(penn_treebank.time, "perf_counter", lambda: clock.now)

    class Side:
        def updates(self):
            yield from (10, 20, 30, 40)

        def update(self, tokens):
            clock.now += 2.0
            return tokens

        def finish(self):
            clock.now += 1.0
            return 0.5

    turn = turn_of(Side(), 2)
    assert turn(None)[:2] == (30 / 5, 0.5)
    assert turn(None)[:2] == (70 / 5, 0.5)  # the next two


def test_what_each_candidate_computes_in(tmp_path):
    assert penn_treebank.configuration(options()).precision == "fp32"
    fast = penn_treebank.configuration(options(), "hardware=cuda", "runtime.device=cpu")
    assert (fast.precision, fast.optim.name, fast.batch_size, fast.task.bptt) == ("bf16", "la_adam", 3, 6)
    assert fast.optim.lr == penn_treebank.RATE
    for tf32, precision in ((True, "high"), (False, "highest")):
        Plain(options(), tf32)
        assert torch.backends.cudnn.allow_tf32 is tf32
        assert torch.get_float32_matmul_precision() == precision


CASES = [
    Case(PLAIN, [100.0, 200.0, 100.0], memory=2**21),
    Case(OURS, [120.0, 260.0, 90.0], memory=2**21),
    Case(FAST, [99.0, 198.0, 100.0], memory=2**22),
]
AGREEING = Agreement([2.0, 4.0], [2.0, 4.0004])


def test_candidates_are_compared_with_the_plain_one_round_by_round():
    rows = rows_of(CASES)
    assert [row["times plain"] for row in rows] == ["1.00", "1.20", "0.99"]
    assert (rows[1]["tokens/s (median)"], rows[1]["lowest"], rows[1]["highest"]) == (120.0, 90.0, 260.0)
    assert rows[1]["seconds per epoch"] == f"{EPOCH_TOKENS / 120:,.1f}"
    assert EPOCH_TOKENS == 11_618 * 80


@pytest.mark.parametrize(("goal", "met"), [(1.2, "met"), (1.21, "missed")])
def test_what_is_said_of_the_goals(goal, met, monkeypatch):
    monkeypatch.setattr(penn_treebank_results, "GOALS", {OURS: goal, FAST: 1.0})
    monkeypatch.setattr(penn_treebank_results, "GPU", False)
    agrees, speed, memory, fast_speed, fast_memory = findings(CASES, AGREEING)
    assert agrees.endswith("the losses of 2 updates are at most 1.0e-04 apart.")
    assert speed == (
        f"{OURS}: 1.20 times {PLAIN} (rounds 0.90 to 1.30). The goal of at least {goal:.1f} times is {met}."
    )
    assert memory.endswith("peak memory 2 MiB to 2 of plain, float32. The goal of no more is met.")
    assert fast_speed.endswith("missed.")
    assert fast_memory.endswith("missed.")


@pytest.mark.parametrize(("rate", "met"), [(EPOCH_TOKENS / 3.99, "met"), (EPOCH_TOKENS / 4.01, "missed")])
def test_on_a_gpu_an_epoch_has_a_goal(rate, met, monkeypatch):
    monkeypatch.setattr(penn_treebank_results, "GPU", True)
    cases = [Case(PLAIN, [rate]), Case(FAST, [rate])]
    sentence = findings(cases, AGREEING)[-1]
    assert sentence.endswith(f"The goal of at most 4 s on one H100 is {met}.")


def test_a_partial_run_writes_only_where_it_is_told_to_and_no_folder_of_the_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(penn_treebank, "agreed", lambda given: AGREEING)
    monkeypatch.setattr(penn_treebank, "measure", lambda given, rounds: CASES)
    monkeypatch.setattr(penn_treebank, "RESULTS", tmp_path / "recorded")
    penn_treebank.main(["--rounds", "3"])
    assert "Not written" in capsys.readouterr().out
    penn_treebank.main(["--rounds", "3", "--out", str(tmp_path / "out")])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    penn_treebank.main([])
    text = (tmp_path / "recorded" / "penn_treebank.json").read_text()
    record = json.loads(text)
    assert record["cases"][1]["rates"] == [120.0, 260.0, 90.0]
    assert record["cases"][3] == {"plain": [2.0, 4.0], "ours": [2.0, 4.0004]}
    assert str(tmp_path) not in text
    assert "1.20 times plain" in (tmp_path / "recorded" / "penn_treebank.md").read_text()
