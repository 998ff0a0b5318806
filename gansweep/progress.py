"""How far a trial is: its clock, what it reports, and how it ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, final

State = Literal["completed", "diverged", "stopped", "interrupted", "failed"]
"""completed: the whole budget; diverged: a loss was not finite; stopped: by a scheduler;
interrupted: by a person or a batch system, to go on later; failed: it raised."""

RUN_STATUS: dict[State, Literal["FINISHED", "FAILED", "KILLED"]] = {
    "completed": "FINISHED",
    "diverged": "FINISHED",
    "stopped": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
"""The status of the trial's run in its tracker."""


@final
@dataclass(frozen=True)
class Progress:
    """One report of a running trial.

    scored: whether `metrics` hold fresh scores; schedulers decide on these reports alone.
    """

    g_steps: int
    budget: int
    seconds: float
    metrics: dict[str, float]
    scored: bool


Verdict = Literal["continue", "stop", "interrupt"]
Report = Callable[[Progress], Verdict]
"""Called between generator steps. "stop": a scheduler ends the trial; "interrupt": put it aside."""


@final
class Clock:
    """Training time in seconds, counted on through interruptions, and the speed since a tick."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = seconds
        self._start = time.perf_counter()
        self._tick = (self._start, 0)
        self.rate = 0.0

    def start(self, g_step: int, seconds: float) -> None:
        """Count from now, after `seconds` of earlier training that reached `g_step`."""
        self._before = seconds
        self._start = time.perf_counter()
        self._tick = (self._start, g_step)

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def tick(self, g_step: int) -> None:
        """Set `rate`, in g_steps per second, from the steps since the last tick."""
        now = time.perf_counter()
        then, g_then = self._tick
        if g_step > g_then and now > then:
            self.rate = (g_step - g_then) / (now - then)
        self._tick = (now, g_step)


@final
@dataclass
class Outcome:
    """How a trial stands and, at its end, ended."""

    state: State = "completed"
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)

    def end(self, state: State, reason: str) -> None:
        """The trial ends as `state`, because of `reason`."""
        self.state, self.reason = state, reason

    def record(self, values: dict[str, float], *, g_step: int) -> bool:
        """Keep the last values; False, and the state "diverged", where one is not finite."""
        self.metrics.update(values)
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad and self.state != "diverged":  # the first cause is the reason
            self.state = "diverged"
            self.reason = f"{bad[0]} was {values[bad[0]]} at g_step {g_step}"
        return not bad
