"""The Transformer against torch's own blocks, on packed rows, and what it begins with."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

from experiments.translation.subwords import BOS, EOS
from experiments.translation.transformer import (
    SOURCE,
    SOURCE_POSITION,
    TARGET,
    TARGET_POSITION,
    Transformer,
    sinusoids,
)
from tests.helpers.plain_transformer import NONE, SMALL, packed, plain_logits, random_pairs, small_model


def close(a, b, tolerance=1e-6):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_a_pair_s_logits_are_those_of_torch_s_own_encoder_and_decoder():
    model = small_model()
    for pair in random_pairs(4):
        inputs, _, weights = packed([[pair]], 8)
        close(model(inputs)[weights > 0], plain_logits(model, pair)[0])


def test_packed_rows_give_each_pair_the_logits_that_it_has_alone():
    model, pairs = small_model(), random_pairs(9)
    rows = [pairs[:3], [], pairs[3:4], pairs[4:]]
    inputs, _, weights = packed(rows, 40)
    found = model(inputs)
    assert found.isfinite().all()
    for row, several in enumerate(rows):
        if several:
            close(found[row, weights[row] > 0], torch.cat([plain_logits(model, pair)[0] for pair in several]))


def test_gradients_are_those_of_torch_s_own_blocks():
    model, pairs = small_model(), random_pairs(5)
    inputs, targets, weights = packed([pairs[:2], pairs[2:]], 24)
    model(inputs, targets, weights, 0.1).backward()
    alone = copy.deepcopy(model)
    alone.zero_grad()
    for pair in pairs:
        labels = torch.tensor([*pair[1], EOS])
        smoothing = 0.1 * 23 / 22  # torch spreads it over the target too
        loss = F.cross_entropy(plain_logits(alone, pair)[0], labels, reduction="sum", label_smoothing=smoothing)
        # torch's blocks have copies of the matrices: the shared one, and the last normalizations, are the model's.
        loss.backward()
    for name in ("embedding", "encoder_norm.weight", "encoder_norm.bias", "decoder_norm.weight", "decoder_norm.bias"):
        own, other = model.get_parameter(name), alone.get_parameter(name)
        close(own.grad, other.grad)
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_padding_neither_gives_nan_nor_has_influence():
    model, pairs = small_model(), random_pairs(3)
    rows = [pairs[:2], pairs[2:], []]
    inputs, targets, weights = packed(rows, 20)
    inputs[0, 1] = torch.arange(20) // 10 + 1  # no padding in a source, and padding in its target
    other = inputs.clone()
    for tokens, segments, positions in ((0, 1, 2), (3, 4, 5)):
        padding = other[:, segments] == 0
        other[:, tokens][padding] = 9
        other[:, positions][padding] = 5
    results = []
    for each in (inputs, other):
        model.zero_grad()
        loss = model(each, targets, weights, 0.1)
        loss.backward()
        results.append((loss.detach(), [parameter.grad.clone() for parameter in model.parameters()]))
        assert model(each).isfinite().all()
    close(results[0][0], results[1][0], 1e-12)
    for one, two in zip(results[0][1], results[1][1], strict=True):
        assert one.isfinite().all()
        close(one, two, 1e-12)


def test_a_token_has_influence_on_itself_and_what_comes_after_it_alone():
    model = small_model()
    inputs, _, _ = packed([[([5, 6, 7], [8, 9, 10, 11, 12]), ([5, 6], [13, 14])]], 12)
    before = model(inputs)
    for place in range(9):
        changed = inputs.clone()
        changed[0, TARGET, place] += 1
        differs = (model(changed) != before).any(2)[0]
        end = 6 if place < 6 else 9
        assert differs.tolist() == [place <= each < end for each in range(12)]
    changed = inputs.clone()
    changed[0, SOURCE, 1] += 1
    # Padding, whose logits nobody has a use for, sees all of the source.
    assert (model(changed) != before).any(2)[0, :9].tolist() == [each < 6 for each in range(9)]


def test_positions_count_from_each_pair_s_beginning_and_move_its_logits():
    model = small_model()
    inputs, _, weights = packed([[([5, 6, 7], [8, 9, 10])]], 4)
    for plane in (SOURCE_POSITION, TARGET_POSITION):
        moved = inputs.clone()
        moved[0, plane] = torch.tensor([0, 2, 1, 3])
        assert not torch.allclose(model(moved), model(inputs))
    assert weights.all()


def test_source_target_and_logits_share_one_matrix():
    model = small_model()
    matrices = [name for name, parameter in model.named_parameters() if 23 in parameter.shape]
    assert matrices == ["embedding"]
    assert sorted(model.state_dict()) == sorted(dict(model.named_parameters()))


@pytest.mark.parametrize("vocabulary", [32_000, 33_708])
def test_base_has_the_parameters_of_the_recipe(vocabulary):
    with torch.device("meta"):
        model = Transformer(vocabulary)
    attention, feed_forward, norm = 4 * 512 * 512, 512 * 2048 + 2048 + 2048 * 512 + 512, 2 * 512
    encoder = attention + feed_forward + 2 * norm
    decoder = 2 * attention + feed_forward + 3 * norm
    expected = 512 * vocabulary + 6 * (encoder + decoder) + 2 * norm
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert expected - 512 * vocabulary == 44_103_680


def test_sinusoids_by_hand():
    found = sinusoids(3, 6, torch.zeros(1, dtype=torch.float64))
    expected = [
        [0, 0, 0, 1, 1, 1],
        [math.sin(1), math.sin(0.01), math.sin(0.0001), math.cos(1), math.cos(0.01), math.cos(0.0001)],
        [math.sin(2), math.sin(0.02), math.sin(0.0002), math.cos(2), math.cos(0.02), math.cos(0.0002)],
    ]
    assert found.dtype == torch.float64
    close(found, torch.tensor(expected, dtype=torch.float64), 1e-7)
    both_ends = [[0, 0, 1, 1], [math.sin(1), math.sin(0.0001), math.cos(1), math.cos(0.0001)]]
    close(sinusoids(2, 4, torch.zeros(1)), torch.tensor(both_ends), 1e-7)
    close(sinusoids(2, 2, torch.zeros(1)), torch.tensor([[0.0, 1.0], [math.sin(1), math.cos(1)]]), 1e-7)


def test_weights_begin_as_tensor2tensor_s_do():
    torch.manual_seed(0)
    model = Transformer(vocabulary=2000, width=64, layers=2, heads=4, hidden=256)
    assert model.embedding.std().item() == pytest.approx(64**-0.5, rel=0.01)
    assert model.embedding.mean().item() == pytest.approx(0, abs=0.002)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.full((64,), float(name.endswith("weight")))), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        elif name != "embedding":
            # A projection is from 64 to 64, whatever lies below it in the same matrix.
            fan = (64 + 256) / 2 if "feed_forward" in name else 64
            bound = math.sqrt(3 / fan)
            assert 0.99 * bound < parameter.abs().max() <= bound, name
            assert parameter.std().item() == pytest.approx(fan**-0.5, rel=0.03), name


@pytest.mark.parametrize("name", ["dropout", "attention_dropout", "relu_dropout"])
def test_each_dropout_is_there_in_training_and_not_in_evaluation(name):
    model = small_model(**{name: 0.5})
    inputs, targets, weights = packed([random_pairs(2)], 16)
    expected = small_model()(inputs)
    assert not torch.allclose(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), expected)
    close(model(inputs, targets, weights), small_model()(inputs, targets, weights))


def test_each_dropout_is_where_tensor2tensor_has_it(monkeypatch):
    drawn = []

    def dropout(tensor, p, training):
        assert training
        drawn.append((tuple(tensor.shape), p))
        return tensor

    attention = []
    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "dropout", dropout)
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, k, v, mask, p: attention.append(p) or attend(q, k, v, mask, p)
    )
    model = small_model(dropout=0.1, attention_dropout=0.2, relu_dropout=0.3)
    model(packed([random_pairs(2)], 16)[0])
    embedded, added, hidden = ((2, 1, 16, 12), 0.1), ((1, 16, 12), 0.1), ((1, 16, 20), 0.3)
    assert drawn == [embedded, *[added, hidden, added] * 2, *[added, added, hidden, added] * 2]
    assert attention == [0.2] * 6


def test_with_targets_there_is_their_loss_in_the_place_of_logits():
    model, pairs = small_model(), random_pairs(4)
    inputs, targets, weights = packed([pairs[:2], pairs[2:]], 20)
    weights *= torch.linspace(0.1, 2, 20)
    losses = F.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none")
    close(model(inputs, targets, weights), (weights * losses).sum())
    close(model(inputs, targets), losses.sum())


def test_under_autocast_products_are_in_its_precision_and_the_loss_in_float32():
    model = small_model().float()
    inputs, targets, weights = packed([random_pairs(3)], 24)
    expected = model(inputs, targets, weights)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(inputs).dtype == torch.bfloat16
        found = model(inputs, targets, weights, 0.0)
    assert found.dtype == expected.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=2e-2)
    assert found.item() != pytest.approx(expected.item(), rel=1e-6)
    found.backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


def test_a_pass_reads_nothing_on_the_host_and_depends_on_no_value():
    with FakeTensorMode():  # whose tensors have no values
        model = Transformer(**SMALL)
        inputs, weights = torch.zeros(2, 6, 16, dtype=torch.int64), torch.ones(2, 16)
        logits, loss = model(inputs), model(inputs, inputs[:, 0], weights, 0.1)
        loss.backward()
    assert (logits.shape, loss.shape) == ((2, 16, 23), ())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vocabulary": 3}, r"model\.vocabulary=3 is not possible; give a whole number of at least 4"),
        ({"layers": 0}, r"model\.layers=0 is not possible; give a whole number of at least 1"),
        ({"hidden": 1.5}, r"model\.hidden=1\.5 is not possible"),
        ({"width": True}, r"model\.width=True is not possible"),
        ({"width": 9}, r"model\.width=9 is not possible; give an even number"),
        ({"heads": 5}, r"model\.heads=5 is not possible; give a number that divides model\.width=12"),
        ({"dropout": 1.0}, r"model\.dropout=1\.0 is not possible; give a number of at least 0, below 1"),
        ({"attention_dropout": -0.1}, r"model\.attention_dropout=-0\.1 is not possible"),
        ({"relu_dropout": "no"}, r"model\.relu_dropout=no is not possible"),
    ],
)
def test_arguments_out_of_range_are_named(given, message):
    with pytest.raises(ValueError, match=message) as raised:
        Transformer(**(SMALL | NONE | given))
    assert "\n" not in str(raised.value)


def test_the_smallest_sizes_are_possible():
    model = Transformer(vocabulary=4, width=2, layers=1, heads=1, hidden=1, **NONE)
    # The embedding, 3 attentions of 4 matrices each, and in and out of the one unit of encoder and decoder.
    matrices = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    assert sum(parameter.numel() for parameter in matrices) == 4 * 2 + 3 * 4 * 2 * 2 + 2 * (2 + 2)


def test_bos_begins_a_packed_target():
    inputs, targets, _ = packed([[([5], [6, 7])]], 4)
    assert inputs[0, TARGET].tolist() == [BOS, 6, 7, 0]
    assert targets[0].tolist() == [6, 7, EOS, 0]
