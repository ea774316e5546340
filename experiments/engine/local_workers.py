"""Local workers, `optim.local=true`: processes that train by themselves and meet at Lookahead's outer update.

Each takes its share of every batch and the inner step that follows from it; gradients are not exchanged. The slow
weights are equal on all, and they are what is evaluated, with the mean of the workers' batch-norm statistics.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from experiments.engine.errors import ConfigurationError
from experiments.engine.parts import Parts
from experiments.engine.processes import ALONE, Processes

log = logging.getLogger(__name__)


def check_local(config: DictConfig, count: int) -> None:
    """Raise ConfigurationError for local workers that could not be: who lack slow weights, company or equal parts."""
    local = config.optim.get("local", False)
    if not isinstance(local, bool):
        raise ConfigurationError(f"optim.local={local} is not possible; give true or false")
    if not local:
        return
    if "lookahead" not in config.optim:
        raise ConfigurationError(
            f"optim.local=true needs slow weights to share, and optim={config.optim.name} has none; choose a Lookahead"
        )
    if count == 1:
        raise ConfigurationError(
            "optim.local=true needs several processes, and this is one alone; start them with torchrun or Slurm"
        )
    if config.average is not None:
        raise ConfigurationError(
            "optim.local=true does not go with an average of the weights, which would be each worker's own; give "
            "average=null"
        )
    if config.get("probe") is not None:
        raise ConfigurationError(
            "optim.local=true does not go with a probe, which looks at the weights of one process; give probe=null"
        )
    if config.batch_norm_images is not None:
        raise ConfigurationError(
            f"optim.local=true does not go with batch_norm_images={config.batch_norm_images}, whose pieces workers "
            "would not share equally; give batch_norm_images=null"
        )
    pieces = count * config.runtime.micro_batches
    if config.batch_size % pieces:
        below = config.batch_size - config.batch_size % pieces
        possible = " or ".join(map(str, filter(None, (below, below + pieces))))
        raise ConfigurationError(
            f"batch_size={config.batch_size} does not divide into equal parts for {count} local workers of "
            f"runtime.micro_batches={config.runtime.micro_batches}; give {possible}"
        )


@contextlib.contextmanager
def shared_statistics(parts: Parts, processes: Processes) -> Iterator[None]:
    """Let the model hold, on all processes, the buffers that it is evaluated with inside the context.

    They are the first process's, for good; of workers they are the means, and each has its own again after it.
    """
    buffers = list(parts.task.model.buffers())
    if not parts.local:
        processes.broadcast_tensors(buffers)
        yield
        return
    kept = [b.detach().clone() for b in buffers]
    processes.average_tensors([b for b in buffers if b.is_floating_point()])
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, own in zip(buffers, kept, strict=True):
                buffer.copy_(own)


def workers_state(parts: Parts, processes: Processes) -> list[dict[str, Any]] | None:
    """Return every worker's fast weights, buffers and inner state, on the first process; None without workers."""
    if not parts.local:
        return None
    own = {"model": parts.task.model.state_dict(), "optimizer": parts.optimizer.state_dict()}
    return processes.gather_to_first(_on_cpu(own)) or []


def restore_weights(parts: Parts, state: Mapping[str, Any], processes: Processes = ALONE) -> None:
    """Put the weights and the optimizer's state of a checkpoint back; those of workers on each its own.

    Another number of workers, which says so, goes on from the slow weights, with the mean of the buffers and inner
    states of those that there were, in turn: the inner steps since they last met are lost.
    """
    workers = state.get("workers")
    if workers is None:
        parts.task.model.load_state_dict(state["model"])
        parts.optimizer.load_state_dict(state["optimizer"])
        return
    own = workers[processes.rank % len(workers)]
    parts.task.model.load_state_dict(own["model"])
    parts.optimizer.load_state_dict(own["optimizer"])
    if len(workers) == processes.count:
        return
    parts.optimizer.return_to_slow_weights()
    for name, buffer in parts.task.model.named_buffers():
        if buffer.is_floating_point() and name in own["model"]:
            means = torch.stack([its["model"][name] for its in workers]).mean(0)
            buffer.copy_(means)
    if processes.writes and not processes.alone:
        log.warning(
            "the checkpoint is of %d local workers, and there are %d: they go on from the slow weights of step %d",
            len(workers),
            processes.count,
            state["position"]["step"],
        )


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _on_cpu(each) for key, each in value.items()}
    return [_on_cpu(each) for each in value] if isinstance(value, list | tuple) else value
