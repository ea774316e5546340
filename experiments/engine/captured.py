"""A whole pass, forward and backward, as one CUDA graph: the host queues it at once, and not kernel by kernel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from experiments.engine.errors import ConfigurationError
from experiments.engine.evaluation import undisturbed
from experiments.engine.task import Batch, Loss, Task

WARM = 3  # passes before the capture: they compile, and cuDNN looks for its algorithms

Pass = Callable[[Batch], Loss]  # leaves gradients in `.grad`; what it returns is attached to no graph of autograd


def may_capture(config: DictConfig, task: Task, optimizer: Optimizer, device: torch.device, alone: bool) -> bool:
    """Say whether a run's passes are captured: where it is asked for, on one CUDA device, of a task that allows it.

    An optimizer that calls a closure may hold the gradients of one pass while it asks for the next, which would write
    them anew.
    """
    if not getattr(config.runtime, "cuda_graph", False):  # which the configuration of an older run lacks
        return False
    possible = device.type == "cuda" and alone and not getattr(optimizer, "needs_closure", False)
    whole = config.runtime.micro_batches == 1 and config.batch_norm_images is None  # an update is one pass
    return possible and whole and getattr(task, "capturable", False)


def mode_within(mode: str | None) -> str | None:
    """Return the mode of torch.compile for what is captured: the same one, without CUDA graphs of its own."""
    return {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}.get(mode, mode)


class CapturedPass:
    """Passes of batches that have one shape: captured once, and replayed on whatever is copied into its batch.

    Gradients lie in the same memory at every call. Whatever the weights are then counts, and buffers move as in a pass
    that is not captured. Random numbers come from the run's generator, if perhaps others than such a pass would draw.
    """

    def __init__(self, take: Pass, task: Task, parameters: Sequence[nn.Parameter], batch: Batch) -> None:
        """Capture `take` of a batch like `batch`, by which nothing moves; ConfigurationError where it cannot be."""
        self.parameters = parameters
        self.batch = dataclasses.replace(batch, inputs=batch.inputs.clone(), targets=batch.targets.clone())
        with undisturbed(task):
            self.replay, self.loss = record(lambda: take(self.batch), lambda: _drop_gradients(parameters))
        self.gradients = [parameter.grad for parameter in parameters]

    def fits(self, batch: Batch) -> bool:
        """Say whether a batch is like the captured one."""
        if (batch.size, batch.weight) != (self.batch.size, self.batch.weight):
            return False
        pairs = ((batch.inputs, self.batch.inputs), (batch.targets, self.batch.targets))
        return all(new.shape == own.shape and new.dtype == own.dtype for new, own in pairs)

    def __call__(self, batch: Batch) -> Loss:
        """Leave the gradients of a batch in `.grad`; return its loss, which the next call overwrites."""
        self.batch.inputs.copy_(batch.inputs, non_blocking=True)
        self.batch.targets.copy_(batch.targets, non_blocking=True)
        self.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.loss


def _drop_gradients(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def record(work: Callable[[], Loss], reset: Callable[[], None]) -> tuple[Callable[[], None], Loss]:
    """Capture `work` on the current CUDA device, after it has run some times, each time after `reset`.

    Return what replays it, and what it returned, which every replay fills anew. Raises ConfigurationError where it does
    what no graph can hold, as reading a value of the device.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM):
            reset()
            work()
    torch.cuda.current_stream().wait_stream(stream)
    reset()
    try:
        # A thread that reads data may ask the device for memory meanwhile, which is no part of this.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            found = work()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigurationError(
            f"runtime.cuda_graph=true is not possible with this model: {reason}; give runtime.cuda_graph=false"
        ) from error
    return graph.replay, found
