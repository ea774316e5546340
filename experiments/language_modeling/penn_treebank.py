"""Penn Treebank as a task of the engine (Section 5.3, Appendix C.3), or any other text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.engine.processes import Processes
from experiments.engine.task import Batch, Loss, Mean, Share, Update
from experiments.language_modeling.awd_lstm import (
    AWDLSTM,
    Output,
    activation_regularization,
    temporal_regularization,
)
from experiments.language_modeling.batching import LEAST_ROWS, evaluation_chunks, in_columns, training_chunks
from experiments.language_modeling.carried import CarriedStates
from experiments.language_modeling.corpus import SPLITS, Corpus

TRAIN_PASSES = ("clean", "none")


class PennTreebank:
    """Language modeling on a text in columns, with a hidden state that goes from each batch to the next.

    Batch inputs and targets are int64 [T, B] tokens; T is random, and the learning rate of an update is in proportion
    to it. A global batch has all columns, which processes and micro-batches share out. Each pass draws dropout of its
    own, so that only without it do several of them train as one. A sample is a token that is predicted.
    """

    def __init__(
        self,
        model: AWDLSTM,
        corpus: Callable[[str | Path], Corpus],
        *,
        vocabulary: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        data_dir: str | Path,
        bptt: int = 70,
        activation: float = 2.0,
        temporal: float = 1.0,
        val_columns: int = 10,
        test_columns: int = 1,
        train_pass: str = "clean",
        model_vocabulary: int | None = None,
    ) -> None:
        """Load the text and put it on `device`; the caller has put `model` there.

        `batch_size` is the number of columns of the training text. `bptt` is the mean length of most chunks, and the
        length of those of evaluations. `activation` and `temporal` are the weights of AR and TAR in the objective.
        `train_pass` is "clean" for train/* without dropout, where that split is asked for, or "none". Raises
        ValueError for values out of range, before it calls `corpus`; for those that do not fit the text; and what
        `corpus` raises.
        """
        _check(locals())
        text = corpus(data_dir)
        columns = {"train": batch_size, "val": val_columns, "test": test_columns}
        _check_fits(text, vocabulary, columns)
        self.model, self.seed, self.device = model, seed, device
        self.columns, self.bptt, self.train_pass = columns, bptt, train_pass
        self.activation, self.temporal = activation, temporal
        self.data = {name: in_columns(getattr(text, name), columns[name]).to(device) for name in SPLITS}
        self._summary = {f"{name} tokens": len(getattr(text, name)) for name in SPLITS}
        self._text = text
        self._carried = CarriedStates(batch_size, device)

    def steps(self, epoch: int) -> int:
        """Return the updates of `epoch`: 171 or so of Penn Treebank in 80 columns, by its random lengths."""
        return len(self._chunks(epoch))

    def updates(self, epoch: int, start: int = 0, share: Share = Share()) -> Iterator[Update]:  # noqa: B008 (frozen)
        """Yield the updates of `epoch` from number `start` on; each epoch begins with hidden states of zeros.

        From a later number on, the states have to be those that the update before it has left.
        """
        columns = self.columns["train"]
        if start == 0:
            self._carried.begin(self.model.start(columns))
        for number, chunk in enumerate(self._chunks(epoch)[start:], start=start):
            parts = [self._batch(chunk.first, chunk.length, number, own) for own in share.passes(columns)]
            parts = parts or [self._nothing(chunk.first, chunk.length, number)]
            size = chunk.length * columns
            yield Update(parts, weight=float(size), size=size, lr_scale=chunk.sampled / self.bptt)

    def _chunks(self, epoch: int) -> list:
        return training_chunks(self.seed, epoch, len(self.data["train"]), self.bptt)

    def _batch(self, first: int, length: int, number: int, columns: slice) -> Batch:
        rows = self.data["train"][first : first + length + 1, columns]
        size = length * (columns.stop - columns.start)
        return Batch(rows[:-1], (rows[1:], (number, columns)), size=size, weight=float(size))

    def _nothing(self, first: int, length: int, number: int) -> Batch:
        """Return what a process without columns passes, with weight 0: the first one, whose states it does not keep."""
        rows = self.data["train"][first : first + length + 1, :1]
        return Batch(rows[:-1], (rows[1:], (number, None)), size=0, weight=0.0)

    def loss(self, model: Callable[..., Output], batch: Batch) -> Loss:
        """Return cross entropy + activation * AR + temporal * TAR, to be differentiated, and the cross entropy.

        Asked for twice, of the same batch, it starts twice from the same hidden state. Raises RuntimeError where the
        states that the batch starts from are not here.
        """
        targets, (number, columns) = batch.targets
        if columns is None:
            output = model(batch.inputs, self.model.start(targets.shape[1]), targets)
            self._carried.pass_over(number)
        else:
            output = model(batch.inputs, self._carried.entering(number, columns), targets)
            self._carried.leave(number, columns, output.hidden)
        objective = output.cross_entropy
        if self.activation:
            objective = objective + self.activation * activation_regularization(output.dropped.float())
        if self.temporal:
            objective = objective + self.temporal * temporal_regularization(output.raw.float())
        return Loss(objective, Mean(output.cross_entropy.detach() * batch.weight, batch.weight))

    @torch.no_grad()
    def evaluate(
        self,
        model: Callable[..., Output],
        split: str,
        share: Share,
        processes: Processes,
        tick: Callable[[], None],
    ) -> dict[str, Mean]:
        """Return <split>/loss, the mean cross entropy (nats) of this process's columns, without dropout.

        train/loss is absent with `train_pass` "none". One host read per pass. `tick()` is called before each batch and
        may raise.
        """
        if split not in SPLITS:
            raise ValueError(f"evaluation.splits: there is no {split}; choose from {', '.join(SPLITS)}")
        if split == "train" and self.train_pass == "none":
            return {}
        own = self.data[split][:, share.of(self.columns[split])]
        was_training = self.model.training
        self.model.eval()
        try:
            return {f"{split}/loss": Mean(self._total(model, own, tick), float((len(own) - 1) * own.shape[1]))}
        finally:
            self.model.train(was_training)

    def _total(self, model: Callable[..., Output], data: Tensor, tick: Callable[[], None]) -> float:
        """Return the sum of cross entropies of `data` [T, columns] but its first row, from hidden states of zeros."""
        if not data.shape[1]:
            return 0.0
        means, counts, hidden = [], [], self.model.start(data.shape[1])
        for chunk in evaluation_chunks(len(data), self.bptt):
            tick()
            rows = data[chunk.first : chunk.first + chunk.length + 1]
            output = model(rows[:-1], hidden, rows[1:])
            hidden = output.hidden
            means.append(output.cross_entropy)
            counts.append(rows[1:].numel())
        # The one host synchronization. A chunk's mean is exact enough in float32, the total of all is not.
        return (torch.stack(means).cpu().double() @ torch.tensor(counts, dtype=torch.float64)).item()

    def derive(self, metrics: dict[str, float]) -> dict[str, float]:
        """Return <split>/perplexity, exp(loss), and <split>/original_perplexity, as the code of AWD-LSTM has it.

        That divides the losses of T - 1 rows by T, the rows of the split, which makes it a little smaller. The paper,
        which used that code, presumably reports it.
        """
        derived = {}
        for split in SPLITS:
            loss = metrics.get(f"{split}/loss")
            if loss is not None:
                rows = len(self.data[split])
                derived[f"{split}/perplexity"] = _exp(loss)
                derived[f"{split}/original_perplexity"] = _exp(loss * (rows - 1) / rows)
        return derived

    def batch_norm_inputs(self) -> Iterator[Any]:
        """Raise ValueError: the model has no batch norm."""
        raise ValueError("a language model here has no batch norm, and gives no inputs for it")

    def data_summary(self) -> dict[str, Any]:
        """Return the number of tokens of each split, and a digest of its words."""
        return self._summary | {f"digest of the {name} text": self._text.digest(name) for name in SPLITS}

    def state_dict(self) -> dict[str, Any]:
        """Return the hidden states of this process's columns that the next batch starts from; {} before the first."""
        return self._carried.state_dict()

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Take back what all processes carried, for whatever columns are this one's now.

        Raises ValueError where columns are missing, or the states are of several batches.
        """
        self._carried.load_state_dict(states)


def _exp(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def _check(given: dict[str, Any]) -> None:
    """Raise ValueError, naming value and choices, for the first argument out of range; it needs no text."""
    least = {"vocabulary": 1, "bptt": 1, "val_columns": 1, "test_columns": 1, "batch_size": 1, "seed": 0}
    for name, smallest in least.items():
        key = name if name in ("batch_size", "seed") else f"task.{name}"
        if type(given[name]) is not int or given[name] < smallest:
            raise ValueError(f"{key}={given[name]} is not possible; give a whole number of at least {smallest}")
    for name in ("activation", "temporal"):
        value = given[name]
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            raise ValueError(f"task.{name}={value} is not possible; give a number of at least 0")
    if given["train_pass"] not in TRAIN_PASSES:
        raise ValueError(f"evaluation.train_pass={given['train_pass']} is none of {', '.join(TRAIN_PASSES)}")
    if not callable(given["corpus"]):
        raise ValueError(f"task.corpus={given['corpus']} is not possible; give a node with a _target_")
    if given["model_vocabulary"] not in (None, given["vocabulary"]):
        raise ValueError(f"model.vocabulary={given['model_vocabulary']}, but the task has {given['vocabulary']} words")


def _check_fits(text: Corpus, vocabulary: int, columns: dict[str, int]) -> None:
    """Raise ValueError, naming the value, where a setting does not fit the text."""
    if len(text.words) != vocabulary:
        raise ValueError(f"task.vocabulary={vocabulary}, but the text has {len(text.words)} words; give that number")
    keys = {"train": ("batch_size", LEAST_ROWS), "val": ("task.val_columns", 2), "test": ("task.test_columns", 2)}
    for split, (key, rows) in keys.items():
        tokens = len(getattr(text, split))
        if tokens // columns[split] < rows:
            raise ValueError(
                f"{key}={columns[split]} is too wide for the {tokens} tokens of {split}, as a column needs {rows}; "
                f"give at most {tokens // rows}"
            )
