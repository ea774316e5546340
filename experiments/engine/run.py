"""One run, from its configuration to its finished folder."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from omegaconf import DictConfig

from experiments.engine import provenance, records
from experiments.engine.allocator import keep_memory
from experiments.engine.configuration import check, check_share, choose_device
from experiments.engine.errors import ConfigurationError, Diverged, OfThisHost, SaidByFirst, UserError
from experiments.engine.evaluation import autocast, check_splits, evaluated_weights, measure
from experiments.engine.files import replace_file
from experiments.engine.interruption import Interrupted, Interruption
from experiments.engine.launch import OWN, Launch, launch
from experiments.engine.leaves import differences, leaves
from experiments.engine.local_workers import check_local, shared_statistics
from experiments.engine.loop import Trainer
from experiments.engine.parts import build
from experiments.engine.processes import Processes, joined
from experiments.engine.recording import Recording, finished, identity, recorded
from experiments.engine.task import Task

log = logging.getLogger(__name__)
KEPT = ("epoch", "step", "weights")  # of the best weights' row; one from an older checkpoint lacks the last


def run(config: DictConfig, folder: Path) -> dict[str, Any] | None:
    """Train what `config` describes in `folder`; return its summary, or None where a signal stopped it.

    A finished run is left as it is, an unfinished one goes on from its last checkpoint. Called by every process of a
    run alike. Raises UserError, SaidByFirst in processes but the first where that one says it.
    """
    check(config)
    started = launch()
    check_share(config, started.count)
    check_local(config, started.count)
    device = prepare(config, started)
    try:
        with joined(started, device, config.runtime.process_timeout_s) as processes:
            processes.meet()
            interruption, summary = _run(config, folder, device, processes)
            processes.any(False)  # none goes before all have come to the end: what starts processes may end the rest
    except UserError as error:
        if started.rank > 0 and isinstance(error, Diverged):  # which all of them raise, and the first one says
            raise SaidByFirst from error
        raise
    interruption.pass_on()
    return summary


def prepare(config: DictConfig, started: Launch) -> torch.device:
    """Set what holds for the whole process (threads, memory, precision of products, compilation); return the device.

    What the user's environment says already stays.
    """
    device = choose_device(config.runtime.device)
    if device.type == "cuda":
        device = torch.device("cuda", _own_device(started) if device.index is None else device.index)
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats(device)
    if config.runtime.keep_memory:
        keep_memory()
    # Several runs fit on one device: the host has little to do, and torch would compile in one process per core.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")
    threads = config.runtime.threads
    if threads is None and device.type == "cuda" and "OMP_NUM_THREADS" not in os.environ:
        threads = 2
    if threads is not None:
        torch.set_num_threads(threads)
    tf32 = config.precision == "tf32"
    if tf32 and started.rank == 0 and not (device.type == "cuda" and torch.cuda.is_tf32_supported()):
        log.warning("precision=tf32: this device has no TF32, so products are in float32")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    # Of float32: in bf16 that leaves recurrent layers, which stay in it, as autocast has float16 alone for cuDNN's.
    torch.backends.cudnn.allow_tf32 = config.precision != "fp32"
    # Few shapes, many steps; as the code that the paper used.
    torch.backends.cudnn.benchmark = config.runtime.cudnn_benchmark
    return device


def _own_device(started: Launch) -> int:
    """Return which of the host's CUDA devices is this process's, or raise OfThisHost where there are too few."""
    count = torch.cuda.device_count()
    if started.count == 1 or count == 1:  # the one that it sees: Slurm's --gpus-per-task shows each task its own
        return 0
    if started.local_rank >= count:
        raise OfThisHost(
            f"this host has {count} CUDA devices, too few for a process of local rank {started.local_rank}; "
            "start one process per device, or give runtime.device=cpu"
        )
    return started.local_rank


def _run(
    config: DictConfig, folder: Path, device: torch.device, processes: Processes
) -> tuple[Interruption, dict[str, Any] | None]:
    agree(config, processes)
    commit = provenance.commit(config.runtime.commit)  # now: the checkout may move on while this runs
    interruption = Interruption()
    done = processes.first(lambda: finished(config, folder))
    if done is not None:
        return interruption, done
    parts = build(config, device, processes)
    agree_on_data(parts.task, processes)
    splits = [*config.evaluation.splits, *config.evaluation.final_splits]
    processes.first(lambda: check_splits(parts.task, splits))
    with recorded(config, folder, commit, processes) as recording:
        if recording.done is not None:  # by another process, while this one built its parts
            return interruption, recording.done
        with interruption:
            trainer = Trainer(config, parts, device, folder, recording.tracker, interruption, commit, processes)
            summary = _train(trainer, recording)
    if summary is None and processes.writes:
        log.info("stopped at step %d, saved; the same command goes on from there", trainer.position.step)
    return interruption, summary


def agree(config: DictConfig, processes: Processes) -> None:
    """Raise ConfigurationError where the processes of a run were not given the same configuration, naming the keys."""
    if processes.alone:
        return
    shared = {f"runtime.{key}": value for key, value in config.runtime.items() if key not in OWN}
    compared = {path: leaf.value for path, leaf in leaves(config).items()}
    _compare({**compared, "seed": config.seed, **shared}, "have other configurations", processes)


def agree_on_data(task: Task, processes: Processes) -> None:
    """Raise ConfigurationError where the processes of a run do not see the same data, naming what differs.

    Each host may have a copy of its own, in a folder of its own.
    """
    if processes.alone:
        return
    described = getattr(task, "data_summary", dict)()
    _compare({**described, "updates of an epoch": task.steps(0)}, "see other data", processes)


def _compare(own: dict[str, Any], what: str, processes: Processes) -> None:
    """Raise ConfigurationError, on all processes, where one of them has other values than the first."""
    everyone = processes.gather(own)
    for rank, theirs in enumerate(everyone):
        different = differences(everyone[0], theirs)
        if different:
            raise ConfigurationError(
                f"the processes {what} ({'; '.join(different[:4])}); here is process 0, there {rank}"
            )


def _train(trainer: Trainer, recording: Recording) -> dict[str, Any] | None:
    try:
        if not trainer.train():
            return None
        evaluated, metrics = _finish(trainer)
    except Diverged as error:
        recording.finish(_values(trainer, "diverged", str(error)), trainer.device, trainer.commits)
        raise
    except Interrupted:
        return None
    if trainer.parts.average is not None:
        _warn_of_no_average(trainer, evaluated)
    values = _values(trainer, "done", evaluated=evaluated, metrics=metrics)
    summary = recording.finish(values, trainer.device, trainer.commits)
    if trainer.processes.writes:
        found = ", ".join(filter(None, [records.final(summary, trainer.config), f"{summary['wall_s']:.0f} s"]))
        log.info("done: %s (%s)", trainer.folder, found)
    return summary


def _warn_of_no_average(trainer: Trainer, evaluated: str) -> None:
    if evaluated == "best" and trainer.best.row.get("weights") != "averaged":
        log.warning("the best weights are no average: it had not begun (see average.start, average.n) in their epoch")
    elif evaluated not in ("averaged", "best"):
        log.warning("nothing was averaged: the average had not begun (see average.start, average.n) when the run ended")


def _finish(trainer: Trainer) -> tuple[str, dict[str, float]]:
    """Evaluate the final splits and write the evaluated weights; say which these are, and their further metrics.

    The batch-norm statistics that they were evaluated with are written too.
    """
    model, best = trainer.parts.task.model, trainer.best
    with contextlib.ExitStack() as stack:
        stack.enter_context(shared_statistics(trainer.parts, trainer.processes))
        stack.enter_context(trainer.undisturbed())
        stack.enter_context(autocast(trainer.precision, trainer.device))
        if best.weights is not None:
            which = stack.enter_context(best.held(model))
        else:
            # Statistics are estimated again, in the evaluation's precision.
            which = stack.enter_context(evaluated_weights(trainer.parts, trainer.batch_norm, trainer.tick))
        splits = trainer.config.evaluation.final_splits
        metrics = measure(trainer.parts, splits, trainer.share, trainer.processes, trainer.tick) if splits else {}
        if trainer.processes.writes:
            trainer.probes.findings().write(trainer.folder)
            path = trainer.folder / "weights.safetensors"
            replace_file(path, lambda temporary: safetensors.torch.save_model(model, str(temporary)))
    return which, metrics


def _values(
    trainer: Trainer,
    status: str,
    reason: str | None = None,
    evaluated: str | None = None,
    metrics: dict[str, float] | None = None,
) -> dict[str, Any]:
    config, position, best = trainer.config, trainer.position, trainer.best
    row = best.row if evaluated == "best" else trainer.last_row
    return {
        "status": status,
        "reason": reason,
        "task": config.task.name,
        "optim": config.optim.name,
        **identity(config),
        "epochs": position.epoch,
        "steps": position.step,
        "samples": position.samples,
        "evaluated": evaluated,
        **({"kept": {key: best.row[key] for key in KEPT if key in best.row}} if evaluated == "best" else {}),
        "final": {key: value for key, value in row.items() if "/" in key} | (metrics or {}),
        **({"data": described()} if (described := getattr(trainer.parts.task, "data_summary", None)) else {}),
        "parameters": sum(p.numel() for p in trainer.parts.task.model.parameters()),
        "ranks": trainer.processes.count,
        "micro_batches": config.runtime.micro_batches,
        "wall_s": round(position.wall_s, 3),  # training and evaluation, of all parts of a resumed run
    }
