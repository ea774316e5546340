"""The record of a run: summary.json, the mark of one that is over, and all its files as they are read again.

The run folder: config.yaml, history.csv, summary.json, weights.safetensors, checkpoints/, lock while it runs.
Who reads a record asks `read_record`, which compares its files with each other.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.engine.errors import RunFolderError
from experiments.engine.files import digest, replace_text

if TYPE_CHECKING:  # scripts read records without torch, whose import takes longer than a figure
    import numpy as np
    import pandas as pd

SCHEMA = 2
READABLE = (1, 2)  # 1 has no digests of its files
NEVER_COLLECTED = ("weights", "trajectory")  # how the names of files begin that are too large for a repository


def is_table_or_array(name: str) -> bool:
    """Say whether a file of that name belongs to a run's record: CSV and npz, but weights and their trajectories."""
    return name.endswith((".csv", ".npz")) and not name.startswith((".", *NEVER_COLLECTED))


def tables_and_arrays(folder: Path) -> list[Path]:
    """Return the CSV and npz files that belong to a run's record."""
    return sorted(path for path in folder.glob("*") if is_table_or_array(path.name))


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write summary.json, the mark of a run that is over: nothing is written after it.

    It holds the digests of configuration, tables and arrays beside it, and null for a final value that is not finite.
    """
    final = {key: value if math.isfinite(value) else None for key, value in summary["final"].items()}
    covered = [path for path in (folder / "config.yaml", *tables_and_arrays(folder)) if path.exists()]
    files = {path.name: digest(path) for path in covered}
    content = {"schema": SCHEMA, **summary, "final": final, "files": files}
    replace_text(folder / "summary.json", json.dumps(content, indent=2, allow_nan=False) + "\n")


class DamagedRecord(RunFolderError, ValueError):
    """A file of a record is missing, cut short, of another version, or does not agree with the others."""


@dataclass(frozen=True)
class Record:
    """A run that is over as it was recorded; an analysis has no history, but tables and arrays in its folder."""

    folder: Path
    config: DictConfig
    summary: dict[str, Any]
    history: pd.DataFrame | None


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what is raised where a file of a record is missing or damaged into a DamagedRecord that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedRecord(f"{path} is missing; run or collect it again") from error
    except OSError as error:  # a folder in its place, a link to itself, no permission
        raise DamagedRecord(f"{path} cannot be read ({error.strerror}); move it away, or let it be read") from error
    except (ValueError, TypeError, LookupError, EOFError, BadZipFile, yaml.YAMLError, OmegaConfBaseException) as error:
        if isinstance(error, DamagedRecord):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedRecord(f"{path} is damaged ({reason}); move it away, then run or collect it again") from error


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Return summary.json, or None where the run is not over. Raises DamagedRecord."""
    path = folder / "summary.json"
    if not path.exists():
        return None
    with _readable(path):
        summary = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        if not isinstance(summary, dict) or "schema" not in summary:
            raise ValueError("no schema")
        if summary["schema"] not in READABLE:
            known = " and ".join(map(str, READABLE))
            raise DamagedRecord(f"{path} has schema {summary['schema']}, not {known}; use the code it is of")
        _check_kinds(summary)
    return summary


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which JSON does not have")


# What every summary has, and what else programs read of it; numbers may be null where they were not finite.
SUMMARY = {"status": str, "seed": int, "final": dict, "commit": str}
OPTIONAL = {
    "scale": str,
    "device": str,
    "files": dict,
    "commits": list,
    "epochs": int,
    "steps": int,
    "samples": int,
    "ranks": int,
    "kept": dict,
    "data": dict,
    "versions": dict,
}


def _check_kinds(summary: dict[str, Any]) -> None:
    """Raise ValueError for the first key of a summary that is missing, or whose value is of another kind."""
    for key, kind in {**SUMMARY, **OPTIONAL}.items():
        if key not in summary and key in SUMMARY:
            raise ValueError(f"no {key}")
        if not isinstance(summary.get(key, kind()), kind):
            raise ValueError(f"{key} is {summary[key]!r}, which is no {kind.__name__}")
    for key, value in summary["final"].items():
        if not (value is None or isinstance(value, int | float)):
            raise ValueError(f"the final {key} is {value!r}, which is no number")


def read_config(folder: Path) -> DictConfig:
    """Return a run's config.yaml. Raises DamagedRecord."""
    path = folder / "config.yaml"
    with _readable(path):
        config = OmegaConf.load(path)
        if not isinstance(config, DictConfig) or not isinstance(config.get("seed"), int):
            raise ValueError("no seed")
    return config


def read_table(path: Path) -> pd.DataFrame:
    """Return a table of a record, its numbers to the last digit, which pandas does not give unless asked.

    Raises DamagedRecord.
    """
    import pandas as pd

    with _readable(path):
        return pd.read_csv(path, float_precision="round_trip", encoding="utf-8")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return what an npz file of a record holds. Raises DamagedRecord."""
    import numpy as np

    with _readable(path), np.load(path) as arrays:
        return dict(arrays)


def read_record(folder: Path) -> Record:
    """Return configuration, summary and history of a run that is over.

    Raises DamagedRecord, which names the file, where one is missing or damaged or where they do not agree: the last
    row of history.csv with the final values, every file with its digest (from schema 2 on).
    """
    summary = read_summary(folder)
    if summary is None:
        raise DamagedRecord(f"{folder / 'summary.json'} is missing; the run is not over")
    config = read_config(folder)
    if config.seed != summary["seed"]:
        raise DamagedRecord(
            f"{folder / 'config.yaml'} has seed {config.seed}, summary.json has {summary['seed']}; collect it again"
        )
    for name, recorded in summary.get("files", {}).items():
        path = folder / name
        with _readable(path):
            if digest(path) != recorded:
                raise ValueError("its content is not what summary.json tells")
    history = None
    if "analysis" not in summary and (summary["status"] == "done" or (folder / "history.csv").exists()):
        history = read_table(folder / "history.csv")
        with _readable(folder / "history.csv"):
            check_history(history, summary)
    return Record(folder, config, summary, history)


def check_history(history: pd.DataFrame, summary: dict[str, Any]) -> None:
    """Raise ValueError where the rows do not lead to what the summary tells of the run's end."""
    if history.empty:
        raise ValueError("no rows")
    steps = history["step"]
    if not steps.is_monotonic_increasing or not steps.is_unique:
        raise ValueError("its steps do not grow from row to row")
    if summary["status"] == "done":  # one that diverged may have gone on for some updates after its last row
        ends = {"epoch": "epochs", "step": "steps", "samples": "samples"}
        reached = {key: summary[name] for key, name in ends.items() if key in history and name in summary}
        _compare(_row(history, -1), reached, "its last row")
    kept = summary.get("kept")  # the final values are of the best weights, not of the last
    if kept is None:
        row, words = _row(history, -1), "its last row"
        missing = [key for key, value in row.items() if "/" in key and key not in summary["final"] and value == value]
        if missing:
            raise ValueError(f"summary.json has no final {missing[0]}")
    elif kept["step"] not in set(steps):
        raise ValueError(f"it has no row of step {kept['step']}, whose weights were kept")
    else:
        row, words = _row(history, list(steps).index(kept["step"])), f"its row of step {kept['step']}"
    _compare(row, {key: value for key, value in summary["final"].items() if key in row}, words)


def _row(history: pd.DataFrame, index: int) -> dict[str, Any]:
    return {key: history[key].iloc[index] for key in history.columns}  # each in its column's type


def _compare(row: dict[str, Any], expected: dict[str, Any], words: str) -> None:
    for key, value in expected.items():
        if not (row[key] == value if value is not None else not math.isfinite(row[key])):
            raise ValueError(f"{words} has {key} {row[key]}, summary.json has {value}")


def final(summary: dict[str, Any], config: Mapping[str, Any]) -> str:
    """Return the final metrics of validation, and of the final splits of the run's `config`, in a few words.

    One that was not finite is `null` in the record.
    """
    evaluation = config.get("evaluation") or {}  # which an analysis does not have
    # A split's metrics begin with its name, or with what that has before a low line: test/bleu is of test_bleu.
    final_splits = evaluation.get("final_splits") or ()
    splits = {"val", *final_splits, *(split.partition("_")[0] for split in final_splits)}
    metrics = {
        key: value
        for key, value in summary["final"].items()
        if key.partition("/")[0] in splits and key != "train/running_loss"  # not of a split as it is evaluated
    }
    return ", ".join(f"{key} {'not finite' if value is None else f'{value:.4g}'}" for key, value in metrics.items())
