"""Evaluate a run's weights again from its newest checkpoint: the evaluated ones (slow, or averaged) and the fast ones.

python scripts/evaluate.py --run outputs/cifar100-la_sgd/seed-1
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.engine.checkpoint import Checkpoints
from experiments.engine.command_line import say
from experiments.engine.configuration import choose_device
from experiments.engine.errors import ConfigurationError, UserError, one_line
from experiments.engine.evaluation import Best, autocast, evaluated_weights, measure
from experiments.engine.parts import build
from experiments.engine.records import DamagedRecord, read_config, read_summary
from experiments.engine.trainer_state import restore
from scripts.reporting.program import Arguments, folder_argument, run_script


def evaluate(folder: Path, device_name: str = "auto", data_dir: str | None = None) -> pd.DataFrame:
    """Return the metrics (rows) of the evaluated, the fast and the best kept weights, and what the run recorded.

    Raises UserError where the folder holds no run, or no checkpoint that this code reads.
    """
    if not (folder / "config.yaml").exists():
        raise ConfigurationError(f"{folder} holds no run: there is no config.yaml")
    config = read_config(folder)
    if "analysis" in config:
        raise ConfigurationError(f"{folder} holds an analysis, which has no weights")
    missing = [key for key in ("runtime", "task", "model", "optim", "evaluation", "precision") if key not in config]
    if missing:
        raise DamagedRecord(
            f"{folder / 'config.yaml'} is damaged (no {missing[0]}); put the file back, or run it again"
        )
    config.runtime.data_dir = data_dir or config.runtime.data_dir
    device = choose_device(device_name)
    checkpoints = Checkpoints(folder / "checkpoints")
    state = checkpoints.load()
    if state is None:
        raise ConfigurationError(f"{folder} has no checkpoint to evaluate")
    parts = build(config, device)
    with checkpoints.fitting():
        restore(parts, state)
        best = Best(**(config.get("keep") or {}))
        best.load_state_dict(state["best"])

    columns, splits = {}, [*config.evaluation.splits, *config.evaluation.get("final_splits", [])]
    # Autocast anew for each pass: it keeps its low-precision copies of the weights as long as it lasts.
    with autocast(config.precision, device), evaluated_weights(parts, config.evaluation.batch_norm) as name:
        columns[name] = measure(parts, splits)
    if name != "weights" and "workers" not in state:  # whose fast weights are several
        with autocast(config.precision, device):
            fast = measure(parts, splits)
        columns["fast" if name == "slow" else "weights"] = fast
    if best.weights is not None:  # what the record is of, then
        with autocast(config.precision, device), best.held(parts.task.model):
            columns["best"] = measure(parts, splits)
    summary = read_summary(folder)
    if summary is not None:
        recorded = {key: value for key, value in summary["final"].items() if key != "train/running_loss"}
        columns["recorded"] = recorded
    return pd.DataFrame(columns)


def main(arguments: list[str] | None = None) -> int:
    parser = Arguments(__doc__)
    parser.add_argument("--run", type=folder_argument, required=True, metavar="DIR", help="the run folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir", help="where the data are, if not where the run found them")
    options = parser.parse_args(arguments)
    try:
        table = evaluate(options.run, options.device, options.data_dir)
    except (UserError, OSError, HydraException, OmegaConfBaseException) as error:
        say(one_line(error))
        return 1
    print(table.to_string(float_format=lambda value: f"{value:.6g}"))
    return 0


if __name__ == "__main__":
    run_script(main)
