"""What a sweep has spent of its budget, in all of its commands: time by the clock, GPU hours."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import Any, final

from gansweep.drafts import replacing
from gansweep.errors import ConfigError
from gansweep.sweep.limits import Limits

log = logging.getLogger("gansweep")

SPENT_FORMAT = 1

SAVE_SECONDS = 10.0
"""So much may a command that is killed have spent without a record of it."""


@final
class Spending:
    """A sweep's account: what earlier commands spent, and what this one does from `begin` on.

    Time counts while trials can train, from the cluster's being up until they have been put aside:
    neither the pauses between commands nor the wait in a queue. A worker spends its share of a GPU
    from its first word on, until it is gone. The clock is monotonic; one thread calls all of it.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        """Raises ConfigError where the file at `path` is damaged."""
        self._path = path
        self.limits = limits
        self._shares: dict[str, float] = {}
        self._last: float | None = None  # None: nobody trains
        self._saved = 0.0
        self.seconds = 0.0
        self.gpu_hours = 0.0
        if path.exists():
            try:
                tree = json.loads(path.read_text(encoding="utf-8"))
                if tree["format"] != SPENT_FORMAT:
                    raise ValueError(f"format {tree['format']}, this version reads {SPENT_FORMAT}")
                self.seconds = _amount(tree["seconds"])
                self.gpu_hours = _amount(tree["gpu_hours"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ConfigError.single(
                    str(path), f"does not tell what the sweep spent: {error}",
                    "move it away to count from 0",
                ) from error  # fmt: skip

    def begin(self) -> None:
        """Trials can train from now on."""
        self._last = self._saved = time.monotonic()

    def occupy(self, worker: str, gpus: float) -> None:
        """A worker takes `gpus` of one from now on, if it did not already."""
        if worker not in self._shares:
            self._tick()
            self._shares[worker] = gpus

    def release(self, worker: str) -> None:
        """That worker is gone."""
        self._tick()
        self._shares.pop(worker, None)

    def end(self) -> None:
        """Nobody trains any more; all is on the disk."""
        self._tick()
        self._last = None
        self._shares.clear()
        self._save()

    @property
    def spent(self) -> str:
        """The key of the limit that is reached, or ""."""
        self._tick()
        if self._last is not None and self._last - self._saved >= SAVE_SECONDS:
            self._save()
        limit = self.limits.seconds
        if limit is not None and self.seconds >= limit:
            return "time_budget"
        if self.limits.gpu_hours is not None and self.gpu_hours >= self.limits.gpu_hours:
            return "gpu_hours"
        return ""

    def _tick(self) -> None:
        if self._last is None:
            return
        now = time.monotonic()
        self.seconds += now - self._last
        self.gpu_hours += (now - self._last) * sum(self._shares.values()) / 3600
        self._last = now

    def _save(self) -> None:
        """In one step; where the disk is full, the next time says all of it."""
        tree = {"format": SPENT_FORMAT, "seconds": self.seconds, "gpu_hours": self.gpu_hours}
        self._saved = self._last if self._last is not None else time.monotonic()
        try:
            with replacing(self._path) as draft:
                draft.write_text(json.dumps(tree), encoding="utf-8")
        except OSError as error:
            log.warning("what the sweep spent is not on the disk: %s", error)


def _amount(value: Any) -> float:
    amount = float(value)
    if not (math.isfinite(amount) and amount >= 0):
        raise ValueError(f"{value!r} is no amount")
    return amount
