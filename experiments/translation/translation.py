"""Translation as a task of the engine (Section 5.4, Appendix C.4): packed rows of pairs, label smoothing, BLEU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.engine.processes import Processes
from experiments.engine.task import Batch, Mean, Share, Update
from experiments.translation.beam_search import evaluating
from experiments.translation.bleu import bleu, signatures
from experiments.translation.corpora import TranslationCorpus
from experiments.translation.decoding import translate
from experiments.translation.packing import Packing, pack, planes
from experiments.translation.store import TokenPairs
from experiments.translation.subwords import PAD
from experiments.translation.transformer import Transformer

LOSSES = ("train", "val", "test")
TRANSLATED = {"val_bleu": "val", "test_bleu": "test"}  # splits whose sentences are translated
SPLITS = (*LOSSES, *TRANSLATED)


class Translation:
    """Translation of sentences, several pairs packed into each row of a batch whose shape is always the same.

    A batch has `batch_size` tokens of source and as many of target, padding included, in workers of `worker_tokens`
    each, in rows of `row_tokens`. Its loss is the mean over workers of the mean over a worker's target tokens, as
    gradients are averaged over a TPU's cores. Processes and passes share out the workers. What is left of an epoch
    that does not fill a batch is not shown in it. A sample is a target token, the end of a sentence among them.
    """

    capturable = True

    def __init__(
        self,
        model: Transformer,
        corpus: Callable[[str | Path], TranslationCorpus],
        *,
        vocabulary: int,
        batch_size: int,
        worker_tokens: int,
        row_tokens: int,
        seed: int,
        device: torch.device,
        data_dir: str | Path,
        smoothing: float = 0.1,
        beam: int = 4,
        length_penalty: float = 0.6,
        model_vocabulary: int | None = None,
    ) -> None:
        """Load the corpus; the caller has put `model` on `device`.

        `smoothing` is of labels, the mass that the target does not have. Raises ValueError for values out of range,
        before it calls `corpus`; for those that do not fit the corpus; and what `corpus` raises.
        """
        _check(locals())
        data = corpus(data_dir)
        if data.subwords.size != vocabulary:
            raise ValueError(
                f"task.vocabulary={vocabulary}, but the corpus has {data.subwords.size} subwords; give that number"
            )
        self.model, self.seed, self.device, self.data = model, seed, device, data
        self.workers, self.rows, self.width = batch_size // worker_tokens, batch_size // row_tokens, row_tokens
        self.smoothing, self.beam, self.length_penalty = smoothing, beam, length_penalty
        self.pairs: dict[str, TokenPairs] = {split: getattr(data, split) for split in LOSSES}
        self._lengths = self.pairs["train"].lengths()
        self._packed: dict[int, Packing] = {}
        self._in_order: dict[str, tuple[Packing, int]] = {}
        if not self.steps(0):
            raise ValueError(
                f"batch_size={batch_size} is too large for the {len(data.train)} pairs of train, which fill "
                f"{len(self._packing(0))} rows of {row_tokens}; give at most {len(self._packing(0)) * row_tokens}"
            )

    def steps(self, epoch: int) -> int:
        """Return the updates of `epoch`, which depend a little on how its pairs pack."""
        return len(self._packing(epoch)) // self.rows

    def updates(self, epoch: int, start: int = 0, share: Share = Share()) -> Iterator[Update]:  # noqa: B008 (frozen)
        """Yield the updates of `epoch` from number `start` on."""
        packing = self._packing(epoch)
        for number in range(start, len(packing) // self.rows):
            first = number * self.rows
            pairs = packing.pairs[packing.starts[first] : packing.starts[first + self.rows]]
            parts = [self._batch(packing, first, workers) for workers in share.passes(self.workers)]
            # With nothing of its own, a process passes the first worker's rows, with weight 0.
            parts = parts or [self._batch(packing, first, slice(0, 1), weight=0.0)]
            yield Update(parts, weight=float(self.workers), size=int(self._lengths[1][pairs].sum()))

    def _packing(self, epoch: int) -> Packing:
        """Return how `epoch` packs the training pairs: a function of (seed, epoch). 4.5 million take some seconds."""
        if epoch not in self._packed:
            # Hashed, with a number of its own: the weights' seed, and any other domain's, have streams of their own.
            rng = np.random.default_rng(np.random.SeedSequence((self.seed, epoch, 1706_03762)))
            packing = pack(rng.permutation(len(self.pairs["train"])), *self._lengths, self.width)
            # Full rows are closed early and the leftovers last: shuffled, so that no batch has all of them.
            packing = packing.in_order(rng.permutation(len(packing)))
            while len(self._packed) > 1:  # this epoch and the one before
                del self._packed[next(iter(self._packed))]
            self._packed[epoch] = packing
        return self._packed[epoch]

    def _batch(self, packing: Packing, first: int, workers: slice, weight: float | None = None) -> Batch:
        count, rows = workers.stop - workers.start, self.rows // self.workers
        begin = first + workers.start * rows
        found = planes(self.pairs["train"], packing, begin, begin + count * rows, self.width, count * rows)
        # The size is in rows, by which the engine knows batches of one shape; an update's is in target tokens.
        return Batch(*map(self._moved, found), size=count * rows, weight=float(count) if weight is None else weight)

    def _moved(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        """Return the mean over workers of the mean over target tokens: cross entropy with smoothed labels, less its
        least value, in nats."""
        targets = batch.targets
        shown = targets != PAD
        of_worker = shown.view(-1, self.rows // self.workers * self.width)
        counts = of_worker.sum(1, keepdim=True).clamp(min=1)
        weights = (of_worker / (counts * len(of_worker))).view_as(targets)
        return model(batch.inputs, targets, weights, self.smoothing)

    @torch.no_grad()
    def evaluate(
        self,
        model: Callable[..., Tensor],
        split: str,
        share: Share,
        processes: Processes,
        tick: Callable[[], None],
    ) -> dict[str, Mean | float]:
        """Return <split>/loss, the mean cross entropy (nats) of a target token; of val_bleu and test_bleu BLEU.

        Pairs that do not fit into a row are left out of losses, and not of BLEU. Loss and BLEU are without dropout,
        and without label smoothing. `tick()` is called before each batch and may raise.
        """
        if split not in SPLITS:
            raise ValueError(f"evaluation.splits: there is no {split}; choose from {', '.join(SPLITS)}")
        if split in TRANSLATED:
            return self._bleu(TRANSLATED[split], share, processes, tick)
        with evaluating(self.model):
            return {f"{split}/loss": self._mean(model, split, share, tick)}

    def _mean(self, model: Callable[..., Tensor], split: str, share: Share, tick: Callable[[], None]) -> Mean:
        data, (packing, _) = self.pairs[split], self._read_in_order(split)
        rows = self.rows // self.workers * max(1, self.workers // (share.micro * share.ranks))  # as in an update
        own, totals, count = share.of(len(packing)), [], 0.0
        for first in range(own.start, own.stop, rows):
            tick()
            found = planes(data, packing, first, min(first + rows, own.stop), self.width, rows)
            count += float((found[1] != PAD).sum())
            inputs, targets = map(self._moved, found)
            totals.append(model(inputs, targets, (targets != PAD).float(), 0.0))
        # The one host synchronization. A batch's sum is exact enough in float32, the total of all is not.
        return Mean(torch.stack(totals).cpu().double().sum().item() if totals else 0.0, count)

    def _read_in_order(self, split: str) -> tuple[Packing, int]:
        """Return how the pairs of a split pack in their order, and how many are left out as too long."""
        if split not in self._in_order:
            sources, targets = self.pairs[split].lengths()
            fit = np.flatnonzero(np.maximum(sources, targets) <= self.width)
            self._in_order[split] = pack(fit, sources, targets, self.width), len(sources) - len(fit)
        return self._in_order[split]

    def _bleu(
        self, split: str, share: Share, processes: Processes, tick: Callable[[], None]
    ) -> dict[str, Mean | float]:
        own = self.data.sources[split][share.rank :: share.ranks]
        tick()  # a check of the splits ends here, where there are no sentences of one's own too
        lines = translate(self.model, self.data.subwords, own, self.device, self.beam, self.length_penalty, tick)
        everyone = processes.gather(lines)
        translations = [""] * len(self.data.sources[split])
        for rank, theirs in enumerate(everyone):
            translations[rank :: share.ranks] = theirs
        return {f"{split}/{name}": value for name, value in bleu(translations, self.data.references[split]).items()}

    def derive(self, metrics: dict[str, float]) -> dict[str, float]:
        """Return <split>/perplexity of a subword, exp(loss)."""
        losses = {split: metrics[f"{split}/loss"] for split in LOSSES if f"{split}/loss" in metrics}
        return {f"{split}/perplexity": math.exp(min(loss, 700.0)) for split, loss in losses.items()}

    def batch_norm_inputs(self) -> Iterator[Any]:
        """Raise ValueError: the model has no batch norm."""
        raise ValueError("a Transformer has no batch norm, and gives no inputs for it")

    def data_summary(self) -> dict[str, Any]:
        """Return counts and digests of the corpus and its subwords, and the signatures of BLEU."""
        left_out = {f"{split} pairs left out of its loss": self._read_in_order(split)[1] for split in ("val", "test")}
        digests = {f"digest of {split}": self.data.digest(split) for split in LOSSES}
        summary = {**self.data.counts, **left_out, **digests, "digest of the subwords": self.data.subwords.digest}
        return summary | {f"signature of {name}": text for name, text in signatures().items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the digest of the subwords, without which the weights mean nothing."""
        return {"subwords": self.data.subwords.digest}

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Raise ValueError where the weights are of other subwords than the corpus has."""
        for state in states:
            if state["subwords"] != self.data.subwords.digest:
                raise ValueError(
                    f"the run was trained with the subwords {state['subwords']}, and the corpus has "
                    f"{self.data.subwords.digest}; put those back"
                )


def _check(given: dict[str, Any]) -> None:
    """Raise ValueError, naming value and choices, for the first argument out of range; it needs no corpus."""
    least = {"vocabulary": 5, "batch_size": 1, "worker_tokens": 1, "row_tokens": 2, "beam": 1, "seed": 0}
    for name, smallest in least.items():
        key = name if name in ("batch_size", "seed") else f"task.{name}"
        if type(given[name]) is not int or given[name] < smallest:
            raise ValueError(f"{key}={given[name]} is not possible; give a whole number of at least {smallest}")
    for name, part in (("batch_size", "worker_tokens"), ("worker_tokens", "row_tokens")):
        if given[name] % given[part]:
            key = name if name == "batch_size" else f"task.{name}"
            raise ValueError(
                f"{key}={given[name]} is not possible; give a multiple of task.{part}, which is {given[part]}"
            )
    for name, most in (("smoothing", 1.0), ("length_penalty", math.inf)):
        value = given[name]
        if type(value) not in (int, float) or not 0 <= value < most:
            limit = "" if most == math.inf else f", below {most:g}"
            raise ValueError(f"task.{name}={value} is not possible; give a number of at least 0{limit}")
    if not callable(given["corpus"]):
        raise ValueError(f"task.corpus={given['corpus']} is not possible; give a node with a _target_")
    if given["model_vocabulary"] not in (None, given["vocabulary"]):
        raise ValueError(
            f"model.vocabulary={given['model_vocabulary']}, but the task has {given['vocabulary']} subwords"
        )
