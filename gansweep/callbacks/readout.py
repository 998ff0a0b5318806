"""Reads a trial's curves out at intervals, and stops it where they are no longer finite."""

from __future__ import annotations

from typing import final

from gansweep.callbacks.base import TrialCallback
from gansweep.modules.alternating import AlternatingModule
from gansweep.progress import Clock, Outcome
from gansweep.tracking.base import Tracker


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

    def due(self, g_step: int, *, last: bool) -> bool:
        return last or g_step % self._every == 0

    def act(self, module: AlternatingModule, g_step: int) -> None:
        # An odd last reading leaves the meters as they are: a longer budget goes on with them.
        values = module.read_meters(clear=g_step % self._every == 0)
        if not values:
            return
        self._clock.tick(g_step)
        values["time/seconds"] = self._clock.seconds
        values["time/g_steps_per_s"] = self._clock.rate
        values["time/d_steps"] = module.d_step
        values["time/images_seen"] = module.images_seen
        self._tracker.log_metrics(values, step=g_step)
        self._outcome.record(values, g_step=g_step)
