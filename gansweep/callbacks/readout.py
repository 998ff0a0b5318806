"""Reads a trial's curves out at intervals, and stops it where they are no longer finite."""

from __future__ import annotations

from typing import final

from gansweep.callbacks.base import TrialCallback
from gansweep.modules.alternating import AlternatingModule
from gansweep.progress import Clock, Outcome
from gansweep.tracking.base import Tracker

CLOCKS = ("time/seconds", "time/g_steps_per_s", "time/d_steps", "time/images_seen")
"""Metrics of a trial's clocks."""


@final
class Readout(TrialCallback):
    """Means of the module's meters to the tracker every `every` g_steps, with the clocks.

    Sets the outcome to "diverged", with the metric and the g_step, once a loss or a diagnostic is
    not finite.
    """

    def __init__(self, tracker: Tracker, clock: Clock, outcome: Outcome, *, every: int) -> None:
        self._tracker = tracker
        self._clock = clock
        self._outcome = outcome
        self._every = every

    def act(self, module: AlternatingModule, g_step: int) -> None:
        # An odd last reading leaves the meters as they are: a longer budget goes on with them.
        values = module.read_meters(clear=g_step % self._every == 0)
        if not values:
            return
        self._clock.tick(g_step)
        clocks = (self._clock.seconds, self._clock.rate, module.d_step, module.images_seen)
        values |= dict(zip(CLOCKS, clocks, strict=True))
        self._tracker.log_metrics(values, step=g_step)
        self._outcome.record(values, g_step=g_step)
