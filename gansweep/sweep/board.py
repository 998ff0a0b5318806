"""How a running sweep stands: what the driver knows of each trial, for the terminal to show."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import islice
from typing import final

from gansweep.sweep.plan import Entry, Plan

ENDED = ("completed", "stopped", "diverged", "failed")
"""States of trials that this command does not come back to."""

LATEST = 100
"""Trials that ended of which the board keeps the rows at hand."""


@final
@dataclass(slots=True)
class Row:
    """A trial on the board; `entry` is its plan's.

    done: the g_steps that it has taken, were all of them equally long; None: as many as the entry
    says. rate: such g_steps per second.
    """

    entry: Entry
    done: float | None = None
    rate: float = 0.0
    seen: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Such g_steps to go."""
        return self.entry.budget - (self.entry.g_steps if self.done is None else self.done)


@final
class Board:
    """All trials of the sweep, updated by the driver, read by the display's thread.

    Trials that ended are counted and put away as they are found, so that a look at the board costs
    what the others are, however long the sweep.
    """

    def __init__(
        self, plan: Plan, *, total: int, workers: int, keys: Set[str] | None = None
    ) -> None:
        """`keys`, which may grow, are the trials of the plan that count; None: all."""
        self._plan = plan
        self._keys = keys
        self._rows: dict[str, Row] = {}
        self._total = total
        self.workers = workers
        self.started = time.monotonic()
        self.message = "starting the workers"
        self.notes: list[str] = []
        self._known = 0  # entries of the plan that were looked at
        self._others: list[Entry] = []  # those that do not count, or not yet
        self._open: dict[str, Row] = {}
        self._ended: Counter[str] = Counter()
        self._ended_states: dict[str, str] = {}
        self._latest: list[Row] = []
        self._ended_rates = (0.0, 0)  # their sum, and how many are known
        self._begun: deque[str] = deque()
        self._running = 0

    @property
    def rows(self) -> list[Row]:
        """The trials planned so far, in their order."""
        self._look()
        return [
            self._row(entry)
            for entry in list(self._plan.entries.values())
            if self._keys is None or entry.key in self._keys
        ]

    @property
    def open_rows(self) -> list[Row]:
        """Those planned so far that have not ended, in their order."""
        self._look()
        return list(self._open.values())

    @property
    def latest_rows(self) -> list[Row]:
        """Those that ended, the latest first; of many, the last `LATEST`."""
        self._look()
        return sorted(self._latest, key=lambda row: -row.seen)

    @property
    def counts(self) -> Counter[str]:
        """How many trials are in each state."""
        self._look()
        return self._ended + Counter(row.entry.state for row in self._open.values())

    @property
    def total(self) -> int:
        self._look()
        return max(self._total, self._ended.total() + len(self._open))

    def began(self, key: str) -> None:
        """The trial trains, or will at once, though it may have ended before."""
        self._begun.append(key)

    def _look(self) -> None:
        """Put away what has ended, and take up what is new."""
        entries = self._plan.entries
        fresh = list(islice(entries.values(), self._known, None))
        self._known += len(fresh)
        others, self._others = self._others, []
        for entry in (*others, *fresh):
            if self._keys is None or entry.key in self._keys:
                self._open[entry.key] = self._row(entry)
            else:
                self._others.append(entry)
        while self._begun:
            key = self._begun.popleft()
            if key in self._ended_states:
                self._ended[self._ended_states.pop(key)] -= 1
                row = self._open[key] = self._row(entries[key])
                self._latest = [each for each in self._latest if each is not row]
                self._note_rate(row, -1)
        ended = [row for row in self._open.values() if row.entry.state in ENDED]
        for row in ended:
            del self._open[row.entry.key]
            self._ended[row.entry.state] += 1
            self._ended_states[row.entry.key] = row.entry.state
            self._note_rate(row, 1)
        if ended:
            self._latest = nlargest(LATEST, (*self._latest, *ended), key=lambda row: row.seen)
        self._running = sum(row.entry.state == "running" for row in self._open.values())

    def _note_rate(self, row: Row, sign: int) -> None:
        if row.rate > 0:
            total, known = self._ended_rates
            self._ended_rates = total + sign * row.rate, known + sign

    def _row(self, entry: Entry) -> Row:
        row = self._rows.get(entry.key)
        return row if row else self._rows.setdefault(entry.key, Row(entry))

    def note(self, text: str) -> None:
        """Something to be shown once."""
        if text not in self.notes:
            self.notes.append(text)

    def row_seconds_left(self, row: Row) -> float | None:
        """Time until the trial of `row` ends, in seconds; None while it is not known."""
        if row.entry.state != "running" or row.rate <= 0:
            return None
        sharing = max(1.0, self._running / max(1, self.workers))
        return row.left / row.rate * sharing

    def work_left(self, keys: Iterable[str]) -> float:
        """What the trials of `keys` have to go, a whole trial counted as 1."""
        rows = (self._row(self._plan.entries[key]) for key in keys)
        return sum(max(0.0, row.left) / row.entry.budget for row in rows)

    def progress(self, key: str, done: float, seconds: float) -> None:
        """A trial has done the work of so many equal g_steps in `seconds` of training."""
        row = self._row(self._plan.entries[key])
        if row.done is None:  # of an earlier command nobody knows how long its steps took
            row.done = done if row.entry.g_steps else 0.0
        steps, spent = done - row.done, seconds - row.entry.seconds
        if steps > 0 and spent > 0:
            rate = steps / spent
            row.rate = rate if row.rate == 0 else 0.7 * row.rate + 0.3 * rate
        row.done = done
        row.seen = time.monotonic()

    def seconds_left(self) -> float | None:
        """Time left for the whole sweep at the present speeds; None while it is not known."""
        rows = self.open_rows
        rate, known = self._ended_rates
        for row in rows:
            if row.rate > 0:
                rate, known = rate + row.rate, known + 1
        if not known:
            return None
        steps = sum(
            row.left for row in rows if row.entry.state in ("waiting", "running", "interrupted")
        )
        unknown = self.total - self._ended.total() - len(rows)
        first = next(iter(self._plan.entries.values()), None)
        steps += unknown * (first.budget if first else 0)
        return steps / (rate / known) / max(1, self.workers)
