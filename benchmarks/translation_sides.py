"""The candidates of benchmarks/translation.py, what each does in its turn, and whether both compute the same."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from benchmarks.plain_transformer import PlainTraining, PlainTransformer, padded, plain_beam_search
from benchmarks.trainers import endless_updates, started
from benchmarks.translation_results import DECODING, FAST, HARDWARE, PLAIN, PLAIN_BF16, PLAIN_DECODING, Agreement
from experiments.engine.loop import Trainer
from experiments.engine.provenance import peak_memory
from experiments.language_modeling.cross_entropy import smallest_cross_entropy
from experiments.translation.beam_search import beam_search
from experiments.translation.corpus import TranslationCorpus
from experiments.translation.decoding import POSITIONS, batches
from experiments.translation.store import TokenPairs
from experiments.translation.subwords import PAD
from experiments.translation.transformer import (
    SOURCE,
    SOURCE_SEGMENT,
    TARGET_SEGMENT,
    Transformer,
)

EXTRA = 10  # tokens that a translation may have more than its source
WITHOUT_DROPOUT = [f"model.{name}=0" for name in ("dropout", "attention_dropout", "relu_dropout")]
Configure = Callable[..., DictConfig]  # of overrides
Answer = tuple[float, float, int]  # rate, mean loss or length, and peak memory in bytes


class Training:
    """Either side's updates; what differs is in `updates`, `update` and `finish`."""

    count: int  # updates in a turn
    stream: Iterator[Any]

    def update(self, update: Any) -> int:
        """Take an update; return its target tokens."""
        raise NotImplementedError

    def finish(self) -> float:
        """Wait for the device; return the mean loss of what was trained since the last time."""
        raise NotImplementedError

    def turn(self, _: Any) -> Answer:
        tokens, begin = 0, time.perf_counter()
        for update in itertools.islice(self.stream, self.count):
            tokens += self.update(update)
        loss = self.finish()
        return tokens / (time.perf_counter() - begin), loss, peak_memory(torch.device(HARDWARE))


class Plain(Training):
    """The plain step, on batches of random pairs whose targets have a batch's tokens in the mean."""

    def __init__(self, options: argparse.Namespace, config: DictConfig, bf16: bool = False) -> None:
        prepare_plain(options)
        self.count, self.device = options.updates, torch.device(HARDWARE)
        self.data = made(config).train
        model = plain_model(config).to(self.device)
        self.training = PlainTraining(model, 1e-3, config.task.smoothing, bf16)
        self.sentences = max(1, round(config.batch_size / self.data.lengths()[1].mean()))
        self.stream = self.updates()
        self.losses: list[float] = []

    def updates(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield sources and targets, padded int64, and their number of target tokens, of one epoch after the other."""
        lengths = self.data.lengths()[1]
        for epoch in itertools.count():
            order = np.random.default_rng(epoch).permutation(len(self.data))
            for first in range(0, len(order) - self.sentences + 1, self.sentences):
                numbers = order[first : first + self.sentences]
                pairs = [self.data.pair(number) for number in numbers]
                source, target = (padded(side, self.device) for side in zip(*pairs, strict=True))
                yield source, target, int(lengths[numbers].sum())

    def update(self, update: tuple[Tensor, Tensor, int]) -> int:
        self.losses.append(self.training.update(*update[:2]))
        return update[2]

    def finish(self) -> float:
        wait()
        mean, self.losses = sum(self.losses) / len(self.losses), []
        return mean


class Ours(Training):
    """The engine's updates."""

    def __init__(self, options: argparse.Namespace, config: DictConfig, folder: Path) -> None:
        self.count, self.trainer = options.updates, started(config, folder)
        self.stream = endless_updates(self.trainer)

    def update(self, update: Any) -> int:
        self.trainer.update(update)
        return update.size

    def finish(self) -> float:
        wait()
        self.trainer.read_loss()
        self.trainer.updater.restart()
        return self.trainer.running_loss


Search = Callable[[Tensor], list[list[int]]]  # of sources [N, S], padded; tokens of each translation


class Decoding:
    """Either side's search, in batches of sentences of like length."""

    def __init__(self, search: Search, data: TokenPairs, beam: int, device: torch.device) -> None:
        self.search, self.device, self.count = search, device, len(data)
        sources = [data.pair(number)[0] for number in range(len(data))]
        grouped = batches([len(source) for source in sources], max(1, POSITIONS // beam))
        self.batches = [[sources[number] for number in batch] for batch in grouped]

    def translations(self) -> list[list[int]]:
        return [tokens for batch in self.batches for tokens in self.search(padded(batch, self.device))]

    def turn(self, _: Any) -> Answer:
        begin = time.perf_counter()
        found = self.translations()
        wait()
        rate = self.count / (time.perf_counter() - begin)
        return rate, sum(map(len, found)) / self.count, peak_memory(self.device)


def our_search(model: Transformer, beam: int, length_penalty: float) -> Search:
    return lambda sources: [found.tokens for found in beam_search(model, sources, beam, length_penalty, EXTRA)]


def plain_search(model: Transformer, config: DictConfig, beam: int, length_penalty: float) -> Search:
    """Return the plain search with the weights of `model`."""
    plain = plain_model(config).to(model.embedding.device)
    copy_weights(model, plain)
    return lambda sources: plain_beam_search(plain, sources, beam, length_penalty, EXTRA)


def wait() -> None:
    if HARDWARE == "cuda":
        torch.cuda.synchronize()


def prepare_plain(options: argparse.Namespace) -> None:
    """Set for the process what ours sets by its configuration."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("highest")


def made(config: DictConfig) -> TranslationCorpus:
    """Return the corpus of a configuration."""
    return instantiate(config.task.corpus)(config.runtime.data_dir)


def plain_model(config: DictConfig) -> PlainTransformer:
    return PlainTransformer(**{key: value for key, value in config.model.items() if key != "_target_"})


def candidate(name: str, options: argparse.Namespace, configure: Configure, folder: Path) -> Training | Decoding:
    if name in (PLAIN, PLAIN_BF16):
        return Plain(options, configure(), bf16=name == PLAIN_BF16)
    if name in (PLAIN_DECODING, DECODING):
        prepare_plain(options)
        config = configure()
        model = instantiate(config.model).to(HARDWARE)
        model.load_state_dict(torch.load(options.weights, weights_only=True))
        return decoding(name, model, config, options)
    return Ours(options, configure(*([f"hardware={HARDWARE}"] if name == FAST else [])), folder)


def decoding(name: str, model: Transformer, config: DictConfig, options: argparse.Namespace) -> Decoding:
    """Return one side's search with the weights of `model`."""
    settings = (options.beam, options.length_penalty)
    search = our_search(model, *settings) if name == DECODING else plain_search(model, config, *settings)
    return Decoding(search, made(config).test, options.beam, torch.device(HARDWARE))


def agreement(options: argparse.Namespace, configure: Configure, folder: Path) -> Agreement:
    """Compare losses and gradients of a batch, train for `options.learned` updates, and compare translations.

    The weights go to `options.weights`.
    """
    config = configure(*WITHOUT_DROPOUT)
    ours, plain = Ours(options, config, folder), Plain(options, config)
    losses = both_losses(ours.trainer, plain.training)
    ours.trainer.parts.optimizer.zero_grad()
    tokens = 0
    for update in itertools.islice(ours.stream, options.learned):
        tokens += ours.update(update)
    model = ours.trainer.parts.task.model
    torch.save(model.state_dict(), options.weights)
    translated = [decoding(name, model, config, options).translations() for name in (PLAIN_DECODING, DECODING)]
    alike = sum(one == other for one, other in zip(*translated, strict=True))
    filled = [(count, target.numel()) for _, target, count in itertools.islice(plain.updates(), options.learned)]
    plain_filled = sum(count for count, _ in filled) / sum(places for _, places in filled)
    our_filled = tokens / (options.learned * config.batch_size)
    return Agreement(*losses, alike, len(translated[0]), plain_filled, our_filled)


def both_losses(trainer: Trainer, training: PlainTraining) -> tuple[float, float, float]:
    """Return the mean losses of a token that both have of the same pairs, and how far apart gradients are."""
    task, model = trainer.parts.task, trainer.parts.task.model
    copy_weights(model, training.model)
    (part,) = next(endless_updates(trainer)).parts
    weights = (part.targets != PAD).float()
    loss = model(part.inputs, part.targets, weights / weights.sum(), task.smoothing)
    loss.backward()
    pairs = list(unpacked(part.inputs, part.targets))
    plain_loss = training.loss(*(padded(side, part.inputs.device) for side in zip(*pairs, strict=True)))
    plain_loss.backward()
    own, other = model.embedding.grad, training.model.embedding.weight.grad
    least = smallest_cross_entropy(len(model.embedding), task.smoothing)
    return plain_loss.item() - least, loss.item(), float((own - other).norm() / own.norm())


def unpacked(inputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the source and the target of each pair in packed rows."""
    for planes, target in zip(inputs, targets, strict=True):
        for segment in range(1, int(planes[TARGET_SEGMENT].max()) + 1):
            yield planes[SOURCE][planes[SOURCE_SEGMENT] == segment], target[planes[TARGET_SEGMENT] == segment]


@torch.no_grad()
def copy_weights(model: Transformer, plain: PlainTransformer) -> None:
    """Give the plain model the weights of ours; its attention's biases are 0."""
    plain.embedding.weight.copy_(model.embedding)
    for name in ("encoder", "decoder"):
        theirs = getattr(plain.transformer, name)
        theirs.norm.load_state_dict(getattr(model, f"{name}_norm").state_dict())
        for own, other in zip(getattr(model, name), theirs.layers, strict=True):
            _copy_attention(other.self_attn, own.attention.projection, own.attention.output)
            norms = [own.attention_norm, own.feed_forward_norm]
            if name == "decoder":
                cross = own.cross_attention
                _copy_attention(other.multihead_attn, torch.cat((cross.query, cross.memory)), cross.output)
                norms.insert(1, own.cross_attention_norm)
            for number, norm in enumerate(norms, start=1):
                getattr(other, f"norm{number}").load_state_dict(norm.state_dict())
            other.linear1.load_state_dict(own.feed_forward.inner.state_dict())
            other.linear2.load_state_dict(own.feed_forward.outer.state_dict())


def _copy_attention(other: nn.MultiheadAttention, three: Tensor, output: Tensor) -> None:
    other.in_proj_weight.copy_(three)
    other.out_proj.weight.copy_(output)
    other.in_proj_bias.zero_()
    other.out_proj.bias.zero_()
