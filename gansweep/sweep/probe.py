"""A probe: a trial is trained for some seconds, alone and unrecorded, to see how long it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import final

import torch

from gansweep.config import TrialConfig
from gansweep.progress import Continue, Progress, Stop, Verdict
from gansweep.sweep.pace import Pace
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial

PROBE_SECONDS = 5.0
"""Of training after the first report, with which what is compiled is compiled."""

MOST_SECONDS = 20.0
"""The same, while two scores are waited for: what comes between them recurs."""


class ProbeError(Exception):
    """The trial failed."""


def probe(config: TrialConfig, *, cores: float, on_gpu: bool) -> Pace:
    """What its whole budget will take; ProbeError where the trial fails.

    Alone it may be slower than in a pack, and faster than beside other workers.
    """
    if not on_gpu:
        config = replace(config, run=replace(config.run, device="cpu"))
    watch = _Watch()
    with _threads(max(1, math.floor(cores))):
        result = run_trial(config, MemoryTracker(), watch)
    if result.state == "failed":
        raise ProbeError(result.reason)
    budget = config.budget.g_steps
    if result.g_steps >= budget or not watch.seen:
        return Pace(0, max(1, result.g_steps), result.seconds)
    return Pace(0, budget, watch.extrapolated(budget))


@final
class _Watch:
    """Listens to a trial, and stops it once enough is known."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []
        self._scored: list[tuple[float, float]] = []

    def __call__(self, progress: Progress) -> Verdict:
        point = (progress.done, progress.seconds)
        self.seen.append(point)
        if progress.scored:
            self._scored.append(point)
        gone = progress.seconds - self.seen[0][1]
        if gone >= MOST_SECONDS or (gone >= PROBE_SECONDS and len(self._scored) > 1):
            return Stop("the probe is over")
        return Continue()

    def extrapolated(self, g_steps: int) -> float:
        """Seconds for so many, at the speed between two scores, or else between two reports."""
        points = self._scored if len(self._scored) > 1 else self.seen
        (g_first, first), (g_last, last) = points[0], points[-1]
        if g_last == g_first:
            return last * g_steps / g_last
        return first + (g_steps - g_first) * (last - first) / (g_last - g_first)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """As many as a worker has."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
