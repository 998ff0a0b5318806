"""The median stopping rule (Golovin et al. 2017)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from typing import Literal, final

import numpy as np

from gansweep.sweep.schedulers.base import SIGN, AtOnce, Continue, Decision, Stop

FEWEST = 2
"""Other trials without which there is no median."""


@final
class MedianRule(AtOnce):
    """Stops a trial whose best value is worse than the median of the others' running means.

    Golovin et al. 2017, section 3.2.2. A report after t >= `grace` g_steps is compared with every
    other trial that has reported at t or later, by the mean of its values from `grace` to t; with
    fewer than two such trials it goes on.

    The decisions are those of Ray's MedianStoppingRule. As there, and unlike the paper, running
    trials count and not completed ones alone; those stopped before t do not, so that the bar
    rises with the survivors; and a trial's own best may be older than `grace`. Unlike Ray's, the
    last value of a completed trial counts once (Ray's controller hands it in again), and no trial
    is paused to let others catch up, since a worker cannot be.
    """

    def __init__(self, *, mode: Literal["min", "max"], grace: int) -> None:
        """Grace in g_steps."""
        super().__init__()
        self._sign = SIGN[mode]
        self._grace = grace
        self._steps: dict[str, list[int]] = defaultdict(list)
        self._values: dict[str, list[float]] = defaultdict(list)
        self._means: dict[tuple[str, int], float | None] = {}

    def decide(self, key: str, g_steps: int, value: float) -> Decision:
        place = bisect_left(self._steps[key], g_steps)
        self._steps[key].insert(place, g_steps)
        self._values[key].insert(place, self._sign * value)
        if g_steps < self._grace:
            return Continue()
        means = [
            self._mean(other, g_steps)
            for other, steps in self._steps.items()
            if other != key and steps[-1] >= g_steps
        ]
        known = [mean for mean in means if mean is not None]
        if len(known) < FEWEST:
            return Continue()
        best, median = min(self._values[key]), float(np.median(known))
        if best <= median:
            return Continue()
        best, median = self._sign * best, self._sign * median
        return Stop(f"median: {best:.4g} at best, the median of {len(known)} is {median:.4g}")

    def _mean(self, key: str, g_steps: int) -> float | None:
        """The running mean of a trial that is at `g_steps` or beyond, where it never changes."""
        if (key, g_steps) not in self._means:
            steps = self._steps[key]
            first, last = bisect_left(steps, self._grace), bisect_right(steps, g_steps)
            values = self._values[key][first:last]
            self._means[key, g_steps] = float(np.mean(values)) if values else None
        return self._means[key, g_steps]
