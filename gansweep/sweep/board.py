"""How a running sweep stands: what the driver knows of each trial, for the terminal to show."""

from __future__ import annotations

import time
from collections.abc import Set
from dataclasses import dataclass, field
from typing import final

from gansweep.sweep.plan import Entry, Plan


@final
@dataclass
class Row:
    """A trial on the board; `entry` is its plan's, `rate` its speed in g_steps per second."""

    entry: Entry
    rate: float = 0.0
    seen: float = field(default_factory=time.monotonic)


@final
class Board:
    """All trials of the sweep, updated by the driver, read by the display's thread."""

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

    @property
    def rows(self) -> list[Row]:
        """The trials planned so far, in their order."""
        return [
            self._rows.setdefault(entry.key, Row(entry))
            for entry in list(self._plan.entries.values())
            if self._keys is None or entry.key in self._keys
        ]

    @property
    def total(self) -> int:
        return max(self._total, len(self.rows))

    def note(self, text: str) -> None:
        """Something to be shown once."""
        if text not in self.notes:
            self.notes.append(text)

    def row_seconds_left(self, row: Row) -> float | None:
        """Time until the trial of `row` ends, in seconds; None while it is not known."""
        if row.entry.state != "running" or row.rate <= 0:
            return None
        running = sum(other.entry.state == "running" for other in list(self._rows.values()))
        sharing = max(1.0, running / max(1, self.workers))
        return (row.entry.budget - row.entry.g_steps) / row.rate * sharing

    def progress(self, key: str, g_steps: int, seconds: float) -> None:
        """A trial has reached `g_steps` after `seconds` of training."""
        row = self._rows.setdefault(key, Row(self._plan.entries[key]))
        done, spent = g_steps - row.entry.g_steps, seconds - row.entry.seconds
        if done > 0 and spent > 0:
            rate = done / spent
            row.rate = rate if row.rate == 0 else 0.7 * row.rate + 0.3 * rate
        row.seen = time.monotonic()

    def seconds_left(self) -> float | None:
        """Time left for the whole sweep at the present speeds; None while it is not known."""
        rows = self.rows
        rates = [row.rate for row in rows if row.rate > 0]
        if not rates:
            return None
        rate = sum(rates) / len(rates)
        steps = sum(
            row.entry.budget - row.entry.g_steps
            for row in rows
            if row.entry.state in ("waiting", "running", "interrupted")
        )
        unknown = self.total - len(rows)
        steps += unknown * (rows[0].entry.budget if rows else 0)
        return steps / rate / max(1, self.workers)
