"""AWD-LSTM as a whole against one of plain cells: its passes, its regularizers, and what survives a checkpoint."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.language_modeling.awd_lstm import AWDLSTM, activation_regularization, temporal_regularization
from tests.helpers.plain_lstm import close, plain_layer, tokens

SMALL = {"vocabulary": 11, "embedding": 5, "hidden": 7, "layers": 3}
NONE = {f"{name}_dropout": 0.0 for name in ("word", "input", "hidden", "output", "weight")}


def random_hidden(model: AWDLSTM, columns: int = 4):
    generator = torch.Generator().manual_seed(4)
    return [tuple(torch.randn(s.shape, generator=generator) for s in states) for states in model.start(columns)]


def test_the_paper_s_model_has_24_221_600_parameters():
    with torch.device("meta"):
        model = AWDLSTM()
    assert sum(p.numel() for p in model.parameters()) == 24_221_600
    assert [(layer.input_size, layer.hidden_size) for layer in model.layers] == [(400, 1150), (1150, 1150), (1150, 400)]
    assert [states[0].shape for states in model.start(80)] == [(1, 80, 1150), (1, 80, 1150), (1, 80, 400)]


def test_weights_begin_as_the_original_s_do():
    torch.manual_seed(0)
    model = AWDLSTM(vocabulary=500, embedding=100, hidden=64, layers=2)
    bound = 0.1
    assert model.embedding.abs().max() <= bound
    assert model.embedding.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not model.bias.any()
    for layer, units in zip(model.layers, (64, 100), strict=True):
        for name, weight in layer.named_parameters():
            assert weight.abs().max() <= 1 / math.sqrt(units), name
            rel = 0.03 if weight.dim() == 2 else 0.2
            assert weight.std().item() == pytest.approx(1 / math.sqrt(3 * units), rel=rel), name


def test_a_whole_pass_without_dropout_is_that_of_plain_cells_between_tied_embeddings():
    torch.manual_seed(1)
    model = AWDLSTM(**SMALL, **NONE)
    nn.init.normal_(model.bias)
    hidden = random_hidden(model)
    found = model(tokens(), hidden)
    outputs = model.embedding[tokens()]
    for layer, (h, c), (h_after, c_after) in zip(model.layers, hidden, found.hidden, strict=True):
        outputs, h, c = plain_layer(layer, outputs, h[0], c[0], layer.weight_hh_l0)
        close(h_after[0], h)
        close(c_after[0], c)
    close(found.raw, outputs)
    assert torch.equal(found.dropped, found.raw)
    close(found.logits, outputs @ model.embedding.T + model.bias)


def test_with_targets_there_is_their_cross_entropy_in_the_place_of_logits():
    torch.manual_seed(1)
    model = AWDLSTM(**SMALL)
    nn.init.normal_(model.bias)
    hidden, targets = random_hidden(model), tokens().flip(0)
    torch.manual_seed(2)
    logits = model(tokens(), hidden).logits
    torch.manual_seed(2)
    found = model(tokens(), hidden, targets)
    assert found.logits is None
    close(found.cross_entropy, F.cross_entropy(logits.flatten(0, 1), targets.flatten()))


def test_no_layer_of_the_model_keeps_a_mask():
    torch.manual_seed(0)
    model = AWDLSTM(**SMALL, **(NONE | {"weight_dropout": 0.5}))
    start = model.start(4)
    before = {name: p.clone() for name, p in model.named_parameters()}
    one, two = (model(tokens(), start).hidden for _ in range(2))
    for (h_one, _), (h_two, _) in zip(one, two, strict=True):
        assert not torch.allclose(h_one, h_two)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_each_dropout_of_the_model_is_where_the_original_has_it():
    torch.manual_seed(3)
    chances = {"word_dropout": 0.3, "input_dropout": 0.2, "hidden_dropout": 0.25, "output_dropout": 0.4}
    model = AWDLSTM(**SMALL, **chances, weight_dropout=0.5)
    hidden = random_hidden(model)
    torch.manual_seed(11)
    found = model(tokens(), hidden)

    torch.manual_seed(11)
    rows = F.dropout(torch.ones(11), 0.3)
    outputs = (model.embedding * rows[:, None])[tokens()]  # the input alone: logits have all words
    outputs = outputs * F.dropout(torch.ones(1, 4, 5), 0.2)
    for number, (each, (h, c)) in enumerate(zip(model.layers, hidden, strict=True)):
        w_hh = F.dropout(each.weight_hh_l0, 0.5)
        raw, *_ = plain_layer(each, outputs, h[0], c[0], w_hh)
        outputs = raw * F.dropout(torch.ones(1, 4, raw.shape[2]), 0.25 if number < 2 else 0.4)
    close(found.raw, raw)
    close(found.dropped, outputs)
    close(found.logits, outputs @ model.embedding.T + model.bias)


def test_evaluation_is_deterministic_and_survives_training_in_between():
    torch.manual_seed(0)
    model = AWDLSTM(**SMALL)
    hidden = random_hidden(model)
    model.eval()
    with torch.no_grad():
        before = model(tokens(), hidden)
    state = torch.get_rng_state()
    for _ in range(2):  # train -> eval -> train, where the original's weight drop fails
        model.train()
        trained = model(tokens(), hidden)
        F.cross_entropy(trained.logits.flatten(0, 1), tokens().flatten()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert not torch.allclose(trained.logits, before.logits)
        model.eval()
        with torch.no_grad():
            drawn_before = torch.get_rng_state()
            assert torch.equal(model(tokens(), hidden).logits, before.logits)
            assert torch.equal(torch.get_rng_state(), drawn_before)
    assert not torch.equal(torch.get_rng_state(), state)


def test_it_goes_into_a_checkpoint_and_a_copy_and_out_again():
    torch.manual_seed(0)
    model = AWDLSTM(**SMALL)
    model(tokens(), model.start(4)).logits.sum().backward()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1)
    loaded = AWDLSTM(**SMALL)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)  # what others hold is their own
    results = []
    for one in (loaded, copied):
        torch.manual_seed(2)
        results.append(one.train()(tokens(), one.start(4)).logits)
    assert torch.equal(*results)
    assert not torch.allclose(results[0], model(tokens(), model.start(4)).logits)
    assert sorted(model.state_dict()) == sorted(dict(model.named_parameters()))


def test_the_regularizers_are_those_of_the_paper_s_code_by_hand():
    raw = torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]], [[3.0, 0.0]]])  # steps (2, -3) and (0, 1)
    assert activation_regularization(raw).item() == pytest.approx((1 + 4 + 9 + 1 + 9 + 0) / 6)
    assert temporal_regularization(raw).item() == pytest.approx((4 + 9 + 0 + 1) / 4)
    assert temporal_regularization(raw[:2]).item() == pytest.approx((4 + 9) / 2)
    assert temporal_regularization(raw[:1]).item() == 0
    many = torch.randn(7, 4, 5, generator=torch.Generator().manual_seed(1))
    close(activation_regularization(many), many.pow(2).mean())
    close(temporal_regularization(many), (many[1:] - many[:-1]).pow(2).mean())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vocabulary": 0}, r"model\.vocabulary=0 is not possible; give a whole number of at least 1"),
        ({"layers": 1.5}, r"model\.layers=1\.5 is not possible"),
        ({"weight_dropout": 1.0}, r"model\.weight_dropout=1\.0 is not possible; give a number of at least 0, below 1"),
        ({"word_dropout": -0.1}, r"model\.word_dropout=-0\.1 is not possible"),
        ({"input_dropout": True}, r"model\.input_dropout=True is not possible"),
        ({"output_dropout": "no"}, r"model\.output_dropout=no is not possible"),
    ],
)
def test_arguments_out_of_range_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        AWDLSTM(**(SMALL | given))


def test_one_layer_is_as_wide_as_an_embedding():
    model = AWDLSTM(**(SMALL | {"layers": 1}))
    assert [(each.input_size, each.hidden_size) for each in model.layers] == [(5, 5)]
