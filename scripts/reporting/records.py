"""Recorded runs, for figures and tables: each record is checked when it is read."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from experiments.engine.errors import choices
from experiments.engine.leaves import differences
from experiments.engine.records import DamagedRecord, Record, read_arrays, read_record, read_table
from experiments.engine.run_folder import result_config, without_defaults


class UnusableRecord(ValueError):
    """A record of which nothing counts, while the others are drawn: it lacks something, is damaged, or there twice."""

    def __init__(self, reason: str, folder: Path) -> None:
        super().__init__(reason)
        self.folder = folder


@dataclass(frozen=True)
class Run:
    """One finished run as it was recorded; an analysis has no history, but tables and arrays in its folder.

    One that diverged has the history until then, or none.
    """

    config: DictConfig
    summary: dict[str, Any]
    history: pd.DataFrame | None = None
    folder: Path | None = None

    @property
    def diverged(self) -> bool:
        return self.summary.get("status") == "diverged"

    def columns(self, *names: str) -> pd.DataFrame:
        """Return these columns of history.csv. Raises UnusableRecord for one that was not recorded."""
        self.check_recorded(names, self.history.columns)
        return self.history[list(names)]

    def table(self, name: str, *columns: str) -> pd.DataFrame:
        """Return <name>.csv of the record, which has these columns; text that is missing is empty, a number nan.

        Raises UnusableRecord.
        """
        with self._naming_it():
            table = read_table(self.folder / f"{name}.csv")
        self.check_recorded(columns, table.columns, f"{name}.csv")
        return table.fillna({column: "" for column in ("changed", "case") if column in table})

    def arrays(self, name: str, *names: str) -> dict[str, np.ndarray]:
        """Return what <name>.npz of the record holds, which has these arrays. Raises UnusableRecord."""
        with self._naming_it():
            arrays = read_arrays(self.folder / f"{name}.npz")
        self.check_recorded(names, arrays, f"{name}.npz")
        return arrays

    def check_recorded(self, names: Iterable[str], known: Iterable[str], where: str = "") -> None:
        """Raise UnusableRecord for the first of the names that is not among the known ones, of a file or of all."""
        known = list(known)
        for name in names:
            if name not in known:
                raise UnusableRecord(
                    f"{name} was not recorded in {self.folder / where}{choices(name, known)}", self.folder
                )

    @contextlib.contextmanager
    def _naming_it(self) -> Iterator[None]:
        try:
            yield
        except DamagedRecord as error:
            raise UnusableRecord(str(error), self.folder) from error


def precision_of(config: DictConfig) -> str | None:
    """Return fp32, tf32 or bf16; None of an analysis, which computes in float64."""
    if "analysis" in config:
        return None
    precision = config.get("precision")
    if isinstance(precision, DictConfig):
        precision = precision.get("autocast")
    return precision or "fp32"


def setting(config: DictConfig) -> str:
    """Return what decides the result, the seed aside, as text that is the same for equal settings (1 is 1.0).

    A key at the top that is null says nothing, so that a record from before there was the key has the same setting.
    """
    plain = {key: value for key, value in result_config(config).items() if value is not None}
    plain.pop("seed", None)
    plain.get("analysis", {}).pop("seed", None)  # the same one, handed on
    return json.dumps(_with_equal_numbers(without_defaults(plain)), sort_keys=True)


def _with_equal_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_equal_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_equal_numbers(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def file_name(name: str, runs: Sequence[Run]) -> str:
    """Return the name of what is made of runs: as their folders' it ends with the scale and precision (@short,bf16).

    At the paper's scale in fp32 nothing is added.
    """
    _, at, end = runs[0].folder.parent.name.partition("@")
    return f"{name}{at}{end}"


@functools.cache
def _read(folder: Path, files: tuple[tuple[str, int, int], ...]) -> Record:
    """Return the record of a folder with these files; reading it takes longer than drawing it, and many draw it."""
    return read_record(folder)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def read_run(folder: Path) -> Run | None:
    """Return a run of a folder, or None where it did not end, with a note; so has one that diverged.

    Raises DamagedRecord.
    """
    record = _read(folder, tuple((path.name, *_stamp(path)) for path in sorted(folder.iterdir())))
    summary = record.summary
    if summary["status"] == "diverged":
        print(f"note: {folder} diverged: {summary.get('reason')}")
    elif summary["status"] != "done":
        print(f"note: {folder} is left out, it {summary['status']}: {summary.get('reason')}")
        return None
    else:
        not_finite = [name for name, value in summary["final"].items() if value is None]
        if not_finite:
            print(f"note: {folder} ended with {', '.join(not_finite)} not finite, which no mean counts")
    return Run(record.config, summary, record.history, folder)


def ended_well(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that did not diverge: they alone have what probes found. Raises ValueError for none."""
    found = [run for run in runs if not run.diverged]
    if not found:
        raise ValueError(f"all of its runs diverged: {', '.join(str(run.folder) for run in runs)}")
    return found


def analysis_run(runs: Sequence[Run], analysis: str) -> Run:
    """Return the one run of the analysis of that name; a ValueError where there is none, or where values were swept."""
    found = [run for run in runs if run.config.analysis.name == analysis]
    if len(found) != 1:
        folders = ", ".join(str(run.folder) for run in found or runs)
        if found:
            wanted = f"{difference(*found[:2])}; name the values of one of them (key=value), or move the others away"
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
