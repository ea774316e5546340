"""The benchmark of translation: the plain peer computes the same, what a turn counts, what is said of the goals."""

from __future__ import annotations

import itertools
import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks import translation, translation_results, translation_sides, turns
from benchmarks.made_pairs import made_pairs
from benchmarks.plain_transformer import PlainTraining, PlainTransformer, padded, plain_beam_search
from benchmarks.translation import LEAST_ALIKE, TOLERANCE, configuration
from benchmarks.translation_results import (
    DECODING,
    FAST,
    OURS,
    PLAIN,
    PLAIN_BF16,
    PLAIN_DECODING,
    Agreement,
    Case,
    findings,
    rows_of,
)
from benchmarks.translation_sides import Decoding, Plain, Training, agreement, candidate, copy_weights
from experiments.translation.beam_search import beam_search
from experiments.translation.subwords import BOS, EOS, PAD
from tests.helpers.plain_transformer import NONE, SMALL, random_pairs, small_model


def options(*given):
    sizes = ["--model", "transformer_toy", "--vocabulary", "60", "--batch-size", "256", "--worker-tokens", "128"]
    counts = ["--row-tokens", "64", "--pairs", "120", "--updates", "2", "--sentences", "5", "--learned", "2"]
    return translation.parser().parse_args([*sizes, *counts, "--rounds", "1", "--threads", "1", *given])


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Let no device of the machine take part, and put back what a plain candidate sets for the whole process."""
    monkeypatch.setattr(translation, "HARDWARE", "cpu")
    monkeypatch.setattr(translation_sides, "HARDWARE", "cpu")
    before = (torch.get_float32_matmul_precision(), torch.get_num_threads())
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.set_num_threads(before[1])


def test_made_pairs_are_a_lexicon_s_and_as_long_as_asked():
    corpus = made_pairs(vocabulary=300, longest=40, median=12, spread=0.4, words=20, train_pairs=3000, test_pairs=50)
    sources, targets = corpus.train.lengths()
    assert np.array_equal(sources, targets)
    assert (sources.min(), sources.max()) == (5, 40)
    inner = np.log(sources[(sources > 5) & (sources < 40)])
    assert np.exp(np.median(inner)) == pytest.approx(12, abs=1)
    assert np.percentile(sources, 84) == pytest.approx(12 * np.exp(0.4), abs=1)  # a deviation above the median
    lexicon = {}
    for number in range(100):
        source, target = corpus.train.pair(number)
        assert (source[-1], target[-1]) == (EOS, EOS)
        assert not set(source[:-1]) & {PAD, BOS, EOS}
        assert all(lexicon.setdefault(word, other) == other for word, other in zip(source, target, strict=True))
    assert len(lexicon) == 20 + 1
    assert not (set(lexicon) & set(lexicon.values())) - {EOS}
    assert (len(corpus.val), len(corpus.test), corpus.subwords.size) == (50, 50, 300)
    again = made_pairs(vocabulary=300, longest=40, median=12, spread=0.4, words=20, train_pairs=3000, test_pairs=50)
    assert corpus.digest("train") == again.digest("train") != again.digest("test")


def test_both_compute_the_same_from_the_same_weights_and_a_plain_one_that_differs_is_seen(tmp_path, monkeypatch):
    given = options("--weights", str(tmp_path / "weights.pt"))
    found = agreement(given, partial(configuration, given), tmp_path)
    assert found.apart <= TOLERANCE
    assert found.plain_loss > 1
    assert found.alike >= LEAST_ALIKE * found.sentences
    assert found.sentences == 5
    assert 0.3 < found.plain_filled < 0.75 < found.our_filled < 1
    for name in (PLAIN_DECODING, DECODING):
        decoding = candidate(name, given, partial(configuration, given), tmp_path)
        rate, length, memory = decoding.turn(None)
        assert min(rate, length, memory) > 0
        assert len(decoding.translations()) == 5
    monkeypatch.setattr("benchmarks.translation_sides.plain_beam_search", lambda *_: [[7]] * 5)
    monkeypatch.setattr("benchmarks.plain_transformer.EPSILON", 1e-2)
    wrong = agreement(given, partial(configuration, given), tmp_path)
    assert wrong.apart > TOLERANCE
    assert wrong.alike == 0


@pytest.mark.parametrize(("extra", "penalty", "seed"), [(0, 0.6, 0), (6, 0.6, 1), (6, 0.0, 2), (6, 2.0, 3)])
def test_the_plain_search_finds_what_ours_does(extra, penalty, seed):
    model = small_model(seed)
    with torch.no_grad():
        model.embedding[EOS] += 0.3 * torch.randn(12, dtype=torch.float64)  # ended by few words, not by all
    plain = PlainTransformer(**SMALL, **NONE).double()
    copy_weights(model, plain)
    sources = padded([[*pair[0], EOS] for pair in random_pairs(12, seed)], torch.device("cpu"))
    expected = [found.tokens for found in beam_search(model, sources, 3, penalty, extra)]
    assert plain_beam_search(plain, sources, 3, penalty, extra) == expected
    limits = (sources != PAD).sum(1) + extra
    assert all(len(tokens) <= limit for tokens, limit in zip(expected, limits, strict=True))


def test_the_plain_step_is_one_of_adam_on_smoothed_labels_without_padding():
    torch.manual_seed(0)
    # In float64: of the keys' bias, which changes nothing, Adam would take the rounding for a gradient.
    plain, twin = (PlainTransformer(**SMALL, **NONE).double() for _ in range(2))
    twin.load_state_dict(plain.state_dict())
    training = PlainTraining(plain, 0.01, 0.1)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01, betas=(0.9, 0.98), eps=1e-9)
    source, target = torch.tensor([[5, 6, 7, EOS], [8, EOS, PAD, PAD]]), torch.tensor([[9, 4, EOS], [5, EOS, PAD]])
    shifted = torch.tensor([[BOS, 9, 4], [BOS, 5, EOS]])
    for _ in range(2):
        chances = F.log_softmax(twin(source, shifted), 2)
        shown = target != PAD
        of_target = chances.gather(2, target[:, :, None])[:, :, 0]
        losses = -(0.9 * of_target + 0.1 / 22 * (chances.sum(2) - of_target))
        loss = losses[shown].mean()
        assert training.update(source, target) == pytest.approx(loss.item(), rel=1e-9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for own, other in zip(plain.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-7, atol=1e-7)


def test_the_plain_model_has_our_dropouts_where_they_belong():
    plain = PlainTransformer(**SMALL, dropout=0.1, attention_dropout=0.2, relu_dropout=0.3)
    layer = plain.transformer.decoder.layers[1]
    assert (layer.self_attn.dropout, layer.multihead_attn.dropout) == (0.2, 0.2)
    assert [getattr(layer, name).p for name in ("dropout", "dropout1", "dropout2", "dropout3")] == [0.3, 0.1, 0.1, 0.1]
    assert plain.transformer.encoder.layers[0].self_attn.dropout == 0.2
    tokens = torch.full((1, 400), 5)
    embedded = plain._embedded(tokens)
    assert (embedded == 0).float().mean() == pytest.approx(0.1, abs=0.03)
    assert not (plain.eval()._embedded(tokens) == 0).all(2).any()


def test_a_plain_epoch_has_random_pairs_in_batches_of_the_budget_s_tokens():
    side = Plain(options(), configuration(options()))
    lengths = side.data.lengths()[1]
    assert side.sentences == round(256 / lengths.mean())
    epochs = len(lengths) // side.sentences
    batches = list(itertools.islice(side.updates(), 2 * epochs))
    seen = []
    for source, target, tokens in batches[:epochs]:
        assert tokens == int((target != PAD).sum()) == int((source != PAD).sum())
        assert len(source) == side.sentences
        seen += [tuple(row) for row in target.tolist()]
    assert len({row[:5] for row in seen}) > 0.9 * len(seen)
    assert not torch.equal(batches[0][1], batches[epochs][1])
    source, target, tokens = batches[0]
    assert side.update(batches[0]) == tokens
    assert side.update(batches[1]) == batches[1][2]
    assert side.finish() > 1
    assert side.losses == []


def test_a_turn_counts_tokens_or_sentences_and_waits_for_what_was_queued(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(translation_sides.time, "perf_counter", lambda: clock.now)

    def wait():
        clock.now += 1.0

    monkeypatch.setattr(translation_sides, "wait", wait)

    class Side(Training):
        count, stream = 2, iter((10, 20, 30, 40))

        def update(self, tokens):
            clock.now += 2.0
            return tokens

        def finish(self):
            translation_sides.wait()
            return 0.5

    side = Side()
    assert side.turn(None)[:2] == (30 / 5, 0.5)
    assert side.turn(None)[:2] == (70 / 5, 0.5)  # the next two

    def search(sources):
        clock.now += 1.5
        return [[7, 7]] * (len(sources) - 1) + [[7]]

    data = made_pairs(vocabulary=60, longest=64, test_pairs=6).test
    decoding = Decoding(search, data, 4, torch.device("cpu"))
    assert decoding.turn(None)[:2] == (6 / 2.5, 11 / 6)
    (batch,) = decoding.batches
    assert [len(row) for row in batch] == sorted(data.lengths()[0].tolist(), reverse=True)


def test_what_each_candidate_computes_in(tmp_path):
    configure = partial(configuration, options())
    config = configure()
    assert (config.precision, config.optim.name, config.batch_size) == ("fp32", "la_adam", 256)
    assert (config.task.worker_tokens, config.task.row_tokens, config.task.vocabulary) == (128, 64, 60)
    assert config.task.corpus.train_pairs == 120
    assert (config.optim.lr, config.schedule.warmup) == (0.02, 100)
    made = []
    stop = RuntimeError("stop")

    def recorded(*overrides):
        made.append(overrides)
        raise stop

    for name in (OURS, FAST):
        with pytest.raises(RuntimeError, match="stop"):
            candidate(name, options(), recorded, tmp_path)
    assert made == [(), ("hardware=cpu",)]
    sides = [candidate(name, options(), configure, tmp_path) for name in (PLAIN, PLAIN_BF16)]
    assert [side.training.bf16 for side in sides] == [False, True]
    assert sides[0].training.model.dropout == config.model.dropout
    assert torch.get_float32_matmul_precision() == "highest"
    update = next(sides[1].updates())
    assert sides[1].update(update) == update[2]
    ours = candidate(OURS, options(), configure, tmp_path)
    update = next(ours.stream)
    assert ours.update(update) == int((update.parts[0].targets != PAD).sum()) <= 256
    assert ours.finish() > 1


class Answering:
    """In the place of a process: the n-th one answers what is planned for it."""

    def __init__(self, script, arguments):
        self.plan = iter(self.answers[arguments[-1]])

    answers: dict

    def ask(self, question=None):
        pass

    def answer(self):
        return next(self.plan)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


AGREEING = Agreement(2.0, 2.0001, 3e-5, 127, 128, 0.51, 0.94)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"our_loss": 2.1}, "computes something else: losses 2.0 and 2.1"),
        ({"our_loss": float("nan")}, "computes something else"),
        ({"gradients": float("nan")}, "computes something else"),
        ({"gradients": 2e-4}, "gradients 2.0e-04 apart"),
        ({"alike": 121}, "121 of 128 translations are alike"),
    ],
)
def test_no_rate_is_measured_where_the_sides_differ(change, message, monkeypatch):
    monkeypatch.setattr(turns, "Worker", Answering)
    Answering.answers = {"agreement": [vars(AGREEING) | change]}
    with pytest.raises(SystemExit, match=message):
        translation.agreed([])
    Answering.answers = {"agreement": [vars(AGREEING)]}
    assert translation.agreed([]).apart == pytest.approx(5e-5)


def test_the_first_round_warms_up(monkeypatch, capsys):
    monkeypatch.setattr(turns, "Worker", Answering)
    monkeypatch.setattr(translation, "CANDIDATES", (PLAIN, DECODING))
    Answering.answers = {PLAIN: [(1.0, 9.0, 5), (10.0, 8.0, 6)], DECODING: [(2.0, 9.0, 5), (30.0, 8.0, 7)]}
    plain, ours = translation.measure([], 1)
    assert (plain.rates, ours.rates) == ([10.0], [30.0])
    assert (plain.losses, ours.memory) == ([9.0, 8.0], 7)
    assert capsys.readouterr().out.endswith("round 1: decoding, ours: 30.0 sentences/s\n")


CASES = [
    Case(PLAIN, [100.0, 200.0, 100.0], memory=2**21),
    Case(OURS, [150.0, 320.0, 90.0], memory=2**21),
    Case(PLAIN_BF16, [50.0, 50.0, 50.0], memory=2**21),
    Case(FAST, [149.0, 298.0, 150.0], memory=2**22),
    Case(PLAIN_DECODING, [1.0, 1.0, 2.0]),
    Case(DECODING, [5.0, 4.9, 20.0]),
]


def test_candidates_are_compared_with_the_plain_one_round_by_round():
    rows = rows_of(CASES)
    ratio = "3.00" if translation_results.GPU else "1.49"
    assert [row["times plain"] for row in rows] == ["1.00", "1.50", "1.00", ratio, "1.00", "5.00"]
    assert (rows[1]["median"], rows[1]["lowest"], rows[1]["highest"]) == (150.0, 90.0, 320.0)
    assert [row["unit"] for row in rows] == ["target tokens/s"] * 4 + ["sentences/s"] * 2
    assert rows[3]["peak memory (MiB)"] == 4


def test_what_is_said_of_the_goals(monkeypatch):
    monkeypatch.setattr(translation_results, "GPU", False)
    monkeypatch.setattr(translation_results, "PEERS", {OURS: PLAIN, FAST: PLAIN, DECODING: PLAIN_DECODING})
    losses, alike, filled, ours, fast, decoding = findings(CASES, AGREEING)
    assert "are 2.000000 (plain) and 2.000100, and the embeddings' gradients 3.0e-05 of their norm apart" in losses
    assert alike == "127 of 128 sentences are translated alike."
    assert "51% hold tokens in the plain batches, and 94% in ours" in filled
    assert ours == f"{OURS}: 1.50 times {PLAIN} (rounds 0.90 to 1.60). The goal of at least 1.5 times is met."
    assert fast.endswith("(rounds 1.49 to 1.50). The goal of at least 1.5 times is missed.")
    assert decoding.endswith(
        "5.00 times decoding, plain (rounds 4.90 to 10.00). The goal of at least 5.0 times is met."
    )


@pytest.mark.parametrize(("rate", "met"), [(250_000, "met"), (249_999, "missed")])
def test_on_a_gpu_the_rate_of_training_has_a_goal(rate, met, monkeypatch):
    monkeypatch.setattr(translation_results, "GPU", True)
    monkeypatch.setattr(translation_results, "PEERS", {FAST: PLAIN_BF16})
    cases = [Case(PLAIN_BF16, [100.0]), Case(FAST, [rate])]
    assert findings(cases, AGREEING)[-1].endswith(f"at least 250,000 at base size on one H100 is {met}.")


def test_a_partial_run_writes_only_where_it_is_told_to_and_no_folder_of_the_machine(tmp_path, monkeypatch, capsys):
    given = []
    monkeypatch.setattr(translation, "agreed", lambda arguments: given.append(arguments) or AGREEING)
    monkeypatch.setattr(translation, "measure", lambda arguments, rounds: given.append(arguments) or CASES)
    monkeypatch.setattr(translation, "RESULTS", tmp_path / "recorded")
    translation.main(["--rounds", "3"])
    assert given[0] == given[1]  # one file of weights
    assert given[0][:3] == ["--rounds", "3", "--weights"]
    assert "Not written" in capsys.readouterr().out
    translation.main(["--rounds", "3", "--out", str(tmp_path / "out")])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    translation.main([])
    text = (tmp_path / "recorded" / "translation.json").read_text()
    record = json.loads(text)
    assert record["cases"][1]["rates"] == [150.0, 320.0, 90.0]
    assert record["cases"][-1] == vars(AGREEING)
    assert str(tmp_path) not in text
    assert "1.50 times training, plain" in (tmp_path / "recorded" / "translation.md").read_text()
