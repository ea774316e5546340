"""What every task of image classification shares: the loss, and the pass over a split that gives loss and accuracy."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.engine.processes import Processes
from experiments.engine.task import Batch, Mean, Share, Update

EVALUATION_EPOCH = -1  # the draws of the augmented passes for evaluation: the same at every evaluation
TRAIN_PASSES = ("clean", "augmented", "none")
METRICS = {1: "accuracy", 5: "top5_accuracy"}  # of k: the label is among the k greatest logits


class CrossEntropyTask(ABC):
    """A task whose loss is the cross entropy of one label per image, and which carries nothing from batch to batch.

    Batch inputs are float32 [B, C, H, W] and targets int64 [B].
    """

    model: nn.Module
    train_pass: str  # one of TRAIN_PASSES
    splits: tuple[str, ...] = ("train", "val")
    tops: tuple[int, ...] = (1,)  # keys of METRICS, from 1 upwards
    capturable = True

    @abstractmethod
    def updates(self, epoch: int, start: int = 0, share: Share = Share()) -> Iterator[Update]:  # noqa: B008 (frozen)
        """Yield the updates of `epoch` from number `start` on; EVALUATION_EPOCH is an epoch of its own."""

    @abstractmethod
    def batches(self, split: str, share: Share) -> Iterable[tuple[Tensor, Tensor]]:
        """Return the inputs and labels of this process's part of a split, in batches for an evaluation."""

    def loss(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """Return the mean cross entropy of `batch`, a 0-dim float32 tensor."""
        return F.cross_entropy(model(batch.inputs).float(), batch.targets)

    def evaluate(
        self,
        model: Callable[[Tensor], Tensor],
        split: str,
        share: Share,
        processes: Processes,
        tick: Callable[[], None],
    ) -> dict[str, Mean]:
        """Return mean cross entropy and accuracy (percent) of this process's images as <split>/{loss,accuracy}.

        train/* are a pass over the training set without gradient updates (Appendix C.1), absent with
        `train_pass` "none". One host read per pass. `tick()` is called before each batch and may raise.
        """
        if split not in self.splits:
            raise ValueError(f"evaluation.splits: there is no {split}; choose from {', '.join(self.splits)}")
        if split == "train" and self.train_pass == "none":
            return {}
        was_training = self.model.training
        self.model.eval()
        try:
            (loss, *correct), count = score(model, self.batches(split, share), tick, self.tops)
        finally:
            self.model.train(was_training)
        accuracies = {f"{split}/{METRICS[k]}": Mean(100 * n, count) for k, n in zip(self.tops, correct, strict=True)}
        return {f"{split}/loss": Mean(loss, count), **accuracies}

    def derive(self, metrics: dict[str, float]) -> dict[str, float]:
        """Return {}: loss and accuracies are all."""
        return {}

    def batch_norm_inputs(self) -> Iterator[Tensor]:
        """Yield the inputs of an augmented pass over the training set, in training batches, always the same draws."""
        return (update.parts[0].inputs for update in self.updates(EVALUATION_EPOCH))

    def state_dict(self) -> dict[str, Any]:
        """Return {}: batches follow from (seed, epoch, number), so nothing is carried."""
        return {}

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Accept what `state_dict` returned; raises ValueError for anything else."""
        for state in states:
            if state:
                raise ValueError(f"{type(self).__name__} carries no state, but was given {sorted(state)}")


@torch.no_grad()
def score(
    model: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    tick: Callable[[], None],
    tops: Sequence[int] = (1,),
) -> tuple[list[float], int]:
    """Return the sum of cross entropies and, for each k of `tops`, how many labels are among the k greatest logits;
    and how many images there are in `batches`."""
    sums, count = [], 0
    for inputs, targets in batches:
        tick()
        logits = model(inputs).float()
        loss = F.cross_entropy(logits, targets, reduction="sum")
        correct = [_correct(logits, targets, k).float() for k in tops]
        sums.append(torch.stack((loss, *correct)))
        count += len(targets)
    if not sums:
        return [0.0] * (1 + len(tops)), 0
    # The one host synchronization of the pass; a batch's sums are exact enough in float32, their total is
    # not.
    return torch.stack(sums).cpu().double().sum(dim=0).tolist(), count


def _correct(logits: Tensor, targets: Tensor, k: int) -> Tensor:
    """Return how many labels are among the k greatest logits, 0-dim; all are where there are no more than k classes."""
    if k == 1:
        return (logits.argmax(dim=1) == targets).sum()
    return (logits.topk(min(k, logits.shape[1]), dim=1).indices == targets[:, None]).sum()


def check_whole(name: str, value: Any, least: int, most: float = math.inf) -> None:
    """Raise ValueError, which names the key, for what is no whole number from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        allowed = f"at least {least}" + (f", at most {most}" if most < math.inf else "")
        raise ValueError(f"{name}={value} is not possible; give a whole number of {allowed}")


def check_common(given: dict[str, Any]) -> None:
    """Raise ValueError, naming value and choices, for the first of the arguments of every such task out of range."""
    for name in ("num_classes", "channels"):
        check_whole(f"task.{name}", given[name], 1)
    for name in ("batch_size", "eval_batch_size"):
        check_whole(name, given[name], 1)
    check_whole("seed", given["seed"], 0)
    for name in ("flip", "channels_last"):
        if not isinstance(given[name], bool):
            raise ValueError(f"task.{name}={given[name]} is not possible; give true or false")
    if given["train_pass"] not in TRAIN_PASSES:
        raise ValueError(f"evaluation.train_pass={given['train_pass']} is none of {', '.join(TRAIN_PASSES)}")
    if given["model_classes"] not in (None, given["num_classes"]):
        raise ValueError(f"model.num_classes={given['model_classes']}, but the task has {given['num_classes']} classes")
