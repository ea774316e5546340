"""Signals: finish the step, save, then let whoever handled the signal before us handle it."""

from __future__ import annotations

import logging
import signal
from types import FrameType

log = logging.getLogger(__name__)

# SIGUSR1 and SIGUSR2 are what Slurm and submitit send before the time limit.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Interrupted(Exception):
    """A signal arrived during an evaluation, which is given up: it is done again on resume."""


class Interruption:
    """Context manager that turns the first signal into a flag; a second SIGINT stops at once.

    `pass_on()` calls the handlers that were there before (submitit's, of SIGUSR2, requeues the job; a default one ends
    the process).
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.others: list[int] = []  # that came after it
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        for signum in SIGNALS:
            self._before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self.signum is not None:
            raise KeyboardInterrupt
        if self.signum is None:
            self.signum = signum
        elif signum != self.signum and signum not in self.others:
            self.others.append(signum)
        log.warning("%s: finishing the step and saving", signal.Signals(signum).name)

    def raise_if_requested(self) -> None:
        """Raise Interrupted where a signal has arrived: called between the batches of an evaluation."""
        if self.signum is not None:
            raise Interrupted

    def pass_on(self) -> None:
        """Hand the signals to the handlers that were there before: outside the context, once the state is saved.

        All of them: a preempted job may get SIGTERM, which submitit only notes, and SIGUSR2, at which it requeues.
        """
        for signum in [self.signum, *self.others] if self.signum is not None else ():
            signal.raise_signal(signum)
