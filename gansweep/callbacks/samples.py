"""Sample grids through training, from latents that are the same in every trial of a sweep."""

from __future__ import annotations

from typing import final

from gansweep.callbacks.base import TrialCallback
from gansweep.modules.alternating import AlternatingModule
from gansweep.sampling import Sampler
from gansweep.tracking.base import Tracker


@final
class SampleGrid(TrialCallback):
    """A grid to the tracker's series `samples` every `every` g_steps and at the end."""

    def __init__(self, tracker: Tracker, sampler: Sampler, *, every: int) -> None:
        self._tracker = tracker
        self._sampler = sampler
        self._every = every

    def act(self, module: AlternatingModule, g_step: int) -> None:
        self._tracker.log_image("samples", self._sampler.grid(module.sampled), step=g_step)
