"""What watches a run without disturbing it, and the tables and arrays that it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from experiments.engine.files import replace_file

if TYPE_CHECKING:
    import pandas as pd  # half a second of every start

    from experiments.engine.loop import Trainer


@dataclass
class Findings:
    """What is recorded beside history.csv: tables that become <name>.csv, and arrays that become <name>.npz."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    arrays: dict[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        for name, table in self.tables.items():
            replace_file(folder / f"{name}.csv", lambda path, table=table: table.to_csv(path, index=False))
        for name, arrays in self.arrays.items():
            replace_file(folder / f"{name}.npz", lambda path, arrays=arrays: _save(path, arrays))


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with path.open("wb") as file:  # given a name, numpy adds its own ending
        np.savez_compressed(file, **arrays)


class Probe(Protocol):
    """Called on all processes alike; the first one writes what it finds.

    Made from the run's `Parts`. Whatever passes it makes itself belong into `trainer.undisturbed()`;
    `trainer.measure(splits)` leaves no trace either. `trainer.ask_to_save()` wants a checkpoint after this update.
    """

    def after(self, event: str, trainer: Trainer) -> None:
        """See the run after an "update", or after an "epoch" and its evaluation."""
        ...

    def metrics(self) -> dict[str, float]:
        """Return columns of history.csv for an evaluation: always the same ones."""
        ...

    def findings(self) -> Findings:
        """Return what is written once the run is over."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Probes:
    """Several probes as one, by name."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self.probes = dict(probes)

    def after(self, event: str, trainer: Trainer) -> None:
        for probe in self.probes.values():
            probe.after(event, trainer)

    def metrics(self) -> dict[str, float]:
        return {name: value for probe in self.probes.values() for name, value in probe.metrics().items()}

    def findings(self) -> Findings:
        found = [probe.findings() for probe in self.probes.values()]
        tables = {name: table for one in found for name, table in one.tables.items()}
        return Findings(tables, {name: arrays for one in found for name, arrays in one.arrays.items()})

    def state_dict(self) -> dict[str, Any]:
        return {name: probe.state_dict() for name, probe in self.probes.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, probe in self.probes.items():
            probe.load_state_dict(state[name])
