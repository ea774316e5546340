"""Train a network with Lookahead or one of its baselines:  python train.py task=cifar100 optim=la_sgd"""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from experiments.engine.command_line import in_a_job, main, run_or_explain
from experiments.engine.composition import CONFIGS
from experiments.engine.launch import launch, refuse_sweep


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
def train(config: DictConfig) -> None:
    # Imported here, as --help and --cfg do without torch.
    from experiments.engine.run import run

    folder = Path(HydraConfig.get().runtime.output_dir)
    started = launch()
    if HydraConfig.get().mode == RunMode.MULTIRUN and started.count > 1 and not in_a_job():
        run_or_explain(lambda: refuse_sweep(started), config, folder)
        sys.exit(1)  # the sweep's other runs would say the same
    run_or_explain(lambda: run(config, folder), config, folder)


if __name__ == "__main__":
    main(train, "train")
