"""What a domain gives the training engine: updates made of batches, their loss, and an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from experiments.engine.processes import Processes


@dataclass(frozen=True)
class Batch:
    """What one forward and backward pass on one device reads.

    `inputs` and `targets` belong to the task alone: the engine hands them back to `Task.loss` and never looks
    inside.
    """

    inputs: Any  # what the task's loss reads, on the device
    targets: Any
    size: int  # samples
    weight: float  # number of targets: the weight of this batch's mean loss in an average


@dataclass(frozen=True)
class Update:
    """This process's part of one global batch, in the pieces that are passed through the model one by one.

    `weight` and `size` are those of the whole batch, over all processes. A process with nothing of a batch that is
    smaller than the number of processes has one part of weight 0, so that it takes part in the sums of gradients.
    """

    parts: Sequence[Batch]
    weight: float
    size: int
    lr_scale: float = 1.0  # multiplies every group's learning rate for this one step


@dataclass(frozen=True)
class Mean:
    """A mean that is summed over batches and processes before it is divided: `total / count`."""

    total: Tensor | float
    count: float


@dataclass(frozen=True)
class Loss:
    """What is differentiated, a 0-dim mean over a batch's targets, and what is reported (None: the same)."""

    objective: Tensor
    reported: Mean | None = None


@dataclass(frozen=True)
class Share:
    """Which part of a global batch, or of a split, is this process's, and in how many pieces it is passed."""

    rank: int = 0
    ranks: int = 1
    micro: int = 1  # pieces of a batch on each process
    pass_size: int | None = None  # samples in a piece, where that is fixed; `micro` is then 1

    def of(self, count: int) -> slice:
        """Return this process's part of `count` samples; the first processes have one more where it does not divide."""
        return _part(0, count, self.rank, self.ranks)

    def passes(self, count: int) -> list[slice]:
        """Return the pieces of this process of a global batch of `count` samples; none is empty."""
        if self.pass_size is not None:
            pieces = [slice(i, min(i + self.pass_size, count)) for i in range(0, count, self.pass_size)]
            return pieces[_part(0, len(pieces), self.rank, self.ranks)]
        whole = self.of(count)
        micro = min(self.micro, whole.stop - whole.start)  # from there on each piece is one sample
        pieces = [_part(whole.start, whole.stop, number, micro) for number in range(micro)]
        return [piece for piece in pieces if piece.stop > piece.start]


def _part(first: int, last: int, number: int, parts: int) -> slice:
    count = last - first
    return slice(first - (-count * number // parts), first - (-count * (number + 1) // parts))


class Task(Protocol):
    """One training problem: the engine runs the loop, the task says what an update, a loss and a score are.

    The engine makes it by `instantiate(config.task, model=..., seed=..., device=...)`, the model on the device; all
    else its YAML refers to. The constructor checks its values before it loads or fetches anything (ValueError).

    With `capturable = True` it says that `loss` does the same work for all batches of one shape, whose inputs and
    targets are tensors, and nothing on the host: then a pass may become one CUDA graph. With `compilable = False` its
    model says that torch.compile has nothing to gain from it.
    """

    model: nn.Module

    def steps(self, epoch: int) -> int:
        """Return how many updates `epoch` has."""
        ...

    def updates(self, epoch: int, start: int, share: Share) -> Iterator[Update]:
        """Yield the updates of `epoch` from number `start` on.

        The global batch i is a function of (seed, epoch, i) only: the same on any number of processes, in any number
        of pieces, and in a resumed run, which may start at any i.
        """
        ...

    def loss(self, model: Callable[..., Any], batch: Batch) -> Tensor | Loss:
        """Return the batch's mean loss, 0-dim; `model` may be a wrapper of `self.model`."""
        ...

    def evaluate(
        self,
        model: Callable[..., Any],
        split: str,
        share: Share,
        processes: Processes,
        tick: Callable[[], None],
    ) -> Mapping[str, Mean | float]:
        """Return the metrics of this process's part of `split`, such as {"val/loss": Mean(70.0, 100)}.

        A Mean is summed over processes; of a number, the first process's counts. `tick()` is called before each
        batch and may raise to interrupt; the training mode of `self.model` is restored all the same. Raises
        ValueError for a split that there is not.
        """
        ...

    def derive(self, metrics: dict[str, float]) -> dict[str, float]:
        """Return metrics that follow from those of all processes: a perplexity from its loss."""
        ...

    def batch_norm_inputs(self) -> Iterator[Any]:
        """Yield what `self.model` reads, to re-estimate batch-norm statistics: the same at every call and process.

        A task whose model has no batch norm needs none.
        """
        ...

    def data_summary(self) -> dict[str, Any]:
        """Return what all processes have to see alike of the data, by name: counts, digests. A task may lack it."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what this process carries from batch to batch beyond the model; {} when it carries nothing."""
        ...

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Take back what `state_dict` returned on all processes, in their order; their number may have changed."""
        ...


def updates_in(task: Task, epochs: int | None, steps: int | None = None) -> int:
    """Return how many updates a run has: `steps` where they are given, else those of its epochs.

    Raises ValueError where neither is a number.
    """
    if steps is not None:
        return steps
    if type(epochs) is not int:
        raise ValueError(f"epochs={epochs} is not possible; give a whole number of at least 1, or steps")
    return sum(task.steps(epoch) for epoch in range(epochs))
