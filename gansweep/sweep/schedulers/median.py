"""The median stopping rule (Golovin et al. 2017)."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
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
        self._columns: dict[int, _Column] = {}  # by the g_steps that were asked about

    def decide(self, key: str, g_steps: int, value: float) -> Decision:
        steps = self._steps[key]
        before = steps[-1] if steps else -1
        place = bisect_left(steps, g_steps)
        steps.insert(place, g_steps)
        self._values[key].insert(place, self._sign * value)
        for asked, column in self._columns.items():
            if before < asked <= g_steps:
                column.add(key, self._mean(key, asked))
        if g_steps < self._grace:
            return Continue()
        others = self._column(g_steps)
        count = others.count_without(key)
        if count < FEWEST:
            return Continue()
        best, median = min(self._values[key]), others.median_without(key)
        if best <= median:
            return Continue()
        best, median = self._sign * best, self._sign * median
        return Stop(f"median: {best:.4g} at best, the median of {count} is {median:.4g}")

    def _column(self, g_steps: int) -> _Column:
        """The means of all trials that are at `g_steps` or beyond; those that come there join."""
        if g_steps not in self._columns:
            column = self._columns[g_steps] = _Column()
            for key, steps in self._steps.items():
                if steps[-1] >= g_steps:
                    column.add(key, self._mean(key, g_steps))
        return self._columns[g_steps]

    def _mean(self, key: str, g_steps: int) -> float | None:
        """The running mean of a trial that is at `g_steps` or beyond, where it never changes."""
        steps = self._steps[key]
        first, last = bisect_left(steps, self._grace), bisect_right(steps, g_steps)
        values = self._values[key][first:last]
        return float(np.mean(values)) if values else None


@final
class _Column:
    """Means at one g_step, in order: a report costs no look at all of them."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}
        self._ordered: list[float] = []

    def add(self, key: str, mean: float | None) -> None:
        if mean is not None:
            self._means[key] = mean
            insort(self._ordered, mean)

    def count_without(self, key: str) -> int:
        return len(self._ordered) - (key in self._means)

    def median_without(self, key: str) -> float:
        """Of the others, of which there are some."""
        own = bisect_left(self._ordered, self._means[key]) if key in self._means else math.inf
        count = self.count_without(key)

        def other(place: int) -> float:
            return self._ordered[place if place < own else place + 1]

        return (other((count - 1) // 2) + other(count // 2)) / 2
