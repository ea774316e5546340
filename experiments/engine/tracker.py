"""Weights & Biases beside the plain files, or nothing."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from experiments.engine.errors import ConfigurationError, choices
from experiments.engine.records import tables_and_arrays

MODES = ("offline", "online", "disabled")
LONGEST_ID = 128

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
    """The same rows on Weights & Biases, and at the end the record's files; offline needs no account and no connection.

    A resumed offline run writes a second part with the same id under `<run folder>/wandb/`; `make sync` uploads the
    parts in order. Whatever goes wrong in W&B is said once and never ends the run: the plain files are the record.
    The environment's WANDB_MODE goes before `mode`. Raises ConfigurationError for an unknown mode.
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
        self.broken, self.folder = False, folder.absolute()
        mode = chosen_mode(mode)
        self.run = self._safely(
            lambda: wandb.init(
                project=str(project),
                entity=entity,
                mode=mode,
                dir=str(folder),
                id=run_id(folder),
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
                " ".join(str(error).split()) or type(error).__name__,
            )
            self._forget_service()
            return None

    def _forget_service(self) -> None:
        """Let the next run of this process start a service of its own: this one's may be what broke."""
        import wandb

        with contextlib.suppress(Exception, SystemExit):  # the latter with the exit code of a service that failed
            wandb.teardown()

    def log(self, row: dict[str, Any]) -> None:
        self._safely(lambda: self.run.log(row, step=row["step"]))

    def finish(self, summary: dict[str, Any] | None) -> None:
        """Close the run, also when it stopped early (`summary` None): a later part goes on from here."""

        def close() -> None:
            if summary:
                self.run.summary.update(summary)
                if not self.run.disabled:
                    self._save_record()
            self.run.finish(exit_code=0)

        self._safely(close)

    def _save_record(self) -> None:
        """Hand the files of a run that is over to W&B as <name>/seed-<n>/<file>: it has a config.yaml of its own.

        They are copies, where a link as W&B makes it would break once the folder is moved.
        """
        copies = Path(self.run.dir, *self.folder.parts[-2:])
        copies.mkdir(parents=True, exist_ok=True)
        for path in (self.folder / "config.yaml", self.folder / "summary.json", *tables_and_arrays(self.folder)):
            shutil.copyfile(path, copies / path.name)
        self.run.save(f"{glob.escape(str(copies))}/*", base_path=glob.escape(self.run.dir), policy="now")


def chosen_mode(mode: str) -> str:
    """Return WANDB_MODE of the environment, where it is set, else `mode`; say so where they differ."""
    wanted = os.environ.get("WANDB_MODE") or mode
    if wanted not in MODES:
        raise ConfigurationError(f"WANDB_MODE={wanted} is not possible{choices(wanted, MODES)}")
    if wanted != mode:
        log.info("W&B is %s: WANDB_MODE in the environment goes before tracker.mode=%s", wanted, mode)
    return wanted


def run_id(folder: Path) -> str:
    """Return the W&B id of the run in `folder`: its last two names, cleaned of what an id cannot hold.

    It follows from the folder, which follows from the configuration: a resumed run is the same W&B run. Where
    anything had to change, a digest of the names keeps it apart from others.
    """
    names = "/".join(folder.parts[-2:])
    plain = names.replace("/", "-")
    clean = re.sub(r"[^A-Za-z0-9_.=-]+", "_", plain)
    if clean == plain and len(plain) <= LONGEST_ID:
        return plain
    suffix = "-" + hashlib.sha256(os.fsencode(names)).hexdigest()[:8]
    return clean[: LONGEST_ID - len(suffix)] + suffix
