"""Weights & Biases beside the plain files, or nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from experiments.engine.errors import ConfigurationError

log = logging.getLogger(__name__)


class Tracker(Protocol):
    def log(self, row: dict[str, Any]) -> None: ...
    def finish(self, summary: dict[str, Any] | None) -> None: ...


class NoTracker:
    """The plain files only."""

    def __init__(self, **_: Any) -> None: ...

    def log(self, row: dict[str, Any]) -> None: ...

    def finish(self, summary: dict[str, Any] | None) -> None: ...


class WandbTracker:
    """The same rows on Weights & Biases; offline needs no account and no connection.

    A resumed offline run writes a second part with the same id under `<run folder>/wandb/`; `make sync` uploads the
    parts in order. Whatever goes wrong in W&B is said once and never ends the run: the plain files are the record.
    """

    def __init__(
        self,
        project: str,
        entity: str | None,
        mode: str,
        *,
        folder: Path,
        config: dict[str, Any],
        group: str,
        name: str,
    ) -> None:
        try:
            import wandb
        except ImportError:
            raise ConfigurationError(
                "tracker=wandb needs the package wandb, which is not installed; or tracker=none"
            ) from None
        self.broken = False
        # The id follows from the folder, which follows from the configuration: a resumed run is the same W&B run.
        run_id = "-".join(folder.parts[-3:])[-128:]
        self.run = self._safely(
            lambda: wandb.init(
                project=project,
                entity=entity,
                mode=mode,
                dir=str(folder),
                id=run_id,
                name=name,
                group=group,
                config=config,
                resume="allow",
                settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
            )
        )

    def _safely(self, call: Callable[[], Any]) -> Any:
        if self.broken:
            return None
        try:
            return call()
        except Exception as error:  # a lost connection never ends a run
            self.broken = True
            log.warning(
                "W&B stops here (%s); the run goes on, its plain files are complete",
                " ".join(str(error).split()),
            )
            return None

    def log(self, row: dict[str, Any]) -> None:
        self._safely(lambda: self.run.log(row, step=row["step"]))

    def finish(self, summary: dict[str, Any] | None) -> None:
        """Close the run, also when it stopped early (`summary` None): a later part goes on from here."""

        def close() -> None:
            if summary:
                self.run.summary.update(summary)
            self.run.finish(exit_code=0)

        self._safely(close)
