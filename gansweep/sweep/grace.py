"""The upper limit of a graceful stop: what does not end by itself is ended."""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, final

log = logging.getLogger("gansweep")

WORKERS_SECONDS = 20.0
"""From the signal until the workers are given up: their trials go on from their last checkpoints.

Tune gives each 10 s to save; Slurm and Kubernetes leave 30 s in all unless told otherwise."""

ALL_SECONDS = 60.0
"""From the signal until the command is given up, with what it had not delivered or settled."""


@final
class Grace:
    """Watches over a stop, from `begin` on.

    Where the workers take too long, `end_workers` is called, where the command does, `end_all`;
    both in another thread, once at most, with every thread's stack in the log, to tell what hung.
    """

    def __init__(self, *, end_workers: Callable[[], None], end_all: Callable[[], None]) -> None:
        self._end_workers: Final = end_workers
        self._end_all: Final = end_all
        self._workers_ended = threading.Event()
        self._all_ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="grace", daemon=True)

    def begin(self) -> None:
        """A signal has come. A second call does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def workers_ended(self) -> None:
        """No worker is waited for any more."""
        self._workers_ended.set()

    def over(self) -> None:
        """The command comes to its end."""
        self._workers_ended.set()
        self._all_ended.set()

    def _watch(self) -> None:
        begun = time.monotonic()
        if not self._workers_ended.wait(WORKERS_SECONDS):
            self._tell("the trials were not put aside", WORKERS_SECONDS)
            self._end_workers()
        if not self._all_ended.wait(max(0.0, begun + ALL_SECONDS - time.monotonic())):
            self._tell("the sweep has not ended", ALL_SECONDS)
            self._end_all()

    def _tell(self, what: str, seconds: float) -> None:
        log.warning("%s within %g s of the signal: ended; what each thread does:", what, seconds)
        faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr)
