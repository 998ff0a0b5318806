"""How far a trial is: its clock, what it reports, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

State = Literal["completed", "diverged", "stopped", "interrupted", "failed"]
"""completed: the whole budget; diverged: a value was not finite; stopped: by a scheduler or by a
rule of its diagnosis; interrupted: by a person or a batch system, to go on later; failed: it
raised."""

NON_FINITE = "non_finite"
"""The diagnosis of a trial that diverged: no rule of the catalogue, since nothing can follow."""

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
    diagnosis: what is wrong with it as it seems, "" where nothing does. share: of all its
    discriminator and generator steps those that are taken, 0 to 1; None: as of its g_steps.
    """

    g_steps: int
    budget: int
    seconds: float
    metrics: dict[str, float]
    scored: bool
    fingerprints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of the scores among `metrics`."""
    diagnosis: str = ""
    share: float | None = None

    @property
    def done(self) -> float:
        """The g_steps that would have taken as long if all of the trial's took equally long."""
        return self.g_steps if self.share is None else self.share * self.budget


@final
@dataclass(frozen=True)
class Stop:
    """A scheduler, or a rule of its diagnosis, ends the trial."""

    reason: str = "stopped by the scheduler"


@final
@dataclass(frozen=True)
class Interrupt:
    """The trial is put aside, to go on later.

    for_others: until others, which the same command trains meanwhile, have come as far.
    """

    for_others: bool = False


@final
@dataclass(frozen=True)
class Exploit:
    """The trial goes on from another one's state, under new settings (Jaderberg et al. 2017).

    donor: the other's trial key; folder: where its checkpoints lie; tree: the trial's new settings.
    """

    donor: str
    folder: str
    tree: Mapping[str, Any]


@final
@dataclass(frozen=True)
class Continue:
    """The trial goes on."""


Verdict = Continue | Stop | Interrupt | Exploit
Report = Callable[[Progress], Verdict]
"""Called between generator steps."""


@final
class Clock:
    """Training time charged to a trial, counted on through interruptions, and its speed.

    Trials that train together are each charged their share of the time, so that the seconds of all
    trials of a sweep add up to those of its workers.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.rate = 0.0
        self._tick = (0.0, 0)

    def start(self, g_step: int, seconds: float) -> None:
        """Go on after `seconds` of earlier training that reached `g_step`."""
        self.seconds = seconds
        self._tick = (seconds, g_step)

    def charge(self, seconds: float) -> None:
        """Add `seconds` of training."""
        self.seconds += seconds

    def tick(self, g_step: int) -> None:
        """Set `rate`, in g_steps per charged second, from the steps since the last tick."""
        then, g_then = self._tick
        if g_step > g_then and self.seconds > then:
            self.rate = (g_step - g_then) / (self.seconds - then)
        self._tick = (self.seconds, g_step)


@final
@dataclass(frozen=True)
class TrialResult:
    """How a trial ended. `metrics` are the last value of each metric.

    diagnosis: the rules whose verdict stood at the end, joined by commas, or `NON_FINITE`.
    """

    state: State
    reason: str
    g_steps: int
    seconds: float
    metrics: dict[str, float]
    fingerprints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    diagnosis: str = ""


@final
@dataclass
class Outcome:
    """How a trial stands and, at its end, ended; `diagnosis` as in its result."""

    state: State = "completed"
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    fingerprints: dict[str, Mapping[str, str]] = field(default_factory=dict)
    diagnosis: str = ""
    waits: bool = False
    """Whether an interrupted one goes on by itself, once others have come as far."""

    @property
    def over(self) -> bool:
        """Whether the trial ended before its budget did."""
        return self.state != "completed"

    def end(self, state: State, reason: str) -> None:
        """The trial ends as `state`, because of `reason`."""
        self.state, self.reason = state, reason

    def record(self, values: dict[str, float], *, g_step: int) -> bool:
        """Keep the last values; False, and the state "diverged", where one is not finite."""
        self.metrics.update(values)
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad and self.state != "diverged":  # the first cause is the reason
            self.state = "diverged"
            self.diagnosis = NON_FINITE
            self.reason = f"{bad[0]} was {values[bad[0]]} at g_step {g_step}"
        return not bad
