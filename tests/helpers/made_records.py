"""Small records of all that a figure or table is made of, with numbers whose means and deviations are known by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.engine.experiment import Setting
from scripts.reporting.draws import Draws
from scripts.reporting.loading import declared
from tests.helpers.recorded import write_record
from tests.helpers.running import run_in

SCALE = "smoke"
METRICS = (
    *("train/loss", "train/running_loss", "val/loss", "val/accuracy", "val/top5_accuracy"),
    *(f"{split}/{name}" for split in ("train", "val", "test") for name in ("original_perplexity", "perplexity")),
    *(f"{split}/{name}" for split in ("val", "test") for name in ("bleu", "bleu_intl")),
)
ADAPTIVE = {"lookahead/at_low": 0.25, "lookahead/at_one": 0.5, "lookahead/alpha_raw": 0.75}
K, UPDATES = 10, 20  # of the inner loop on a plane


def surface(step: int = 39110) -> dict[str, np.ndarray]:
    """Return arrays as the probe writes them: a hill over a plane of 5 x 4, and paths that hardly mean anything."""
    x, y = np.linspace(-1, 11, 5), np.linspace(-4, 5, 4)
    found = {"x": x, "y": y, "accuracy": 60 - (x - 8) ** 2 - y[:, None] ** 2, "step": np.array(step), "k": np.array(K)}
    found["loss"] = -found["accuracy"]
    along = np.arange(UPDATES + 1.0)
    sgd = np.stack([along / 2, np.sin(along)], axis=1)
    slow = np.array([[0.0, 0.0], [4.0, 0.0]])
    for number, (name, path) in enumerate({"fast": sgd[: K + 1], "slow": slow, "sgd": sgd}.items()):
        inside = np.isin(np.arange(len(path)), (0, 5, 10)) | (name == "slow")
        found |= {name: path, f"{name}_distance": np.where(inside, 1e-7, 0.25)}
        found |= {f"{name}_accuracy": 50.0 + number + np.arange(len(path)), f"{name}_loss": 2.0 - path[:, 0] / 10}
    return found


def every_update(k: int) -> pd.DataFrame:
    """Return what the probe writes of fast weights that lose a point per update, which a synchronization gives back."""
    update = np.arange(1, 13)
    table = {"update": update, "step": 100 + update, "synchronized": update % k == 0}
    for metric in ("val/accuracy", "train_sample/accuracy", "train_sample/loss"):
        table |= {f"fast/{metric}": 92.0 - (update - 1) % k - 1, f"slow/{metric}": np.full(12, 92.0)}
    return pd.DataFrame(table)


def final_value(number: int, seed: int) -> float:
    """Return with what every metric of a setting ends: of two seeds the mean is 11, 12, ..., the deviation √2."""
    return 11.0 + number + (-1 if seed == 1 else 1)


def made_settings(draws: Sequence[Draws]) -> list[tuple[Setting, list[int]]]:
    """Return each setting of a figure or table, in the order in which they are declared, with its first two seeds."""
    found: dict[str, tuple[Setting, list[int]]] = {}
    for setting, seed in declared(draws, (), SCALE).values():
        seeds = found.setdefault(setting.name, (setting, []))[1]
        if len(seeds) < 2:
            seeds.append(seed)
    return list(found.values())


def make_records(root: Path, draws: Sequence[Draws]) -> None:
    """Write records of every setting of a figure or table: two seeds where it is trained with several.

    An analysis is computed: at this scale that takes some tenths of a second.
    """
    for number, (setting, seeds) in enumerate(made_settings(draws)):
        for seed in seeds:
            if "analysis" in setting.values:
                words = [f"experiment={draws[0].experiment}", f"scale={SCALE}", *setting.point]
                run_in(root / setting.name / f"seed-{seed}", *words)
            else:
                _write_trained(root, setting, number, seed)


def _write_trained(root: Path, setting: Setting, number: int, seed: int) -> None:
    """Write a run whose metrics all fall by one each epoch, to their final value."""
    epochs, value = max(setting.values["epochs"] or 0, 2), final_value(number, seed)
    history = {"epoch": list(range(1, epochs + 1)), "step": [5 * epoch for epoch in range(1, epochs + 1)]}
    falling = [value + epochs - epoch for epoch in history["epoch"]]
    history |= dict.fromkeys(METRICS, falling) | {name: [share] * epochs for name, share in ADAPTIVE.items()}
    folder = write_record(root, setting, seed, history, samples=100 * epochs, parameters=1000)
    probe = (setting.values.get("probe") or {}).get("_target_", "").rpartition(".")[2]
    if probe == "Unaveraged":
        pd.DataFrame(history).to_csv(folder / "unaveraged.csv", index=False)
    elif probe == "EveryUpdate":
        every_update(setting.values["optim"]["k"]).to_csv(folder / "every_update.csv", index=False)
    elif probe == "LossSurface":
        np.savez(folder / "loss_surface.npz", **surface())


def rename_metrics(folder: Path) -> None:
    """Let a record have metrics of other names than it had: all are there, and none that is shown."""
    for path in folder.glob("*.csv"):
        text = path.read_text()
        heading, rows = text.split("\n", 1)
        path.write_text(heading.replace("/", "/other_") + "\n" + rows)
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    summary["final"] = {key.replace("/", "/other_"): value for key, value in summary["final"].items()}
    path.write_text(json.dumps(summary))
