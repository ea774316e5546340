"""torch.nn.Transformer with its training step and beam search as they are usually written, for comparison.

Batches are padded to their longest sentences, logits are all in memory, each update reads its loss, and a search runs
the decoder over whole prefixes at each step.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.translation.subwords import BOS, EOS, PAD
from experiments.translation.transformer import EPSILON, sinusoids

LONGEST = 1024  # tokens that there are codes of positions for


class PlainTransformer(nn.Module):
    """torch's encoder and decoder, norms first, and one matrix for source, target and logits; arguments are ours."""

    def __init__(
        self,
        vocabulary: int,
        width: int,
        layers: int,
        heads: int,
        hidden: int,
        dropout: float,
        attention_dropout: float,
        relu_dropout: float,
    ) -> None:
        super().__init__()
        self.width, self.dropout = width, dropout
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        options = {"layer_norm_eps": EPSILON, "batch_first": True, "norm_first": True}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="enable_nested_tensor")
            self.transformer = nn.Transformer(width, heads, layers, layers, hidden, dropout, **options)
        for module in self.transformer.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = attention_dropout
            elif isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
                module.dropout.p = relu_dropout
        self.register_buffer("codes", sinusoids(LONGEST, width, self.embedding.weight.detach()))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the logits [N, T, vocabulary] after each token of `target` [N, T], shifted right."""
        padding = source == PAD
        return self.logits(self.decode(target, self.encode(source, padding), padding))

    def encode(self, source: Tensor, padding: Tensor) -> Tensor:
        return self.transformer.encoder(self._embedded(source), src_key_padding_mask=padding)

    def decode(self, target: Tensor, memory: Tensor, padding: Tensor) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1], target.device)
        decoder, seen = self.transformer.decoder, padding
        return decoder(self._embedded(target), memory, causal, memory_key_padding_mask=seen, tgt_is_causal=True)

    def logits(self, decoded: Tensor) -> Tensor:
        return F.linear(decoded, self.embedding.weight)

    def _embedded(self, tokens: Tensor) -> Tensor:
        embedded = self.embedding(tokens) * math.sqrt(self.width) + self.codes[: tokens.shape[1]]
        return F.dropout(embedded, self.dropout, self.training)


class PlainTraining:
    """The training step: torch's default Adam, and cross entropy of all logits; `bf16` is by autocast."""

    def __init__(self, model: PlainTransformer, rate: float, smoothing: float, bf16: bool = False) -> None:
        self.model, self.bf16 = model.train(), bf16
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98), eps=1e-9)
        # torch gives the target a share of the smoothed mass too, Tensor2Tensor does not.
        classes = model.embedding.num_embeddings
        self.smoothing = smoothing * classes / (classes - 1)

    def loss(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross entropy of the tokens of `target` [N, T], padded, each sentence ended by EOS."""
        begin = target.new_full((len(target), 1), BOS)
        with precision(target.device, self.bf16):
            logits = self.model(source, torch.cat((begin, target[:, :-1]), 1))
            return F.cross_entropy(
                logits.flatten(0, 1), target.flatten(), ignore_index=PAD, label_smoothing=self.smoothing
            )

    def update(self, source: Tensor, target: Tensor) -> float:
        """Take an update; return its loss."""
        self.optimizer.zero_grad()
        loss = self.loss(source, target)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def precision(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager:
    return torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return sentences as int64 [N, longest], filled up with PAD."""
    tensors = [torch.as_tensor(row, dtype=torch.int64) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=PAD).to(device)


@torch.no_grad()
def plain_beam_search(
    model: PlainTransformer, sources: Tensor, beam: int, length_penalty: float, extra: int
) -> list[list[int]]:
    """Return the tokens of the translations that our beam search looks for, without BOS and EOS."""
    model.eval()
    count, padding = len(sources), sources == PAD
    limits = (~padding).sum(1) + extra
    most = ((5 + limits) / 6) ** length_penalty
    memory = model.encode(sources, padding).repeat_interleave(beam, 0)
    padding = padding.repeat_interleave(beam, 0)
    prefixes = sources.new_full((count, beam, 1), BOS)
    chances = memory.new_full((count, beam), -math.inf, dtype=torch.promote_types(memory.dtype, torch.float32))
    chances[:, 0] = 0
    best, over = torch.full_like(chances[:, 0], -math.inf), torch.zeros_like(limits, dtype=torch.bool)
    found = sources.new_full((count, int(limits.max())), EOS)
    for length in range(1, found.shape[1] + 1):
        logits = model.logits(model.decode(prefixes.flatten(0, 1), memory, padding)[:, -1])
        after = logits.log_softmax(-1, dtype=chances.dtype).view(count, beam, -1)
        scores, which = (chances[:, :, None] + after).flatten(1).topk(2 * beam)
        parents, tokens = which // after.shape[2], which % after.shape[2]
        extended = torch.cat((prefixes.gather(1, _wide(parents, length)), tokens[:, :, None]), 2)
        ends = tokens == EOS
        ended, place = scores.masked_fill(~ends, -math.inf).max(1)
        better = (ended / ((5 + length) / 6) ** length_penalty > best) & ~over
        best = torch.where(better, ended / ((5 + length) / 6) ** length_penalty, best)
        found = _replaced(found, better, extended.gather(1, _wide(place[:, None], length + 1))[:, 0, 1:])
        chances, which = scores.masked_fill(ends, -math.inf).topk(beam)
        prefixes = extended.gather(1, _wide(which, length + 1))
        unfinished = (limits == length) & (best == -math.inf) & ~over
        found = _replaced(found, unfinished, prefixes[:, 0, 1:])
        over |= (limits == length) | (best >= chances[:, 0] / most)
        if over.all():
            break
    return [row[: row.index(EOS)] if EOS in row else row for row in found.tolist()]


def _wide(index: Tensor, length: int) -> Tensor:
    return index[:, :, None].expand(-1, -1, length)


def _replaced(found: Tensor, rows: Tensor, by: Tensor) -> Tensor:
    """Return `found` with some rows begun by those of `by`, EOS after them."""
    return torch.where(rows[:, None], F.pad(by, (0, found.shape[1] - by.shape[1]), value=EOS), found)
