"""Read recorded runs, for figures and tables."""

from __future__ import annotations

import argparse
import contextlib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.engine.errors import choices
from experiments.engine.records import SCHEMA, read_summary
from experiments.engine.run_folder import differences, result_config


@dataclass(frozen=True)
class Run:
    """One finished run as it was recorded; an analysis has no history, but tables and arrays in its folder."""

    config: DictConfig
    summary: dict[str, Any]
    history: pd.DataFrame | None = None
    folder: Path | None = None

    def table(self, name: str) -> pd.DataFrame:
        """Return <name>.csv of the record; text that is not there is empty, a number nan."""
        path = self.folder / f"{name}.csv"
        with readable(path):
            table = read_table(path)
        return table.fillna({column: "" for column in ("changed", "case") if column in table})

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return what <name>.npz of the record holds."""
        path = self.folder / f"{name}.npz"
        with readable(path), np.load(path) as arrays:
            return dict(arrays)


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
    return pd.read_csv(path, float_precision="round_trip")


def the_only(runs: list[Run], analysis: str) -> Run:
    """Return the one run of the analysis of that name; a ValueError where there is none, or where values were swept."""
    found = [run for run in runs if run.config.analysis.name == analysis]
    if len(found) != 1:
        folders = ", ".join(str(run.folder) for run in found or runs)
        wanted = "move all but one away" if found else f"give analysis={analysis} to the command that makes them"
        raise ValueError(f"one run of the analysis {analysis} is drawn, not {len(found)} of {folders}; {wanted}")
    return found[0]


def arguments_for(description: str | None, known: Iterable[str]) -> argparse.ArgumentParser:
    """Return the command line that figures and tables share: names of what to make, and where the records are."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(known))
    text = "results/runs, or outputs for runs not collected"
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help=text)
    return parser


def checked_names(names: list[str], known: Iterable[str], kind: str) -> list[str]:
    """Return the names, or all known ones where there are none; a ValueError for one that is unknown."""
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {kind} {name}{choices(name, known)}")
    return names or list(known)


def load_runs(root: Path, experiment: str, swept: bool = False) -> list[Run]:
    """Return the finished runs of an experiment below `root` (results/runs, or outputs).

    Raises FileNotFoundError where there are none, ValueError for a record of another schema, or where runs
    of one task and optimizer differ in more than the seed, unless the experiment has `swept` other values.
    """
    runs = []
    for path in sorted((root / experiment).glob("*/seed-*/summary.json")):
        with readable(path):
            summary = read_summary(path.parent)
        if summary["schema"] != SCHEMA:
            raise ValueError(f"{path} has schema {summary['schema']}, this code reads {SCHEMA}")
        if summary["status"] != "done":
            print(f"note: {path.parent} is left out, it {summary['status']}: {summary['reason']}")
            continue
        config, history = _config(path.parent / "config.yaml"), path.parent / "history.csv"
        runs.append(Run(config, summary, read_table(history) if history.exists() else None, path.parent))
    if not runs:
        raise FileNotFoundError(
            f"no finished run of {experiment} below {root}; python train.py experiment={experiment}, "
            f"then python scripts/collect.py outputs/{experiment}"
        )
    if not swept:
        _check_one_configuration(runs, root / experiment)
    return runs


def _config(path: Path) -> DictConfig:
    with readable(path):
        config = OmegaConf.load(path)
        if not isinstance(config, DictConfig) or "seed" not in config:
            raise ValueError("no seed")
    return config


def _check_one_configuration(runs: list[Run], folder: Path) -> None:
    """Raise ValueError where runs of one task and optimizer, or of one analysis, differ in more than the seed."""
    found: dict[str, dict[str, Run]] = {}
    for run in runs:
        name = "-".join(run.summary[key] for key in ("analysis", "task", "optim") if key in run.summary)
        found.setdefault(name, {})[run.summary["config_hash"]] = run
    for name, by_hash in found.items():
        if len(by_hash) > 1:
            hashes = sorted(by_hash)
            listed = ", ".join(f"{name}-{h}" for h in hashes)
            one, other = (result_config(by_hash[h].config) for h in hashes[:2])
            differ = f"the first here, the second there: {'; '.join(differences(one, other)[:4])}"
            raise ValueError(
                f"{folder} has several configurations of {name} ({listed}; {differ}); move all but one away"
            )


def by_optimizer(runs: list[Run]) -> dict[str, list[Run]]:
    """Return the runs grouped by optimizer, in the paper's order (SGD before Lookahead)."""
    order = ["sgd", "polyak", "adamw", "la_sgd", "la_adamw"]
    names = sorted(
        {run.config.optim.name for run in runs},
        key=lambda name: (order.index(name) if name in order else 99, name),
    )
    return {name: [run for run in runs if run.config.optim.name == name] for name in names}


def final_table(runs: list[Run], metrics: dict[str, str]) -> pd.DataFrame:
    """Return mean and one standard deviation over seeds of the final metrics: a row an optimizer, a column a metric."""
    rows = {}
    for name, group in by_optimizer(runs).items():
        finals = pd.DataFrame([run.summary["final"] for run in group])
        cells = {label: f"{finals[key].mean():.4g} ± {finals[key].std():.2g}" for key, label in metrics.items()}
        rows[name] = {**cells, "seeds": len(group)}
    return pd.DataFrame.from_dict(rows, orient="index")
