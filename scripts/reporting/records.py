"""Find and read recorded runs, for figures and tables; each record is checked when it is read."""

from __future__ import annotations

import contextlib
import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.engine.records import SCHEMA, read_summary
from experiments.engine.run_folder import differences, result_config
from scripts.reporting.terminal import show

REQUIRED = ("schema", "status", "seed", "scale", "device", "final")  # of summary.json
SCALES = ("paper", "short", "proxy", "smoke")  # the largest first
PRECISIONS = ("fp32", "tf32", "bf16")
# Runs that were started alone, outside the experiment that they belong to.
ALSO_BELOW = {"table1_cifar": ("single",)}


@dataclass(frozen=True, init=False)
class Draws:
    """Runs that a figure or table is made of: those of an experiment whose configuration has the given values.

    `Draws("table1_cifar", task="cifar100", where={"optim.lr": [0.05, 0.1]})`: a group is compared by its name, a key
    inside one is written with dots in `where`, and a list holds the values of which one must match.
    """

    experiment: str
    where: Mapping[str, Any]

    def __init__(self, experiment: str, where: Mapping[str, Any] | None = None, **filters: Any) -> None:
        object.__setattr__(self, "experiment", experiment)
        object.__setattr__(self, "where", {**filters, **(where or {})})

    def accepts(self, config: DictConfig) -> bool:
        """Return whether a run of this configuration is drawn."""
        for key, wanted in self.where.items():
            if value_of(config, key) not in (wanted if isinstance(wanted, list | tuple) else [wanted]):
                return False
        return True


@dataclass(frozen=True)
class Run:
    """One finished run as it was recorded; an analysis has no history, but tables and arrays in its folder."""

    config: DictConfig
    summary: dict[str, Any]
    history: pd.DataFrame | None = None
    folder: Path | None = None

    def table(self, name: str) -> pd.DataFrame:
        """Return <name>.csv of the record; text that is missing is empty, a number nan."""
        path = self.folder / f"{name}.csv"
        with readable(path):
            table = read_table(path)
        return table.fillna({column: "" for column in ("changed", "case") if column in table})

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return what <name>.npz of the record holds."""
        path = self.folder / f"{name}.npz"
        with readable(path), np.load(path) as arrays:
            return dict(arrays)


def value_of(config: DictConfig, key: str) -> Any:
    """Return the value of a key with dots, the name of a group that has one, or None where there is no such key."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, DictConfig) else None
    return node.name if isinstance(node, DictConfig) and "name" in node else node


def precision_of(config: DictConfig) -> str | None:
    """Return fp32, tf32 or bf16; None of an analysis, which computes in float64."""
    if "analysis" in config:
        return None
    precision = config.get("precision")
    if isinstance(precision, DictConfig):
        precision = precision.get("autocast")
    return precision or "fp32"


def setting(config: DictConfig) -> str:
    """Return what decides the result, the seed aside, as text that is the same for equal settings (1 is 1.0)."""
    plain = result_config(config)
    plain.pop("seed", None)
    plain.get("analysis", {}).pop("seed", None)  # the same one, handed on
    return json.dumps(_with_equal_numbers(plain), sort_keys=True)


def _with_equal_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_equal_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_equal_numbers(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def load(draws: Sequence[Draws], root: Path) -> list[Run]:
    """Return the finished runs below `root` (results/runs, or outputs) that a figure or table declares.

    Runs of the largest scale alone, fp32 first: two scales or precisions never meet in one figure. Raises
    FileNotFoundError where there are none, ValueError for a record that is damaged, of another schema or there twice.
    """
    runs: dict[Path, Run] = {}
    for wanted in draws:
        for place in (wanted.experiment, *ALSO_BELOW.get(wanted.experiment, ())):
            for path in sorted((root / place).glob("*/seed-*/summary.json")):
                run = read_run(path.parent)
                if run is not None and wanted.accepts(run.config):
                    runs[path.parent] = run
    if not runs:
        experiments = list(dict.fromkeys(wanted.experiment for wanted in draws))
        raise FileNotFoundError(
            f"no finished run of {' or '.join(experiments)} below {root}; python train.py experiment={experiments[0]}, "
            f"then python scripts/collect.py outputs/{experiments[0]}"
        )
    refuse_twice(list(runs.values()))
    return of_one_scale(list(runs.values()))


def read_run(folder: Path) -> Run | None:
    """Return a run of a folder, or None, and a note, where it did not end well."""
    path = folder / "summary.json"
    with readable(path):
        summary = read_summary(folder)
        missing = [key for key in REQUIRED if not isinstance(summary, dict) or key not in summary]
        if missing:
            raise ValueError(f"no {missing[0]}")
    if summary["schema"] != SCHEMA:
        raise ValueError(f"{path} has schema {summary['schema']}, this code reads {SCHEMA}")
    if summary["status"] != "done":
        show(f"note: {folder} is left out, it {summary['status']}: {summary.get('reason')}")
        return None
    history = None
    if "analysis" not in summary:
        with readable(folder / "history.csv"):
            history = read_table(folder / "history.csv")
            check_history(history, summary)
    return Run(_config(folder / "config.yaml"), summary, history, folder)


def check_history(history: pd.DataFrame, summary: Mapping[str, Any]) -> None:
    """Raise ValueError where history.csv does not end as summary.json says: cut, changed, or of another run."""
    if history.empty:
        raise ValueError("no row")
    last = history.iloc[-1]
    ends = {key: summary[f"{key}s"] for key in ("epoch", "step") if f"{key}s" in summary} | summary["final"]
    for key, value in ends.items():
        if key not in history:
            continue
        recorded = last[key] if isinstance(last[key], int | float | np.number) else math.nan
        finite = value is not None
        if finite != bool(np.isfinite(recorded)) or (finite and recorded != value):
            raise ValueError(f"its last {key} is {last[key]}, summary.json says {value}")


def refuse_twice(runs: Sequence[Run]) -> None:
    """Raise ValueError where a pair of setting and seed comes twice: it would count as two seeds."""
    known: dict[tuple[str, int], Run] = {}
    for run in runs:
        first = known.setdefault((setting(run.config), run.config.seed), run)
        if first is not run:
            raise ValueError(
                f"{first.folder} and {run.folder} are the same setting with the same seed {run.config.seed}, "
                "which would count twice; move one of them away"
            )


def of_one_scale(runs: list[Run]) -> list[Run]:
    """Return the runs of the largest scale, of these the runs in the first precision, with a note of the others."""

    def rank(run: Run) -> tuple[int, int]:
        scale, precision = run.summary["scale"], precision_of(run.config) or "fp32"
        return tuple(
            known.index(value) if value in known else len(known)
            for known, value in ((SCALES, scale), (PRECISIONS, precision))
        )

    first = min(runs, key=rank)
    kept = [run for run in runs if rank(run) == rank(first)]
    if len(kept) < len(runs):
        words = f"scale {first.summary['scale']}, precision {precision_of(first.config) or 'float64'}"
        show(f"note: only the {len(kept)} runs at {words} are drawn; {len(runs) - len(kept)} others are left out")
    return kept


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what is raised where a file of a record is missing or damaged into a ValueError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: run or collect it again") from error
    except (ValueError, EOFError, zipfile.BadZipFile, OmegaConfBaseException, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged ({reason}): run or collect it again") from error


def read_table(path: Path) -> pd.DataFrame:
    """Return a table of a record with its numbers to the last digit, which pandas does not give unless asked."""
    return pd.read_csv(path, float_precision="round_trip", encoding="utf-8")


def analysis_run(runs: Sequence[Run], analysis: str) -> Run:
    """Return the one run of the analysis of that name; a ValueError where there is none, or where values were swept."""
    found = [run for run in runs if run.config.analysis.name == analysis]
    if len(found) != 1:
        folders = ", ".join(str(run.folder) for run in found or runs)
        if found:
            wanted = f"{difference(*found[:2])}; move all but one away"
        else:
            wanted = f"give analysis={analysis} to the command that makes them"
        raise ValueError(f"one run of the analysis {analysis} is drawn, not {len(found)} of {folders}; {wanted}")
    return found[0]


def difference(first: Run, second: Run) -> str:
    """Return in which values two runs differ, with the folder in which each value stands."""
    one, two = (json.loads(setting(run.config)) for run in (first, second))
    found = differences(two, one)
    if not found:
        return f"{first.folder} and {second.folder} have the same setting"
    shown = "; ".join(found[:4]) + ("; ..." if len(found) > 4 else "")
    return f"{first.folder} is there, {second.folder} here: {shown}"


def _config(path: Path) -> DictConfig:
    with readable(path):
        config = OmegaConf.load(path)
        if not isinstance(config, DictConfig) or "seed" not in config:
            raise ValueError("no seed")
    return config
