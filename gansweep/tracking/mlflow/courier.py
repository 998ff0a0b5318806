"""Brings what trials have spooled into MLflow: a few threads for any number of trials."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from gansweep.tracking.mlflow.client import open_client, reason
from gansweep.tracking.mlflow.delivery import Delivery
from gansweep.tracking.mlflow.run_writer import ArtifactsAwayError
from gansweep.tracking.mlflow.uri import sqlite_file

_log = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
"""How long `drain` waits without any progress."""

_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 5.0
_LONGEST_REST_SECONDS = 10.0
_CLOSE_SECONDS = 5.0
_LOOK_SECONDS = 0.2

_AT_ONCE = 8
"""Spools that are delivered at a time to a server: most of each call is waiting. To a database of
this machine one: two would wait for each other."""

_MOST_OF_THE_TIME = 0.05
"""What part of its time a courier delivers, where nobody waits for it: many lines at a time cost
little more than one, and training may need the core."""


@final
@dataclass(frozen=True)
class Backlog:
    """What has not arrived: lines of spools, the runs that they are for, and why, if known.

    unread: spools, or folders of them, that cannot be looked at; they may have more.
    """

    records: int = 0
    runs: int = 0
    reason: str = ""
    unread: int = 0

    @property
    def is_something(self) -> bool:
        """Whether something has not arrived, as far as is known, or may not have."""
        return bool(self.records or self.unread)

    def beside(self, unread: int, reason: str) -> Backlog:
        """The same, and so many more that cannot be looked at, for `reason`."""
        return replace(self, unread=self.unread + unread, reason=self.reason or reason)


@final
class Courier:
    """Delivers spools to runs that exist in the store `uri`, in order per run and each line once.

    A thread looks for new lines every `interval_s` seconds; to a server, several deliver. While the
    store is away or locked, it tries again and again in the same order; a run with a trouble of
    its own holds up no other.

    Dropped with a warning is what the store refuses for good (a run deleted meanwhile, a
    malformed name), and an image or text that cannot be stored for `artifact_patience_s` seconds
    while the store itself answers (artifacts may lie elsewhere), since it would hold up the rest.
    An image whose delivery broke off half-way may appear twice, or without MLflow's thumbnail.

    What is delivered is noted in each spool. Where the note is behind (a killed process), and where
    a trial went beyond its last checkpoint before it broke off and comes by the same steps again,
    the run's own last steps decide: what it has of a metric or a series of images is not stored
    twice.
    """

    def __init__(
        self,
        uri: str,
        *,
        interval_s: float = 1.0,
        artifact_patience_s: float = PATIENCE_SECONDS / 2,
    ) -> None:
        self.uri: Final = uri
        self._at_once = 1 if sqlite_file(uri) else _AT_ONCE
        self._interval = interval_s
        self._artifact_patience = artifact_patience_s
        self._deliveries: dict[Path, Delivery] = {}
        self._at: list[Delivery] = []  # which are being delivered
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._stop = False
        self._awaited = False  # somebody waits for it
        self._client: Any = None
        self._opening = threading.Lock()
        self._delay = _FIRST_DELAY_SECONDS
        self._progress = 0.0  # when something was last dealt with
        self._spent = 0.0  # seconds of a core, in this round, of successful delivery
        self._reason = ""
        self._thread: threading.Thread | None = None

    def add(self, run_id: str, folder: Path) -> None:
        """Deliver the spool in the trial's folder from now on; it may be still to come.

        Raises:
            OSError: the folder cannot be written to.
        """
        with self._changed:
            known = self._deliveries.get(folder)
            if known is None or known.run_id != run_id:
                self._deliveries[folder] = Delivery(
                    run_id, folder, artifact_patience_s=self._artifact_patience
                )
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="courier", daemon=True)
                self._thread.start()

    def forget(self, folder: Path) -> None:
        """Leave the spool in the trial's folder to someone else.

        What is on its way now arrives first, but for a store that does not answer.
        """
        with self._changed:
            forgotten = self._deliveries.pop(folder, None)
            if forgotten:
                forgotten.forgotten = True
                self._changed.wait_for(lambda: forgotten not in self._at, _CLOSE_SECONDS)

    def release(self, folder: Path) -> None:
        """The trial will not go on: once its end is delivered, nobody looks at its spool again."""
        with self._changed:
            if folder in self._deliveries:
                self._deliveries[folder].released = True

    def backlog(self) -> Backlog:
        """What lies undelivered now."""
        records = runs = unread = 0
        why = self._reason
        for each in self._all():
            try:
                count = each.waiting
            except OSError as error:  # of a shared disk
                unread += 1
                why = why or reason(error)
            else:
                records += count
                runs += bool(count)
        return Backlog(records, runs, why if runs or unread else "", unread)

    def drain(self, patience_s: float = PATIENCE_SECONDS, *, within_s: float = math.inf) -> Backlog:
        """Wait until all that is written by now is delivered; what is not, in the end.

        It gives up after `patience_s` seconds without progress, and after `within_s` seconds.
        Spools that have ended and are delivered are removed.
        """
        wanted = deque(_Wanted(each) for each in self._all())
        begun = time.monotonic()
        for each in wanted:
            each.delivery.retry_at = 0.0
        self._awaited = True
        self._wake.set()
        with self._changed:
            try:
                while True:
                    while wanted and wanted[0].has_arrived:
                        wanted.popleft()
                    if not wanted:
                        break
                    end = min(max(begun, self._progress) + patience_s, begun + within_s)
                    left = end - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(left if wanted[0].is_known else min(left, _LOOK_SECONDS))
            finally:
                self._awaited = False
        self._remove(self._all())
        return self.backlog()

    def close(self) -> None:
        """End the threads. What is not delivered stays in the spools."""
        self._stop = True
        self._wake.set()
        if self._thread:
            self._thread.join(_CLOSE_SECONDS)  # it may be amid a call to a store that is away

    def _all(self) -> list[Delivery]:
        with self._changed:
            return list(self._deliveries.values())

    def _remove(self, deliveries: Iterable[Delivery]) -> None:
        """Remove spools that have ended and are delivered."""
        for each in deliveries:
            with self._changed:
                if self._deliveries.get(each.trial) is each and each.remove_if_over():
                    del self._deliveries[each.trial]

    # The rest runs in the thread, and in those that help it.

    def _work(self) -> None:
        while not self._stop:
            self._spent = 0.0
            known = self._all()
            deliveries = [each for each in known if each.has_news]
            left = deliveries
            while left and not self._stop:
                some, left = left[: self._at_once], left[self._at_once :]
                self._advance([each for each in some if each.retry_at <= time.monotonic()])
            self._remove(each for each in known if each.released)
            rest = min(self._spent / _MOST_OF_THE_TIME, _LONGEST_REST_SECONDS)
            if self._awaited:
                rest = 0.0
            self._wait(max(rest, self._pause(deliveries)))

    def _pause(self, deliveries: list[Delivery]) -> float:
        """Seconds until there is something to do."""
        now = time.monotonic()
        due = [each.retry_at - now for each in deliveries if each.has_news]
        return min(self._interval, max(0.0, min(due, default=self._interval)))

    def _wait(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def _advance(self, deliveries: Sequence[Delivery]) -> None:
        """Deliver a part of each spool, side by side, or find that it is not possible now."""
        errors: list[Exception] = []
        threads = [
            # A daemon: it may be amid a call to a store that is away when the process ends.
            threading.Thread(target=self._attempt, args=(each, errors), name="courier", daemon=True)
            for each in deliveries[1:]
        ]
        for thread in threads:
            thread.start()
        for each in deliveries[:1]:
            self._attempt(each, errors)
        for thread in threads:
            thread.join()
        if not all(isinstance(error, ArtifactsAwayError) for error in errors):
            self._wait(self._delay)  # likely the same for every run
            self._delay = _doubled(self._delay)

    def _attempt(self, delivery: Delivery, errors: list[Exception]) -> None:
        """Deliver a part of one spool; what makes it impossible is put to the errors."""
        with self._changed:
            if delivery.forgotten:
                return
            self._at.append(delivery)
        try:
            self._deliver(delivery)
            failed: Exception | None = None
        except Exception as error:
            failed = error
        with self._changed:
            self._at.remove(delivery)
            self._changed.notify_all()
            if failed:
                self._take_note(failed, delivery)
                errors.append(failed)

    def _deliver(self, delivery: Delivery) -> None:
        with self._opening:
            if self._client is None:
                self._client = self._open()
        begun = time.thread_time()
        for _ in delivery.advance(self._client):
            self._dealt_with(delivery)
            if self._stop or delivery.forgotten:
                return
        with self._changed:
            self._spent += time.thread_time() - begun

    def _take_note(self, error: Exception, delivery: Delivery) -> None:
        """It was not possible: it comes later."""
        if not self._reason:
            _log.info("MLflow run %s: will try again: %s", delivery.run_id, error)
        self._reason = reason(error)
        delivery.delay = _doubled(delivery.delay)
        delivery.retry_at = time.monotonic() + delivery.delay

    def _open(self) -> Any:
        path = sqlite_file(self.uri)
        if path and not path.exists():  # MLflow would make an empty one
            raise FileNotFoundError(f"{path} is not on this machine; use an MLflow server")
        return open_client(self.uri)

    def _dealt_with(self, delivery: Delivery) -> None:
        delivery.delay = 0.0
        with self._changed:
            self._delay = _FIRST_DELAY_SECONDS
            self._reason = ""
            self._progress = time.monotonic()
            self._changed.notify_all()


@final
class _Wanted:
    """What of a spool is written by now, or by the first look that its disk allows."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery: Final = delivery
        self._end: int | None = None
        self._look()

    def _look(self) -> None:
        with contextlib.suppress(OSError):
            self._end = self.delivery.complete

    @property
    def is_known(self) -> bool:
        return self._end is not None

    @property
    def has_arrived(self) -> bool:
        if self._end is None:
            self._look()
        return self._end is not None and self.delivery.offset >= self._end


def _doubled(delay: float) -> float:
    return min(max(2 * delay, _FIRST_DELAY_SECONDS), _LONGEST_DELAY_SECONDS)
