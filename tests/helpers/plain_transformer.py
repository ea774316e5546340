"""torch's own Transformer with a model's weights, and rows packed by hand, for tests that compare with them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from experiments.translation.subwords import BOS, EOS, PAD
from experiments.translation.transformer import PLANES, Transformer

SMALL = {"vocabulary": 23, "width": 12, "layers": 2, "heads": 3, "hidden": 20}
NONE = {"dropout": 0.0, "attention_dropout": 0.0, "relu_dropout": 0.0}

Pair = tuple[list[int], list[int]]  # source and target, without EOS


def small_model(seed: int = 0, **given: object) -> Transformer:
    """Return a model of float64 without dropout, whose every parameter counts: no bias is 0, no gain 1."""
    torch.manual_seed(seed)
    model = Transformer(**(SMALL | NONE | given)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def random_pairs(count: int, seed: int = 1, longest: int = 7) -> list[Pair]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count, 2), generator=generator).tolist()
    return [tuple(torch.randint(4, 23, (length,), generator=generator).tolist() for length in both) for both in lengths]


def packed(rows: list[list[Pair]], length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs [R, PLANES, length], targets and weights [R, length] of rows that hold some pairs each."""
    inputs = torch.zeros(len(rows), PLANES, length, dtype=torch.int64)
    targets = torch.zeros(len(rows), length, dtype=torch.int64)
    for row, pairs in enumerate(rows):
        ends = [0, 0]
        for segment, pair in enumerate(pairs, start=1):
            for side, tokens in enumerate(pair):
                read = [BOS, *tokens] if side else [*tokens, EOS]
                where = slice(ends[side], ends[side] + len(read))
                planes = torch.tensor([read, [segment] * len(read), list(range(len(read)))])
                inputs[row, 3 * side : 3 * side + 3, where] = planes
                if side:
                    targets[row, where] = torch.tensor([*tokens, EOS])
                ends[side] += len(read)
    return inputs, targets, (targets != PAD).float()


def plain_logits(model: Transformer, pair: Pair) -> Tensor:
    """Return the logits [1, T, vocabulary] of one pair by torch's own encoder and decoder."""
    source, target = torch.tensor([[*pair[0], EOS]]), torch.tensor([[BOS, *pair[1]]])
    memory = torch_encoder(model)(plain_embedded(model, source))
    causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=torch.float64)
    return torch_decoder(model)(plain_embedded(model, target), memory, causal) @ model.embedding.T


def plain_embedded(model: Transformer, tokens: Tensor) -> Tensor:
    """Return embedded tokens with the codes of their positions, from one sine and one cosine at a time."""
    pairs = model.width // 2
    rows = []
    for position in range(tokens.shape[1]):
        angles = [position / 10_000 ** (each / (pairs - 1)) for each in range(pairs)]
        rows.append([math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles])
    return model.embedding[tokens] * math.sqrt(model.width) + torch.tensor(rows, dtype=torch.float64)


def torch_encoder(model: Transformer) -> nn.Module:
    options = {"dropout": 0.0, "batch_first": True, "norm_first": True, "layer_norm_eps": 1e-6, "dtype": torch.float64}
    hidden = model.encoder[0].feed_forward.inner.out_features
    layer = nn.TransformerEncoderLayer(model.width, model.heads, hidden, **options)
    encoder = nn.TransformerEncoder(layer, len(model.encoder), model.encoder_norm, enable_nested_tensor=False)
    with torch.no_grad():
        for own, other in zip(model.encoder, encoder.layers, strict=True):
            _fill(other.self_attn, own.attention.projection, own.attention.output)
            _fill_rest(own, other)
            other.norm1.load_state_dict(own.attention_norm.state_dict())
            other.norm2.load_state_dict(own.feed_forward_norm.state_dict())
    return encoder


def torch_decoder(model: Transformer) -> nn.Module:
    options = {"dropout": 0.0, "batch_first": True, "norm_first": True, "layer_norm_eps": 1e-6, "dtype": torch.float64}
    hidden = model.decoder[0].feed_forward.inner.out_features
    layer = nn.TransformerDecoderLayer(model.width, model.heads, hidden, **options)
    decoder = nn.TransformerDecoder(layer, len(model.decoder), model.decoder_norm)
    with torch.no_grad():
        for own, other in zip(model.decoder, decoder.layers, strict=True):
            _fill(other.self_attn, own.attention.projection, own.attention.output)
            cross = own.cross_attention
            _fill(other.multihead_attn, torch.cat((cross.query, cross.memory)), cross.output)
            _fill_rest(own, other)
            other.norm1.load_state_dict(own.attention_norm.state_dict())
            other.norm2.load_state_dict(own.cross_attention_norm.state_dict())
            other.norm3.load_state_dict(own.feed_forward_norm.state_dict())
    return decoder


def _fill(other: nn.MultiheadAttention, three: Tensor, output: Tensor) -> None:
    other.in_proj_weight.copy_(three)
    other.out_proj.weight.copy_(output)
    other.in_proj_bias.zero_()
    other.out_proj.bias.zero_()


def _fill_rest(own: nn.Module, other: nn.Module) -> None:
    other.linear1.load_state_dict(own.feed_forward.inner.state_dict())
    other.linear2.load_state_dict(own.feed_forward.outer.state_dict())
