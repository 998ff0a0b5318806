"""A graceful stop: what begins it, and its upper limit; what does not end by itself is ended."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, final

log = logging.getLogger("gansweep")

TERMINATE_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What batch systems send some time before they kill."""

STOP_SIGNALS = (signal.SIGINT, *TERMINATE_SIGNALS)

WORKERS_SECONDS = 20.0
"""From the signal until the workers are given up: their trials go on from their last checkpoints.

Tune gives each 10 s to save; Slurm and Kubernetes leave 30 s in all unless told otherwise."""

ALL_SECONDS = 60.0
"""From the signal until the command is given up, with what it had not delivered or settled."""


def interrupt_command() -> None:
    """As Ctrl-C does once more, in the main thread."""
    os.kill(os.getpid(), signal.SIGINT)


@final
class Grace:
    """Watches over a stop, from `begin` on.

    Where the workers take too long, `end_workers` is called, where the command does, `end_all`;
    both in another thread, once at most, with every thread's stack in the log, to tell what hung.
    """

    def __init__(
        self, *, end_all: Callable[[], None], end_workers: Callable[[], None] = interrupt_command
    ) -> None:
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


@final
class Interrupts:
    """Begins a graceful stop at the first signal; a second SIGINT or SIGTERM ends all at once.

    So it does once `is_due`; the first signal then changes nothing, for as long as a graceful stop
    may take. To end at once is a KeyboardInterrupt in the main thread; the first signal does so
    before anything `has_begun`, since there is nothing to be put aside then.
    """

    def __init__(
        self,
        note: Callable[[], None],
        is_due: Callable[[], bool] = lambda: False,
        *,
        has_begun: Callable[[], bool] = lambda: True,
    ) -> None:
        """`note` is called once, as the stop begins."""
        self._note = note
        self._is_due = is_due
        self.has_begun = has_begun
        self._seen = False
        self._ending_since: float | None = None  # by the monotonic clock

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles what it is given; a note may hold threads and files

    @property
    def stopping(self) -> bool:
        """Whether what is under way is to be put aside; to be asked again and again."""
        if self._ending_since is None and self._is_due():
            self._end()
        return self._ending_since is not None

    def nothing_is_left(self) -> None:
        """There is nothing to be put aside any more: the next SIGINT or SIGTERM ends all."""
        self._seen = True

    def _end(self) -> None:
        if self._ending_since is None:
            self._ending_since = time.monotonic()
            self._note()

    @property
    def _is_late(self) -> bool:
        """Whether the stop has taken too long: `Grace` sends one signal then, whatever began it."""
        since = self._ending_since
        return since is not None and time.monotonic() - since >= WORKERS_SECONDS

    def _on_signal(self, number: int, frame: Any) -> None:
        if (self._seen or self._is_late) and number != signal.SIGUSR1:
            raise KeyboardInterrupt
        if not self._seen:
            self._seen = True
            self._end()
            if not self.has_begun():
                raise KeyboardInterrupt

    def listen(self) -> None:
        """Put our handlers in place; others may have put theirs there meanwhile."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Our handlers in place until the block ends."""
        before = [signal.getsignal(number) for number in STOP_SIGNALS]
        self.listen()
        try:
            yield
        finally:
            for number, handler in zip(STOP_SIGNALS, before, strict=True):
                signal.signal(number, handler)
