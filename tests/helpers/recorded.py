"""Records made by hand, in the folders in which figures and tables look for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from experiments.engine.experiment import Setting, settings
from scripts.reporting.draws import Draws
from scripts.reporting.loading import load_named
from scripts.reporting.records import Run

DEVICE = "a machine"


def a_run(seed: int = 1, history: dict[str, list] | None = None, folder: str = "somewhere", **values: Any) -> Run:
    """Return a run in memory; `values` are keys of the configuration, with __ for dots, and scale."""
    config = OmegaConf.create({"seed": seed, "scale": "paper", "optim": {"name": "sgd"}, "task": {"name": "digits"}})
    for key, value in values.items():
        OmegaConf.update(config, key.replace("__", "."), value, force_add=True)
    table = pd.DataFrame(history or {"epoch": [1, 2], "step": [5, 10], "train/loss": [2.0, 1.0]})
    last = table.iloc[-1]
    final = {key: float(last[key]) for key in table if "/" in key}
    summary = {
        "schema": 1,
        "status": "done",
        "reason": None,
        "seed": seed,
        "scale": config.scale,
        "device": DEVICE,
        "commit": "abc",
    }
    summary |= {"final": final, "epochs": int(last["epoch"]), "steps": int(last["step"]) if "step" in last else 0}
    summary |= {"samples": 100 * summary["epochs"]}
    return Run(config, summary, table, Path(folder))


def setting_of(experiment: str, *overrides: str, **filters: Any) -> Setting:
    """Return the one setting of an experiment that has the given values, as in Draws: `optim="sgd"`."""
    (found,) = (each for each in settings(experiment, overrides) if Draws(experiment, **filters).accepts(each.values))
    return found


def write_record(
    root: Path, setting: Setting, seed: int = 1, history: dict[str, list] | None = None, **summary: Any
) -> Path:
    """Write a record of a setting with its values of today, in the folder that it names; return that folder."""
    run = a_run(seed, history, scale=setting.values["scale"])
    folder = root / setting.name / f"seed-{seed}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(setting.values | {"seed": seed})))
    (folder / "summary.json").write_text(json.dumps(run.summary | summary))
    run.history.to_csv(folder / "history.csv", index=False)
    return folder


def load(
    draws: Sequence[Draws], roots: Path | Sequence[Path], overrides: Sequence[str] = (), name: str | None = None
) -> list[Run]:
    """Return the runs of which a named figure or table is drawn, and raise the first mistake in a record."""
    chosen, *others = load_named(draws, roots, overrides, name)
    for mistake in (mistake for one in (chosen, *others) for mistake in one.mistakes):
        raise mistake
    chosen.say_what_is_missing(draws, name)
    return chosen.runs
