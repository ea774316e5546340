"""One run, from its configuration to its finished folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from experiments.engine import records
from experiments.engine.average import evaluated_weights
from experiments.engine.configuration import build, check, choose_device
from experiments.engine.errors import Diverged
from experiments.engine.files import replace_file
from experiments.engine.interruption import Interrupted, Interruption
from experiments.engine.lock import locked
from experiments.engine.loop import Trainer, autocast
from experiments.engine.run_folder import check_folder, write_config
from experiments.engine.tracker import Tracker

log = logging.getLogger(__name__)


def run(config: DictConfig, folder: Path) -> dict[str, Any] | None:
    """Train what `config` describes in `folder`; return its summary, or None where a signal stopped it.

    A finished run is left as it is, an unfinished one goes on from its last checkpoint. Raises UserError.
    """
    check(config)
    device = choose_device(config.runtime.device)
    if config.runtime.threads is not None:
        torch.set_num_threads(config.runtime.threads)
    torch.backends.cudnn.benchmark = True  # few shapes, many steps; as the code that the paper used
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    commit = config.runtime.commit or records.commit()  # now: the checkout may move on while this runs
    done = already_over(config, folder)
    if done is not None:
        return done
    parts = build(config, device)
    with locked(folder), Interruption() as interruption:
        done = already_over(config, folder)  # by another process, while this one built its parts
        if done is not None:
            return done
        write_config(folder, config)
        tracker = tracker_of(config, folder)
        summary = None
        try:
            trainer = Trainer(config, parts, device, folder, tracker, interruption, commit)
            summary = _train(trainer)
        finally:
            tracker.finish(summary)
    if summary is None:
        log.info("stopped at step %d, saved; the same command goes on from there", trainer.position.step)
    interruption.pass_on()
    return summary


def tracker_of(config: DictConfig, folder: Path) -> Tracker:
    """Start the tracker of the run in `folder`, whose names follow from the folder's."""
    return instantiate(config.tracker)(
        folder=folder,
        config=OmegaConf.to_container(config, resolve=True),
        group=folder.parts[-2] if len(folder.parts) > 1 else folder.name,
        name="-".join(folder.parts[-2:]),
    )


def already_over(config: DictConfig, folder: Path) -> dict[str, Any] | None:
    """Return the summary of a finished run, which is left as it is, or None."""
    check_folder(folder, config)
    summary = records.read_summary(folder)
    if summary is None:
        return None
    if summary["status"] == "diverged":
        raise Diverged(f"{folder} diverged before: {summary['reason']}; delete the folder to run it again")
    final = records.final(summary)
    said = f" ({final})" if final else ""  # an analysis has claims instead
    log.info("%s is finished already%s; delete the folder to run it again", folder, said)
    return summary


def _train(trainer: Trainer) -> dict[str, Any] | None:
    folder = trainer.folder
    try:
        if not trainer.train():
            return None
    except Diverged as error:
        records.write_summary(folder, _summary(trainer, status="diverged", reason=str(error)))
        raise
    try:
        evaluated = _write_weights(trainer)
    except Interrupted:
        return None
    summary = _summary(trainer, status="done", evaluated=evaluated)
    if trainer.parts.average is not None and evaluated != "averaged":
        log.warning("nothing was averaged: the average had not begun (see average.start, average.n) when the run ended")
    records.write_summary(folder, summary)
    log.info("done: %s (%s, %.0f s)", folder, records.final(summary), summary["wall_s"])
    return summary


def _write_weights(trainer: Trainer) -> str:
    """Write the evaluated weights, with the batch-norm statistics that they were evaluated with; say which they are."""
    tick = trainer.interruption.raise_if_requested
    # The statistics are estimated again, in the evaluation's precision.
    evaluated = evaluated_weights(trainer.parts, trainer.batch_norm, tick)
    with autocast(trainer.autocast, trainer.device), evaluated as which:
        model = trainer.parts.task.model
        path = trainer.folder / "weights.safetensors"
        replace_file(path, lambda temporary: safetensors.torch.save_model(model, str(temporary)))
    return which


def _summary(trainer: Trainer, status: str, reason: str | None = None, evaluated: str | None = None) -> dict[str, Any]:
    config, at = trainer.config, trainer.position
    model = trainer.parts.task.model
    return {
        "status": status,
        "reason": reason,
        "task": config.task.name,
        "optim": config.optim.name,
        "scale": config.scale,
        "seed": config.seed,
        "epochs": at.epoch,
        "steps": at.step,
        "samples": at.samples,
        "evaluated": evaluated,
        "final": {key: value for key, value in trainer.last_row.items() if "/" in key},
        "parameters": sum(p.numel() for p in model.parameters()),
        "wall_s": round(at.wall_s, 3),  # training and evaluation, of all parts of a resumed run
        "peak_memory_bytes": records.peak_memory(trainer.device),
        "device": records.device_name(trainer.device),
        "commit": trainer.commits[-1],
        "commits": trainer.commits,
        "versions": records.versions(),
    }
